//! Random numbers of answers: a function of the seed and the place, not of what else runs.
//!
//! Number `place` of answer `index` under `seed` is the top 53 bits of
//! `mix(mix(mix(seed) + index) + place)` as a fraction in [0, 1), where `mix` is the output function of SplitMix64
//! (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014) and the sums wrap. There is no state:
//! recomputation after a preemption and drafted tokens draw the same numbers.

/// A number in [0, 1).
pub(crate) fn uniform(seed: u64, index: usize, place: usize) -> f64 {
    let stream = mix(mix(seed).wrapping_add(index as u64));
    let bits = mix(stream.wrapping_add(place as u64)) >> 11;
    bits as f64 / (1u64 << 53) as f64
}

/// A seed nobody chose.
pub fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // Every `RandomState` has keys of its own, the first ones of a thread from the operating system.
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
