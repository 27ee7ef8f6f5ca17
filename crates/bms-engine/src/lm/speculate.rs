//! Guesses at what follows, for the decoder to check several tokens in one pass.
//!
//! Prompt lookup: where the last tokens stood before in prompt or answer, what followed there is drafted again. The
//! choice of tokens is not affected (see [`crate::lm::answer::Answer::advance`]), only how many come of one step.

use std::collections::HashMap;

/// Tokens drafted at most.
pub(crate) const DRAFT_MAX: usize = 8;
/// Tokens that must be the same for a guess: tried from the longest.
const LENGTHS: [usize; 2] = [4, 2];
/// After so many tokens without a draft one is tried again.
const TRY_AGAIN: usize = 48;

/// The guesses for one answer, and how good they were.
#[derive(Clone, Debug)]
pub(crate) struct Guess {
    /// For each length: where the tokens that begin with these end last, as a position of what follows.
    seen: [HashMap<u64, u32>; LENGTHS.len()],
    /// Tokens entered.
    entered: usize,
    /// How often a drafted token was right, when those before it were.
    acceptance: f64,
    since: usize,
}

impl Default for Guess {
    fn default() -> Self {
        Guess { seen: Default::default(), entered: 0, acceptance: 0.6, since: 0 }
    }
}

impl Guess {
    /// How often a drafted token is right.
    pub(crate) fn acceptance(&self) -> f64 {
        // A guess that failed for long gets another chance.
        if TRY_AGAIN <= self.since { self.acceptance.max(0.6) } else { self.acceptance }
    }

    /// Up to `most` tokens that may follow.
    pub(crate) fn propose(&mut self, tokens: &[u32], most: usize) -> Vec<u32> {
        self.enter(tokens);
        let found = LENGTHS.iter().zip(&self.seen).find_map(|(length, seen)| {
            let end = tokens.len().checked_sub(*length)?;
            let at = *seen.get(&key(&tokens[end..]))? as usize;
            // Keys are hashes; the tokens themselves decide.
            (tokens[at - length..at] == tokens[end..]).then_some(at)
        });
        let Some(at) = found else { return Vec::new() };
        let period = tokens.len() - at;
        // What repeats itself is taken to go on repeating.
        (0..most).map(|i| tokens[at + i % period]).collect()
    }

    /// Learns that of `drafted` tokens the first `accepted` were right.
    pub(crate) fn learn(&mut self, drafted: usize, accepted: usize) {
        if drafted == 0 {
            self.since += 1;
            return;
        }
        self.since = 0;
        let trials = (accepted + 1).min(drafted);
        for trial in 0..trials {
            let right = if trial < accepted { 1.0 } else { 0.0 };
            self.acceptance += 0.15 * (right - self.acceptance);
        }
    }

    /// Enters all beginnings that something follows.
    fn enter(&mut self, tokens: &[u32]) {
        for end in self.entered.max(1)..tokens.len() {
            for (length, seen) in LENGTHS.iter().zip(&mut self.seen) {
                if let Some(start) = end.checked_sub(*length) {
                    seen.insert(key(&tokens[start..end]), end as u32);
                }
            }
        }
        self.entered = tokens.len();
    }
}

/// FNV-1a of the tokens; a collision costs a guess, no more.
fn key(tokens: &[u32]) -> u64 {
    tokens.iter().fold(0xcbf2_9ce4_8422_2325, |hash, token| {
        (hash ^ u64::from(*token)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
