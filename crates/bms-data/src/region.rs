//! A four-cornered part of a picture, turned upright.

use bms_wire::{Code, Error, Result, limits};

use crate::Image;

/// What the quadrilateral shows, as a rectangle as wide and high as its longer opposite sides; turned by a quarter to the
/// left when it is 1.5 times as high as wide. Corners are x and y in pixels, from the upper left one clockwise.
///
/// The perspective transform and its bicubic sampling (a = −0.75, places in 1/32 of a pixel, edges repeated) are those of
/// OpenCV's `warpPerspective`, in floats rather than fixed point: values may differ by 1 of 255.
///
/// # Errors
/// [`Code::InvalidInput`] for corners that span nothing; [`Code::TooLarge`] over the limits of a picture.
pub fn cut_out(image: &Image, corners: &[[f32; 2]; 4]) -> Result<Image> {
    let far = |a: usize, b: usize| f32::hypot(corners[a][0] - corners[b][0], corners[a][1] - corners[b][1]);
    let (width, height) = (far(0, 1).max(far(2, 3)) as u32, far(0, 3).max(far(1, 2)) as u32);
    let pixels = u64::from(width) * u64::from(height);
    if limits::IMAGE_SIDE_MAX < width.max(height) || limits::IMAGE_PIXELS_MAX < pixels {
        return Err(Error::new(Code::TooLarge, format!("a region of {width}x{height} pixels")));
    }
    let (w, h) = (f64::from(width), f64::from(height));
    let upright = [[0.0, 0.0], [w, 0.0], [w, h], [0.0, h]];
    let original = corners.map(|[x, y]| [f64::from(x), f64::from(y)]);
    let transform = (pixels != 0).then(|| perspective(&upright, &original)).flatten();
    let Some(m) = transform else {
        return Err(Error::new(Code::InvalidInput, format!("the corners {corners:?} span nothing")));
    };
    let channels = usize::from(image.channels);
    let mut out = Vec::with_capacity(pixels as usize * channels);
    for y in 0..height {
        for x in 0..width {
            let (x, y) = (f64::from(x), f64::from(y));
            let depth = m[6] * x + m[7] * y + 1.0;
            let place =
                |a: f64, b: f64, c: f64| ((a * x + b * y + c) / depth * 32.0).round_ties_even() / 32.0;
            sample(image, place(m[0], m[1], m[2]), place(m[3], m[4], m[5]), &mut out);
        }
    }
    let cut = Image { width, height, channels: image.channels, pixels: out };
    Ok(if 3 * width <= 2 * height { turned(&cut) } else { cut })
}

/// The eight numbers of the perspective transform from four places to four others; none when three lie on a line.
fn perspective(from: &[[f64; 2]; 4], to: &[[f64; 2]; 4]) -> Option<[f64; 8]> {
    let mut rows = [[0.0; 9]; 8];
    for (i, ([x, y], [u, v])) in from.iter().zip(to).enumerate() {
        rows[2 * i] = [*x, *y, 1.0, 0.0, 0.0, 0.0, -x * u, -y * u, *u];
        rows[2 * i + 1] = [0.0, 0.0, 0.0, *x, *y, 1.0, -x * v, -y * v, *v];
    }
    // Gauss, with the largest number of a column on the diagonal.
    for column in 0..8 {
        let best = (column..8).max_by(|&a, &b| rows[a][column].abs().total_cmp(&rows[b][column].abs()))?;
        if rows[best][column].abs() < 1e-10 {
            return None;
        }
        rows.swap(column, best);
        let pivot = rows[column];
        for (index, row) in rows.iter_mut().enumerate() {
            let factor = row[column] / pivot[column];
            if index != column {
                row.iter_mut().zip(&pivot).for_each(|(value, above)| *value -= factor * above);
            }
        }
    }
    Some(std::array::from_fn(|i| rows[i][8] / rows[i][i]))
}

/// The weights of four neighbours, the second of which lies `part` before the place.
fn cubic(part: f64) -> [f64; 4] {
    const A: f64 = -0.75;
    let outer = |x: f64| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    let inner = |x: f64| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let first = [outer(part + 1.0), inner(part), inner(1.0 - part)];
    [first[0], first[1], first[2], 1.0 - first.iter().sum::<f64>()]
}

fn sample(image: &Image, x: f64, y: f64, out: &mut Vec<u8>) {
    let channels = usize::from(image.channels);
    let (left, top) = (x.floor(), y.floor());
    let (across, down) = (cubic(x - left), cubic(y - top));
    let at = |start: f64, i: usize, length: u32| {
        (start + i as f64 - 1.0).clamp(0.0, f64::from(length - 1)) as usize
    };
    for channel in 0..channels {
        let mut sum = 0.0;
        for (i, weight) in down.iter().enumerate() {
            let row = at(top, i, image.height) * image.width as usize;
            let along =
                |j: usize| f64::from(image.pixels[(row + at(left, j, image.width)) * channels + channel]);
            sum += weight * across.iter().enumerate().map(|(j, w)| w * along(j)).sum::<f64>();
        }
        out.push(sum.round_ties_even().clamp(0.0, 255.0) as u8);
    }
}

/// A quarter turn to the left: numpy's `rot90`.
fn turned(image: &Image) -> Image {
    let channels = usize::from(image.channels);
    let (width, height) = (image.width as usize, image.height as usize);
    let mut pixels = Vec::with_capacity(image.pixels.len());
    for x in (0..width).rev() {
        for y in 0..height {
            pixels.extend_from_slice(&image.pixels[(y * width + x) * channels..][..channels]);
        }
    }
    Image { width: image.height, height: image.width, channels: image.channels, pixels }
}
