//! The choice of a side: by weight, and for one caller always the same.
//!
//! A caller's key has a fixed position on a line; the candidate takes the line's beginning, as much of it as the step
//! says. When its share grows, whoever was on its side stays there.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bms_registry::RolloutCount;
use bms_wire::api::Rollout;
use http::{HeaderMap, HeaderName, header};

use super::Side;

/// Positions on the line: shares are exact to a hundredth of a percent.
const POSITIONS: u64 = 10_000;
/// Where callers that authenticate have their key.
const CALLER_HEADERS: [HeaderName; 2] = [header::AUTHORIZATION, HeaderName::from_static("x-api-key")];

/// What keeps a caller on one side.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sticky {
    Caller,
    Request,
    Header(String),
    Nothing,
}

impl Sticky {
    fn parse(text: &str) -> Sticky {
        match text {
            "request" => Sticky::Request,
            "none" => Sticky::Nothing,
            _ => match text.strip_prefix("header:") {
                Some(name) => Sticky::Header(name.to_ascii_lowercase()),
                None => Sticky::Caller,
            },
        }
    }
}

/// A model's traffic in one step of a rollout.
#[derive(Debug)]
pub(crate) struct Split {
    pub(crate) rollout: Rollout,
    sticky: Sticky,
    /// Positions that are the candidate's, and positions of which it answers copies.
    candidate: u64,
    shadow: u64,
    salt: [u8; 32],
    drawn: AtomicU64,
    counts: Mutex<[RolloutCount; 3]>,
    unwritten: AtomicBool,
}

impl Split {
    pub(crate) fn new(rollout: &Rollout) -> Split {
        let positions = |percent: f64| (percent / 100.0 * POSITIONS as f64).round() as u64;
        let count = |side| RolloutCount {
            rollout: rollout.id,
            step: rollout.step,
            side,
            requests: 0,
            errors: 0,
            dropped: 0,
            latency: BTreeMap::new(),
        };
        Split {
            sticky: Sticky::parse(&rollout.plan.sticky),
            candidate: positions(rollout.percent),
            shadow: positions(rollout.plan.shadow_percent),
            // Who tries one rollout is not who tries the next, and stays the same in all of its steps.
            salt: *blake3::hash(format!("rollout {} of {}", rollout.id, rollout.model).as_bytes()).as_bytes(),
            drawn: AtomicU64::new(0),
            counts: Mutex::new(std::array::from_fn(count)),
            unwritten: AtomicBool::new(false),
            rollout: rollout.clone(),
        }
    }

    /// Whether it is this step of this rollout.
    pub(crate) fn is_of(&self, rollout: &Rollout) -> bool {
        (self.rollout.id, self.rollout.step) == (rollout.id, rollout.step)
    }

    /// The side of a request.
    pub(crate) fn side_of(&self, headers: &HeaderMap, body: &[u8]) -> Side {
        match self.position(headers, body) < self.candidate {
            true => Side::Candidate,
            false => Side::Stable,
        }
    }

    fn position(&self, headers: &HeaderMap, body: &[u8]) -> u64 {
        let named = match &self.sticky {
            Sticky::Caller => CALLER_HEADERS.iter().find_map(|name| headers.get(name)),
            Sticky::Header(name) => headers.get(name.as_str()),
            Sticky::Nothing => return self.draw(),
            Sticky::Request => None,
        };
        self.place(named.map_or(body, |value| value.as_bytes()))
    }

    fn place(&self, key: &[u8]) -> u64 {
        let hash = blake3::keyed_hash(&self.salt, key);
        let first = hash.as_bytes().first_chunk().copied().unwrap_or_default();
        ((u128::from(u64::from_le_bytes(first)) * u128::from(POSITIONS)) >> 64) as u64
    }

    /// A position that nothing ties to the request.
    fn draw(&self) -> u64 {
        self.place(&self.drawn.fetch_add(1, Ordering::Relaxed).to_le_bytes())
    }

    /// Whether the candidate shall answer a copy of the next request that the stable version answers.
    pub(crate) fn wants_copy(&self) -> bool {
        0 < self.shadow && self.draw() < self.shadow
    }

    /// Counts a request; of a copy, `failed` says that the answers did not agree.
    pub(crate) fn count(&self, side: Side, failed: bool, took: Duration) {
        let mut counts = self.counts();
        let count = &mut counts[side as usize];
        count.requests += 1;
        count.errors += u64::from(failed);
        if !failed {
            *count.latency.entry(RolloutCount::latency_step(took.as_secs_f64())).or_default() += 1;
        }
        self.unwritten.store(true, Ordering::Release);
    }

    /// Counts a copy that was not sent.
    pub(crate) fn count_dropped(&self) {
        self.counts()[Side::Shadow as usize].dropped += 1;
        self.unwritten.store(true, Ordering::Release);
    }

    pub(super) fn has_unwritten(&self) -> bool {
        self.unwritten.load(Ordering::Acquire)
    }

    /// All counts, when they changed since this was last asked.
    pub(super) fn take_unwritten(&self) -> Vec<RolloutCount> {
        match self.unwritten.swap(false, Ordering::AcqRel) {
            true => self.counts().iter().filter(|c| 0 < c.requests + c.dropped).cloned().collect(),
            false => Vec::new(),
        }
    }

    /// They could not be written.
    pub(super) fn put_back(&self) {
        self.unwritten.store(true, Ordering::Release);
    }

    fn counts(&self) -> MutexGuard<'_, [RolloutCount; 3]> {
        // Nothing that holds it can leave it half changed.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
