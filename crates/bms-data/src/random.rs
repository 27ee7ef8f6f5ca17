//! Chance that depends on a seed and a name, and on nothing else: not on threads, not on order.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The stream of sample `name`, copy `copy`, under `seed`.
pub(crate) fn rng(seed: u64, name: &str, copy: u64) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(&copy.to_le_bytes());
    hasher.update(name.as_bytes());
    ChaCha8Rng::from_seed(hasher.finalize().into())
}

/// Uniform in `[0, 1)`, with 24 bits.
pub(crate) fn unit(rng: &mut ChaCha8Rng) -> f32 {
    (rng.next_u32() >> 8) as f32 * (1.0 / (1 << 24) as f32)
}

/// Uniform in `[low, high)`.
pub(crate) fn range(rng: &mut ChaCha8Rng, low: f32, high: f32) -> f32 {
    low + (high - low) * unit(rng)
}

/// True with probability `share`.
pub(crate) fn chance(rng: &mut ChaCha8Rng, share: f32) -> bool {
    unit(rng) < share
}

/// Uniform in `0..n`; the bias of the multiplication is below `n / 2^32`.
pub(crate) fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    ((u64::from(rng.next_u32()) * n as u64) >> 32) as usize
}

/// Standard normal, by Box and Muller (1958).
pub(crate) fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let radius = (-2.0 * (1.0 - unit(rng)).ln()).sqrt();
    radius * (std::f32::consts::TAU * unit(rng)).cos()
}
