//! Drawing on a picture: lines, and text in an 8×8 bitmap font.

use font8x8::UnicodeFonts;

use crate::Image;

/// A colour: red, green, blue.
pub type Ink = [u8; 3];

/// Pixels of a letter at scale 1.
const LETTER: i64 = 8;

/// Points of a pixel, along a side, at which a smoothed letter is looked at.
const SAMPLES: u32 = 4;
/// How much wider than high a letter may be.
const WIDER: f32 = 0.8;

/// Inks that are easy to tell apart, on light and dark pictures (Okabe and Ito, without black).
pub const INKS: [Ink; 7] = [
    [213, 94, 0],
    [0, 114, 178],
    [0, 158, 115],
    [204, 121, 167],
    [230, 159, 0],
    [86, 180, 233],
    [240, 228, 66],
];

/// A picture that is drawn on. What lies outside is not drawn.
#[derive(Clone, Debug)]
pub struct Canvas {
    image: Image,
    scale: i64,
}

impl Canvas {
    /// A picture in colour. Letters and lines are as large as fits it.
    pub fn new(image: &Image) -> Canvas {
        let scale = i64::from(image.width.min(image.height) / 320 + 1);
        Canvas { image: image.to_rgb(), scale }
    }

    /// The picture, and to its right as much white to write on.
    pub fn beside(image: &Image) -> Canvas {
        let mut canvas = Canvas::new(image);
        let row = canvas.image.width as usize * 3;
        let rows = canvas.image.pixels.chunks_exact(row.max(1));
        canvas.image.pixels = rows.flat_map(|pixels| [pixels, &vec![255; row]].concat()).collect();
        canvas.image.width *= 2;
        canvas
    }

    /// The picture.
    pub fn into_image(self) -> Image {
        self.image
    }

    /// Rows of one line of text, its margins included.
    pub fn text_height(&self) -> f32 {
        ((LETTER + 2) * self.scale) as f32
    }

    fn dot(&mut self, x: i64, y: i64, ink: Ink) {
        let (width, height) = (i64::from(self.image.width), i64::from(self.image.height));
        if (0..width).contains(&x) && (0..height).contains(&y) {
            let at = (y * width + x) as usize * 3;
            self.image.pixels[at..at + 3].copy_from_slice(&ink);
        }
    }

    fn block(&mut self, left: i64, top: i64, width: i64, height: i64, ink: Ink) {
        let (right, bottom) = (i64::from(self.image.width), i64::from(self.image.height));
        for y in top.max(0)..top.saturating_add(height).min(bottom) {
            for x in left.max(0)..left.saturating_add(width).min(right) {
                self.dot(x, y, ink);
            }
        }
    }

    /// A straight line, from and to x and y.
    pub fn line(&mut self, from: [f32; 2], to: [f32; 2], ink: Ink) {
        // Beyond the picture nothing shows; without a bound a line could be endless.
        let most = f32::from(i16::MAX);
        let [from, to] =
            [from, to].map(|place| place.map(|at| if at.is_finite() { at.clamp(-most, most) } else { 0.0 }));
        let steps = (to[0] - from[0]).abs().max((to[1] - from[1]).abs()).ceil().max(1.0);
        for step in 0..=steps as usize {
            let part = step as f32 / steps;
            let at = |axis: usize| (from[axis] + (to[axis] - from[axis]) * part).round() as i64;
            let half = self.scale / 2;
            self.block(at(0) - half, at(1) - half, self.scale, self.scale, ink);
        }
    }

    /// A closed outline.
    pub fn outline(&mut self, corners: &[[f32; 2]], ink: Ink) {
        for (index, &corner) in corners.iter().enumerate() {
            self.line(corner, corners[(index + 1) % corners.len()], ink);
        }
    }

    /// One line of text on a ground of this ink, its upper left corner here, moved so far that it lies within the
    /// picture if it can. A letter the font does not have is an empty box.
    pub fn text(&mut self, left: f32, top: f32, text: &str, ground: Ink) {
        let room = i64::from(self.image.width) / (LETTER * self.scale);
        let letters: Vec<char> = text.chars().take(room.max(1) as usize).collect();
        let (width, height) =
            (letters.len() as i64 * LETTER * self.scale + 2 * self.scale, (LETTER + 2) * self.scale);
        let within =
            |at: f32, length: i64, most: u32| (at.round() as i64).min(i64::from(most) - length).max(0);
        let (left, top) = (within(left, width, self.image.width), within(top, height, self.image.height));
        self.block(left, top, width, height, ground);
        let luma = 299 * u32::from(ground[0]) + 587 * u32::from(ground[1]) + 114 * u32::from(ground[2]);
        let ink = if luma < 128_000 { [255; 3] } else { [0; 3] };
        for (index, letter) in letters.into_iter().enumerate() {
            let (x, y) = (left + self.scale + index as i64 * LETTER * self.scale, top + self.scale);
            self.letter(x, y, letter, ink);
        }
    }

    /// One line of text as high as this space, and as wide or narrower. Letters are smoothed.
    pub fn text_in(&mut self, [left, top]: [f32; 2], [width, height]: [f32; 2], text: &str) {
        let (columns, rows) = (LETTER as f32 * text.chars().count().max(1) as f32, LETTER as f32);
        let (across, down) = ((columns / width).max(rows / height / WIDER), rows / height);
        if ![left, top, across, down].iter().all(|number| number.is_finite()) || across <= 0.0 || down <= 0.0
        {
            return;
        }
        let glyphs: Vec<[u8; 8]> = text.chars().map(glyph).collect();
        let is_set = |x: f32, y: f32| {
            let (column, row) = (x as usize, y as usize);
            let bits = glyphs.get(column / LETTER as usize).and_then(|rows| rows.get(row));
            bits.is_some_and(|bits| bits >> (column % LETTER as usize) & 1 == 1)
        };
        let (image_width, image_height) = (self.image.width as f32, self.image.height as f32);
        let (right, bottom) = ((left + columns / across).min(image_width), (top + height).min(image_height));
        for y in top.max(0.0) as u32..bottom.max(0.0) as u32 {
            for x in left.max(0.0) as u32..right.max(0.0) as u32 {
                let mut hits = 0;
                for part in 0..SAMPLES * SAMPLES {
                    let inside = |n: u32| (n as f32 + 0.5) / SAMPLES as f32;
                    let (dx, dy) = (inside(part % SAMPLES), inside(part / SAMPLES));
                    hits += u32::from(is_set((x as f32 + dx - left) * across, (y as f32 + dy - top) * down));
                }
                let grey = 255 - (255 * hits / (SAMPLES * SAMPLES)) as u8;
                if grey < 255 {
                    self.dot(i64::from(x), i64::from(y), [grey; 3]);
                }
            }
        }
    }

    fn letter(&mut self, left: i64, top: i64, letter: char, ink: Ink) {
        for (row, bits) in (0..).zip(glyph(letter)) {
            for column in (0..LETTER).filter(|column| bits >> column & 1 == 1) {
                let (x, y) = (left + column * self.scale, top + row * self.scale);
                self.block(x, y, self.scale, self.scale, ink);
            }
        }
    }
}

/// Eight rows of eight dots, the lowest bit on the left.
fn glyph(letter: char) -> [u8; 8] {
    let sets = [
        font8x8::BASIC_FONTS.get(letter),
        font8x8::LATIN_FONTS.get(letter),
        font8x8::GREEK_FONTS.get(letter),
        font8x8::HIRAGANA_FONTS.get(letter),
        font8x8::MISC_FONTS.get(letter),
    ];
    sets.into_iter().flatten().next().unwrap_or([0x7e, 0x42, 0x42, 0x42, 0x42, 0x42, 0x7e, 0])
}
