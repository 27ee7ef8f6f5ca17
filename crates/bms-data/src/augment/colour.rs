//! What pixels become: brightness, contrast, noise.

use rand_chacha::ChaCha8Rng;

use crate::{Image, random};

/// Every value times `factor`, clamped to 0 to 255.
pub(crate) fn brightness(image: &mut Image, factor: f32) {
    // `as` saturates, which is the clamp.
    image.pixels.iter_mut().for_each(|p| *p = (f32::from(*p) * factor).round() as u8);
}

/// Every value's distance from the picture's mean times `factor`, clamped to 0 to 255.
pub(crate) fn contrast(image: &mut Image, factor: f32) {
    let sum: u64 = image.pixels.iter().map(|&p| u64::from(p)).sum();
    let mean = sum as f32 / image.pixels.len() as f32;
    image.pixels.iter_mut().for_each(|p| *p = (mean + (f32::from(*p) - mean) * factor).round() as u8);
}

/// Adds normal noise with this standard deviation (in grey levels) to every value.
pub(crate) fn noise(image: &mut Image, deviation: f32, rng: &mut ChaCha8Rng) {
    image
        .pixels
        .iter_mut()
        .for_each(|p| *p = (f32::from(*p) + deviation * random::normal(rng)).round() as u8);
}
