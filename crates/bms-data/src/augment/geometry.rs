//! Where pixels go: exact flips, and one bilinear resampling for rotation, shift and zoom.

use crate::Image;

/// A rotation about the centre, then a zoom about the centre, then a shift.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Warp {
    /// Counter-clockwise, in degrees.
    pub(crate) degrees: f32,
    /// Magnification, above 0.
    pub(crate) zoom: f32,
    /// To the right, in pixels.
    pub(crate) shift_x: f32,
    /// Down, in pixels.
    pub(crate) shift_y: f32,
}

impl Warp {
    /// Changes nothing.
    pub(crate) fn identity() -> Warp {
        Warp { degrees: 0.0, zoom: 1.0, shift_x: 0.0, shift_y: 0.0 }
    }
}

/// Left becomes right.
pub(crate) fn flip_horizontal(image: &Image) -> Image {
    let channels = usize::from(image.channels);
    let mut pixels = Vec::with_capacity(image.pixels.len());
    for row in image.pixels.chunks_exact(image.width as usize * channels) {
        row.chunks_exact(channels).rev().for_each(|pixel| pixels.extend_from_slice(pixel));
    }
    Image { pixels, ..*image }
}

/// Top becomes bottom.
pub(crate) fn flip_vertical(image: &Image) -> Image {
    let rows = image.pixels.chunks_exact(image.width as usize * usize::from(image.channels));
    Image { pixels: rows.rev().flatten().copied().collect(), ..*image }
}

/// Resamples with `fill` outside the picture: each pixel of the result is looked up, by the inverse of
/// `warp`, between four pixels of the source.
pub(crate) fn warp(image: &Image, warp: &Warp, fill: u8) -> Image {
    let (width, height, channels) =
        (image.width as usize, image.height as usize, usize::from(image.channels));
    let (centre_x, centre_y) = ((width as f32 - 1.0) / 2.0, (height as f32 - 1.0) / 2.0);
    // In rows that count downwards a counter-clockwise turn has this sign.
    let (sin, cos) = warp.degrees.to_radians().sin_cos();
    let (sin, cos) = (sin / warp.zoom, cos / warp.zoom);
    let mut pixels = Vec::with_capacity(image.pixels.len());
    for y in 0..height {
        for x in 0..width {
            let (dx, dy) = (x as f32 - centre_x - warp.shift_x, y as f32 - centre_y - warp.shift_y);
            let (from_x, from_y) = (cos * dx - sin * dy + centre_x, sin * dx + cos * dy + centre_y);
            for channel in 0..channels {
                pixels.push(sample(image, from_x, from_y, channel, fill));
            }
        }
    }
    Image { pixels, ..*image }
}

/// The value between pixels, rounded to nearest.
fn sample(image: &Image, x: f32, y: f32, channel: usize, fill: u8) -> u8 {
    let (left, top) = (x.floor(), y.floor());
    let (along, down) = (x - left, y - top);
    let at = |x: f32, y: f32| {
        let inside = 0.0 <= x && 0.0 <= y && x < image.width as f32 && y < image.height as f32;
        let value = match inside {
            true => {
                image.pixels
                    [(y as usize * image.width as usize + x as usize) * usize::from(image.channels) + channel]
            }
            false => fill,
        };
        f32::from(value)
    };
    let above = at(left, top) * (1.0 - along) + at(left + 1.0, top) * along;
    let below = at(left, top + 1.0) * (1.0 - along) + at(left + 1.0, top + 1.0) * along;
    (above * (1.0 - down) + below * down).round() as u8
}
