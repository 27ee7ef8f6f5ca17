//! Prompts as token numbers, the same for both engines, with nothing in common but what is meant to be.

/// A reproducible stream of token numbers.
pub(crate) struct Prompts {
    state: u64,
    vocab: u32,
}

impl Prompts {
    /// Token numbers below `vocab`; the lowest are left out, where vocabularies keep their control tokens.
    pub(crate) fn new(seed: u64, vocab: u32) -> Prompts {
        Prompts { state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03, vocab }
    }

    /// The next `count` tokens.
    pub(crate) fn take(&mut self, count: usize) -> Vec<u32> {
        let first = self.vocab / 4;
        (0..count).map(|_| first + (self.next() % u64::from(self.vocab / 2)) as u32).collect()
    }

    /// Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
