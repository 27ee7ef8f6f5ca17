//! Augmentation: new pictures from old ones, the same for the same seed on any number of threads.
//!
//! Each (seed, sample, copy) has its own stream of chance, so neither the order of samples nor the
//! number of threads changes a picture. Flips are exact; rotation, shift and zoom are one bilinear
//! resampling, so that a picture is blurred once and not three times.

mod colour;
mod geometry;
mod plan;

use std::sync::atomic::{AtomicUsize, Ordering};

use bms_wire::{Code, Error, Result};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::{Image, ImageSample, ImageSet, random};
pub use plan::{Crop, Noise, Plan, Range, Rotate, Tone};

/// Samples one augmented set may hold.
const SAMPLES_MAX: usize = 10_000_000;

/// `copies` augmented pictures of every sample, on `threads` threads (0: all cores).
///
/// `progress` is called with the number done and the total, from any thread.
///
/// # Errors
/// [`Code::InvalidRequest`] when the plan is impossible, [`Code::TooLarge`] when the result would be.
pub fn augment_set(
    set: &ImageSet,
    plan: &Plan,
    copies: u32,
    seed: u64,
    threads: usize,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<ImageSet> {
    plan.validate()?;
    let total = set.samples.len().saturating_mul(copies as usize);
    if SAMPLES_MAX < total {
        return Err(Error::new(Code::TooLarge, format!("{total} augmented samples"))
            .hint(format!("At most {SAMPLES_MAX} fit in one data set; ask for fewer copies.")));
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|e| Error::new(Code::Internal, format!("failed to start threads: {e}")).because(e))?;
    let done = AtomicUsize::new(0);
    let one = |index: usize| {
        let (sample, copy) = (&set.samples[index / copies as usize], (index % copies as usize) as u64);
        let image = draw(plan, &sample.image, seed, &sample.name, copy);
        progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
        ImageSample { name: format!("{}-aug{copy}", sample.name), label: sample.label, image }
    };
    let samples = pool.install(|| (0..total).into_par_iter().map(one).collect());
    Ok(ImageSet { labels: set.labels.clone(), samples })
}

/// Copy `copy` of the sample `name` under `seed`. The plan must be valid.
pub fn draw(plan: &Plan, image: &Image, seed: u64, name: &str, copy: u64) -> Image {
    apply(plan, image, &mut random::rng(seed, name, copy))
}

/// One draw of the plan, in this order: flips, one resampling for rotation and crop, tone, noise.
fn apply(plan: &Plan, image: &Image, rng: &mut ChaCha8Rng) -> Image {
    let mut image = image.clone();
    if random::chance(rng, plan.flip_horizontal) {
        image = geometry::flip_horizontal(&image);
    }
    if random::chance(rng, plan.flip_vertical) {
        image = geometry::flip_vertical(&image);
    }
    if let Some(warp) = draw_warp(plan, &image, rng) {
        image = geometry::warp(&image, &warp, plan.fill);
    }
    let tone = |part: &Option<Tone>, rng: &mut ChaCha8Rng| match part {
        Some(tone) if random::chance(rng, tone.probability) => {
            Some(random::range(rng, tone.factor.low, tone.factor.high))
        }
        _ => None,
    };
    if let Some(factor) = tone(&plan.brightness, rng) {
        colour::brightness(&mut image, factor);
    }
    if let Some(factor) = tone(&plan.contrast, rng) {
        colour::contrast(&mut image, factor);
    }
    if let Some(noise) = &plan.noise
        && random::chance(rng, noise.probability)
    {
        colour::noise(&mut image, noise.deviation * 255.0, rng);
    }
    image
}

/// The rotation and crop of this draw; `None` when neither was drawn.
fn draw_warp(plan: &Plan, image: &Image, rng: &mut ChaCha8Rng) -> Option<geometry::Warp> {
    let mut warp = geometry::Warp::identity();
    let mut drawn = false;
    if let Some(rotate) = &plan.rotate
        && random::chance(rng, rotate.probability)
    {
        warp.degrees = random::range(rng, rotate.degrees.low, rotate.degrees.high);
        drawn = true;
    }
    if let Some(crop) = &plan.crop
        && random::chance(rng, crop.probability)
    {
        warp.zoom = random::range(rng, crop.zoom.low, crop.zoom.high);
        warp.shift_x = random::range(rng, -crop.shift, crop.shift) * image.width as f32;
        warp.shift_y = random::range(rng, -crop.shift, crop.shift) * image.height as f32;
        drawn = true;
    }
    drawn.then_some(warp)
}

#[cfg(test)]
mod tests;
