//! Random numbers that depend on what they are for, not on who draws them when.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Separates these keys from those of any other use of BLAKE3.
const CONTEXT: &str = "AI-BMS 2025 bms-data random stream v1";

/// A stream of random numbers keyed by what it is for.
///
/// ChaCha8 under a BLAKE3 hash of the key's parts: the same parts give the same numbers on every
/// machine, and streams of different parts are independent however many threads draw from them.
#[derive(Clone, Debug)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream of one copy of one sample. Two classes may hold samples of the same name.
    pub fn of_sample(seed: u64, label: &str, name: &str, copy: u64) -> Stream {
        Stream::keyed(seed, &[b"sample", label.as_bytes(), name.as_bytes(), &copy.to_le_bytes()])
    }

    pub(crate) fn keyed(seed: u64, parts: &[&[u8]]) -> Stream {
        Stream(ChaCha8Rng::from_seed(*hash(seed, parts).as_bytes()))
    }

    /// Uniform in `[0, 1)`, in steps of 2⁻⁵³.
    pub fn unit(&mut self) -> f64 {
        const STEP: f64 = 1.0 / (1_u64 << 53) as f64;
        (self.0.next_u64() >> 11) as f64 * STEP
    }

    /// Uniform between the two bounds, `[low, high]`.
    pub fn within(&mut self, [low, high]: [f64; 2]) -> f64 {
        low + (high - low) * self.unit()
    }

    /// True with this probability: always at 1, never at 0.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Fills with uniform bytes.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }
}

/// Hash of a seed and parts; each part is framed by its length, so no two lists collide.
pub(crate) fn hash(seed: u64, parts: &[&[u8]]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update(&seed.to_le_bytes());
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize()
}
