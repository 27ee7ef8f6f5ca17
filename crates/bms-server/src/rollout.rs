//! Rollouts: which version a request goes to, what comes of it, and what is decided from that.
//!
//! Every replica splits traffic by what the database says, counts, and writes its counts there each second. The one that
//! holds the lease reads the sums and decides ([`decide`]); what it decides is written under the lease and audited.

mod compare;
mod decide;
mod drive;
#[cfg(test)]
mod example;
mod shadow;
mod split;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bms_registry::{RolloutCount, UnderWay};
use bms_wire::api::RolloutState;
use http::HeaderMap;

pub(crate) use decide::{Decision, Evidence, Sight, decide};
pub(crate) use drive::{Driver, sight};
use shadow::Shadows;
pub(crate) use shadow::{Copied, work as work_on_copies};
pub(crate) use split::Split;

use crate::leader::replica_name;

/// The sides of a rollout, in the order of [`bms_registry::ROLLOUT_SIDES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Stable,
    Candidate,
    Shadow,
}

/// The status under which requests are counted whose client left before the answer.
const CLIENT_LEFT: u16 = 499;
/// The first status that counts as an error.
const ERRORS_FROM: u16 = 400;

/// The rollouts as this replica sees them.
#[derive(Debug)]
pub(crate) struct Rollouts {
    /// Under which name it counts.
    pub(crate) replica: String,
    splits: RwLock<BTreeMap<String, Arc<Split>>>,
    /// Those that were replaced and may have counts that are not written down yet.
    replaced: Mutex<Vec<Arc<Split>>>,
    pub(crate) shadows: Shadows,
}

impl Default for Rollouts {
    fn default() -> Self {
        Rollouts {
            replica: replica_name(),
            splits: RwLock::default(),
            replaced: Mutex::default(),
            shadows: Shadows::default(),
        }
    }
}

/// One request of a model with a rollout: its side, and where it is counted.
#[derive(Clone, Debug)]
pub(crate) struct Trial {
    pub(crate) split: Arc<Split>,
    pub(crate) side: Side,
}

impl Trial {
    /// Counts how it ended. That a client left says nothing about the version.
    pub(crate) fn count(&self, status: u16, took: Duration) {
        if status != CLIENT_LEFT {
            self.split.count(self.side, ERRORS_FROM <= status, took);
        }
    }
}

impl Rollouts {
    /// The side of a request, when its model has a rollout.
    pub(crate) fn trial(&self, model: &str, headers: &HeaderMap, body: &[u8]) -> Option<Trial> {
        let splits = self.splits.read().unwrap_or_else(PoisonError::into_inner);
        let split = splits.get(model)?.clone();
        drop(splits);
        let side = split.side_of(headers, body);
        Some(Trial { split, side })
    }

    /// Takes over what the database says.
    pub(crate) fn take_over(&self, under_way: &UnderWay) {
        let mut splits = self.splits.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = BTreeMap::new();
        for rollout in &under_way.rollouts {
            if !matches!(rollout.state, RolloutState::Running | RolloutState::Paused) {
                continue;
            }
            let same = |split: &&Arc<Split>| split.is_of(rollout);
            let split = splits.get(&rollout.model).filter(same).cloned();
            let split = split.unwrap_or_else(|| Arc::new(Split::new(rollout)));
            next.insert(rollout.model.clone(), split);
        }
        let gone = std::mem::take(&mut *splits).into_values();
        let still = |split: &Arc<Split>| next.values().any(|kept| Arc::ptr_eq(kept, split));
        let mut replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        // Requests that are still open count into the old step for a moment.
        replaced.retain(|split| 1 < Arc::strong_count(split) || split.has_unwritten());
        replaced.extend(gone.filter(|split| !still(split)));
        *splits = next;
    }

    /// What was counted since it was last asked for, as it stands now.
    fn unwritten(&self) -> Vec<(Arc<Split>, Vec<RolloutCount>)> {
        let splits = self.splits.read().unwrap_or_else(PoisonError::into_inner);
        let replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        let all = splits.values().chain(replaced.iter());
        all.map(|split| (split.clone(), split.take_unwritten())).filter(|(_, c)| !c.is_empty()).collect()
    }
}
