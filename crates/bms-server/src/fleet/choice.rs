//! Which of several slots a request goes to, as arithmetic on their loads.
//!
//! The one with the least open requests. A request of a language model goes by its prompt's beginning first, so that
//! prompts that begin alike meet in the slot that has their keys and values already: rendezvous hashing, with a bound on
//! how much more than the average a slot may have (Mirrokni, Thorup, Zadimoghaddam: "Consistent Hashing with Bounded
//! Loads", 2016). What is beyond the bound goes to the next slot in the prompt's own order.

use std::hash::{DefaultHasher, Hash, Hasher};

use memchr::memmem;

/// How many times the average load the slot of a prompt may have.
const LOAD_BOUND: f64 = 1.25;
/// Bytes of a prompt's beginning that are compared.
const PREFIX_BYTES: usize = 256;
/// Where prompts begin in the bodies of the protocols; what stands before is the same or no matter.
const PROMPTS: [&[u8]; 3] = [b"\"messages\"", b"\"prompt\"", b"\"input\""];

/// A slot a request might go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Tells the slot from others, always the same.
    pub(super) number: u64,
    /// Its open requests.
    pub(super) load: usize,
}

/// What requests that begin alike have in common.
pub(crate) fn prefix(body: &[u8]) -> u64 {
    let begin = PROMPTS.iter().find_map(|prompt| memmem::find(body, prompt)).unwrap_or(0);
    let end = body.len().min(begin + PREFIX_BYTES);
    let mut hasher = DefaultHasher::new();
    body[begin..end].hash(&mut hasher);
    hasher.finish()
}

/// The places of `slots` in the order in which a request should try them. `turn` differs from request to request, so that
/// equals share.
pub(super) fn order(slots: &[Candidate], prefix: Option<u64>, turn: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..slots.len()).collect();
    let Some(prefix) = prefix.filter(|_| 1 < slots.len()) else {
        places.rotate_left(turn % slots.len().max(1));
        places.sort_by_key(|place| slots[*place].load);
        return places;
    };
    let open: usize = slots.iter().map(|slot| slot.load).sum();
    // With the request that comes; at least one, or nothing would ever be within the bound.
    let bound = (LOAD_BOUND * (open + 1) as f64 / slots.len() as f64).ceil() as usize;
    let rank = |place: &usize| {
        let mut hasher = DefaultHasher::new();
        (prefix, slots[*place].number).hash(&mut hasher);
        (bound <= slots[*place].load, hasher.finish())
    };
    places.sort_by_key(rank);
    places
}

#[cfg(test)]
mod tests;
