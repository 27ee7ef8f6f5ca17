//! Randomness that depends only on what it is for.
//!
//! Each use draws from its own ChaCha stream, keyed by the seed, the purpose and two counters. So a run
//! that resumes at epoch 7 draws exactly what an uninterrupted run draws there, on any number of threads.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What the numbers are for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// Initial weights; counters: layer.
    Init = 1,
    /// Order of the samples; counters: epoch.
    Shuffle = 2,
    /// Dropout of one shard; counters: step, shard.
    Dropout = 3,
}

/// The stream for `purpose` at `(a, b)`.
pub(crate) fn stream(seed: u64, purpose: Purpose, a: u64, b: u64) -> ChaCha8Rng {
    let mut key = [0_u8; 32];
    for (slot, word) in key.chunks_exact_mut(8).zip([seed, purpose as u64, a, b]) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}
