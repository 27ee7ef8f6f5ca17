//! Resizing as the libraries do it that models are trained with, equal to the bit.

use bms_wire::Resampler;

use crate::Image;

/// Bits after the point of Pillow's weights.
const PILLOW_BITS: u32 = 22;
/// One, in OpenCV's weights.
const OPENCV_ONE: f32 = 2048.0;

/// The picture at another size, which is not zero and within the limits of a picture.
pub(crate) fn resize(image: &Image, width: u32, height: u32, resampler: Resampler) -> Image {
    if (image.width, image.height) == (width, height) {
        return image.clone();
    }
    match resampler {
        Resampler::PillowBilinear => pillow(image, width, height, 1.0, triangle),
        Resampler::PillowBicubic => pillow(image, width, height, 2.0, cubic),
        Resampler::PillowLanczos => pillow(image, width, height, 3.0, lanczos),
        Resampler::OpencvLinear => opencv(image, width, height),
    }
}

fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

/// Keys' cubic with a = −0.5.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn lanczos(x: f64) -> f64 {
    let sinc = |x: f64| {
        if x == 0.0 { 1.0 } else { libm::sin(x * std::f64::consts::PI) / (x * std::f64::consts::PI) }
    };
    if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 }
}

/// The inputs of one output along an axis: the first, and their weights.
struct Window {
    first: usize,
    weights: Vec<i32>,
}

/// Pillow's `precompute_coeffs` and `normalize_coeffs_8bpc` (src/libImaging/Resample.c) for one axis.
fn windows(from: u32, to: u32, support: f64, filter: fn(f64) -> f64) -> Vec<Window> {
    let scale = f64::from(from) / f64::from(to);
    let stretch = scale.max(1.0);
    let support = support * stretch;
    let window = |output: u32| {
        let centre = (f64::from(output) + 0.5) * scale;
        // Casts towards zero, as there; negative ones become zero.
        let first = (centre - support + 0.5).max(0.0) as usize;
        let last = ((centre + support + 0.5) as usize).min(from as usize);
        let weight = |input: usize| filter((input as f64 - centre + 0.5) * (1.0 / stretch));
        let weights: Vec<f64> = (first..last).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        let fixed = |weight: &f64| {
            let scaled = if sum == 0.0 { *weight } else { weight / sum } * f64::from(1u32 << PILLOW_BITS);
            (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
        };
        Window { first, weights: weights.iter().map(fixed).collect() }
    };
    (0..to).map(window).collect()
}

/// Pillow's two passes: along the rows, rounded to 8 bits, then along the columns. A side that stays is not resampled.
fn pillow(image: &Image, width: u32, height: u32, support: f64, filter: fn(f64) -> f64) -> Image {
    let channels = usize::from(image.channels);
    let round = |sum: i64| (sum >> PILLOW_BITS).clamp(0, 255) as u8;
    let half = 1i64 << (PILLOW_BITS - 1);
    let mut wide = image.clone();
    if width != image.width {
        let windows = windows(image.width, width, support, filter);
        let stride = image.width as usize * channels;
        let mut pixels = Vec::with_capacity(width as usize * image.height as usize * channels);
        for row in image.pixels.chunks_exact(stride) {
            for window in &windows {
                for channel in 0..channels {
                    let inputs = row[window.first * channels + channel..].iter().step_by(channels);
                    let products = inputs.zip(&window.weights).map(|(&p, &w)| i64::from(p) * i64::from(w));
                    pixels.push(round(half + products.sum::<i64>()));
                }
            }
        }
        wide = Image { width, height: image.height, channels: image.channels, pixels };
    }
    if height == wide.height {
        return wide;
    }
    let windows = windows(image.height, height, support, filter);
    let stride = width as usize * channels;
    let mut pixels = Vec::with_capacity(stride * height as usize);
    let mut sums = vec![0i64; stride];
    for window in &windows {
        sums.fill(half);
        for (row, &weight) in wide.pixels[window.first * stride..].chunks_exact(stride).zip(&window.weights) {
            for (sum, &pixel) in sums.iter_mut().zip(row) {
                *sum += i64::from(pixel) * i64::from(weight);
            }
        }
        pixels.extend(sums.iter().map(|&sum| round(sum)));
    }
    Image { width, height, channels: image.channels, pixels }
}

/// Two inputs of one output along an axis, and their weights of 11 bits.
struct Pair {
    low: usize,
    high: usize,
    weights: [i32; 2],
}

/// OpenCV's `INTER_LINEAR` (modules/imgproc/src/resize.cpp) for one axis. Columns at the edges take one pixel whole,
/// rows are repeated with their weights, which comes to the same.
fn pairs(from: u32, to: u32, is_columns: bool) -> Vec<Pair> {
    // The quotient is inverted there, which rounds otherwise than dividing the other way round.
    let scale = 1.0 / (f64::from(to) / f64::from(from));
    let last = i64::from(from) - 1;
    let pair = |output: u32| {
        let at = ((f64::from(output) + 0.5) * scale - 0.5) as f32;
        let (mut low, mut part) = (at.floor() as i64, at - at.floor());
        if is_columns && low < 0 {
            (low, part) = (0, 0.0);
        }
        if is_columns && last <= low {
            (low, part) = (last, 0.0);
        }
        let weight = |w: f32| (w * OPENCV_ONE).round_ties_even() as i32;
        Pair {
            low: low.clamp(0, last) as usize,
            high: (low + 1).clamp(0, last) as usize,
            weights: [weight(1.0 - part), weight(part)],
        }
    };
    (0..to).map(pair).collect()
}

/// OpenCV's `resize(…, INTER_LINEAR)` of 8-bit pixels, which halves by averaging four.
fn opencv(image: &Image, width: u32, height: u32) -> Image {
    let channels = usize::from(image.channels);
    let stride = image.width as usize * channels;
    let halves = image.width == 2 * width && image.height == 2 * height;
    let (columns, rows) = (pairs(image.width, width, true), pairs(image.height, height, false));
    let mut pixels = Vec::with_capacity(width as usize * height as usize * channels);
    for row in &rows {
        let upper = &image.pixels[row.low * stride..][..stride];
        let lower = &image.pixels[row.high * stride..][..stride];
        for column in &columns {
            for channel in 0..channels {
                let (left, right) = (column.low * channels + channel, column.high * channels + channel);
                let along = |line: &[u8]| {
                    i32::from(line[left]) * column.weights[0] + i32::from(line[right]) * column.weights[1]
                };
                let down = |sum: i32, weight: i32| (weight * (sum >> 4)) >> 16;
                let value = match halves {
                    true => {
                        let four = [upper[left], upper[right], lower[left], lower[right]];
                        (four.into_iter().map(i32::from).sum::<i32>() + 2) >> 2
                    }
                    false => {
                        (down(along(upper), row.weights[0]) + down(along(lower), row.weights[1]) + 2) >> 2
                    }
                };
                pixels.push(value.clamp(0, 255) as u8);
            }
        }
    }
    Image { width, height, channels: image.channels, pixels }
}
