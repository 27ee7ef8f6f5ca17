//! An outcome as a picture: what was found, drawn into what was sent.

use bms_data::Image;
use bms_data::draw::{Canvas, INKS};
use bms_wire::{Code, Error, FoundLine, Outcome, Result, limits};

/// Labels drawn into a picture that was classified.
const LABELS_SHOWN: usize = 5;

/// How many times the picture's area all texts together may cover: regions that lie in each other are drawn once too often otherwise.
const COVERED_MAX: f32 = 4.0;

/// The picture with the outcome drawn into it, as PNG; lines of text stand beside it, each as high as where it was read.
///
/// # Errors
/// [`Code::NotSupported`] for an outcome that is not of a picture, [`Code::TooLarge`] over [`limits::DRAWN_PIXELS_MAX`],
/// [`Code::InvalidInput`] when the picture cannot be read.
pub fn drawn(picture: &[u8], outcome: &Outcome) -> Result<Vec<u8>> {
    let image = Image::decode(picture)?;
    let pixels = u64::from(image.width) * u64::from(image.height);
    if limits::DRAWN_PIXELS_MAX < pixels {
        let what = format!("a picture of {pixels} pixels is too large to be drawn into");
        return Err(Error::new(Code::TooLarge, what).hint("Scale it down, or ask for JSON."));
    }
    if let Outcome::Lines { lines, .. } = outcome {
        return read(&image, lines).encode_png();
    }
    let mut canvas = Canvas::new(&image);
    let height = canvas.text_height();
    let percent = |part: f32| format!("{:.0}%", 100.0 * part);
    match outcome {
        Outcome::Labels { labels } => {
            for (index, scored) in labels.iter().take(LABELS_SHOWN).enumerate() {
                let text = format!("{} {}", scored.label, percent(scored.probability));
                canvas.text(0.0, index as f32 * height, &text, INKS[1]);
            }
        }
        Outcome::Boxes { boxes, .. } => {
            // The best last, so that it lies on top.
            for found in boxes.iter().rev() {
                let ink = INKS[found.label.bytes().map(usize::from).sum::<usize>() % INKS.len()];
                let (left, top, right, bottom) = (found.left, found.top, found.right, found.bottom);
                canvas.outline(&[[left, top], [right, top], [right, bottom], [left, bottom]], ink);
                let text = format!("{} {}", found.label, percent(found.score));
                canvas.text(left, top - height, &text, ink);
            }
        }
        Outcome::Line { text, score } => {
            canvas.text(0.0, 0.0, &format!("{text} {}", percent(*score)), INKS[1])
        }
        Outcome::Lines { .. } | Outcome::Vector { .. } | Outcome::Speech { .. } => {
            return Err(Error::new(Code::NotSupported, "this model's answer cannot be drawn")
                .hint("Ask for JSON: `Accept: application/json`."));
        }
    }
    canvas.into_image().encode_png()
}

/// Where text was read, and beside it what it says, at the same places.
fn read(image: &Image, lines: &[FoundLine]) -> Image {
    let mut canvas = Canvas::beside(image);
    let mut room = COVERED_MAX * image.width as f32 * image.height as f32;
    for line in lines {
        canvas.outline(&line.corners, INKS[0]);
        let [from, across, _, down] = line.corners;
        let length = |to: [f32; 2]| (to[0] - from[0]).hypot(to[1] - from[1]);
        let (width, height) = (length(across), length(down));
        room -= width * height;
        if 0.0 <= room {
            canvas.text_in([image.width as f32 + from[0], from[1]], [width, height], &line.text);
        }
    }
    canvas.into_image()
}
