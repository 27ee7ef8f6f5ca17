//! Counting what a process was denied, so that each kind is told at once and repetitions in sums.

use std::collections::BTreeMap;

use crate::watch::Denied;

/// Different calls and targets of one process that are told apart. Those beyond are told as one.
const KINDS_MAX: usize = 64;
/// What stands for the targets beyond.
const OTHERS: &str = "(others)";

/// What one process was denied.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Times not told yet.
    kinds: BTreeMap<(&'static str, Option<String>), u64>,
    total: u64,
}

impl Ledger {
    /// Counts a call. The first of its kind is to be told at once.
    pub(crate) fn note(&mut self, call: &'static str, target: Option<String>) -> Option<Denied> {
        self.total = self.total.saturating_add(1);
        let mut kind = (call, target);
        if KINDS_MAX <= self.kinds.len() && !self.kinds.contains_key(&kind) {
            kind.1 = Some(OTHERS.to_owned());
        }
        if let Some(times) = self.kinds.get_mut(&kind) {
            *times = times.saturating_add(1);
            return None;
        }
        self.kinds.insert(kind.clone(), 0);
        Some(Denied { call: kind.0, target: kind.1, times: 1 })
    }

    /// All calls so far.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The repetitions since the last time.
    pub(crate) fn sums(&mut self) -> Vec<Denied> {
        let repeated = self.kinds.iter_mut().filter(|(_, times)| **times != 0);
        repeated
            .map(|((call, target), times)| Denied {
                call,
                target: target.clone(),
                times: std::mem::take(times),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
