//! What this machine's own policy says of what it runs, once that policy changes, and what it refuses to run.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

use bms_bundle::Bundle;
use bms_wire::api::{SlotState, WorkerRefusal};
use bms_wire::{Code, Error, Result, Retry, limits};
use tokio::time::Instant;

use super::{DRAIN, Hosted, Worker};
use crate::slots::VersionName;

/// Versions that were refused since the policy was read, and why. The centre places them elsewhere.
pub(super) type Refused = BTreeMap<VersionName, String>;

impl Worker {
    /// Takes over a policy that has changed, ends the slots whose versions it does not trust, and notes what is refused.
    pub(super) async fn follow_policy(&self) {
        if self.policy.lock().await.look_here().await {
            self.begin_anew();
        }
        let unchecked: Vec<_> = {
            let hosted = self.hosted();
            // One that starts, or is started again, passes the gate under the policy as it is now, or is looked at then.
            let due = |slot: &Hosted| !slot.is_checked && slot.slot.state() == SlotState::Ready;
            let due = hosted.iter().filter(|(_, slot)| due(slot));
            due.map(|(id, hosted)| (id.clone(), hosted.of.clone(), hosted.slot.clone())).collect()
        };
        for (id, of, slot) in unchecked {
            match self.check_trust(&of).await {
                Err(error) if error.code().retry() == Retry::Never && error.code() != Code::NotFound => {
                    tracing::warn!(slot = %of, "the policy has changed, and the slot ends: {error}");
                    self.note_refusal(&of, &error.body().error);
                    slot.revoke(error.body());
                }
                Err(error) => {
                    tracing::warn!(slot = %of, "whether the policy trusts the slot is looked at again: {error}");
                    continue;
                }
                Ok(()) => {}
            }
            if let Some(hosted) = self.hosted().get_mut(&id) {
                hosted.is_checked = true;
            }
        }
        let refused: Vec<_> = {
            let hosted = self.hosted();
            let refused = hosted.values().filter(|hosted| hosted.slot.state() == SlotState::Refused);
            refused.filter_map(|hosted| Some((hosted.of.clone(), hosted.slot.problem()?.error))).collect()
        };
        refused.iter().for_each(|(of, why)| self.note_refusal(of, why));
    }

    /// Everything is to be looked at under another policy; what was refused may be good now.
    fn begin_anew(&self) {
        self.refused().clear();
        let mut hosted = self.hosted();
        let refused = hosted.extract_if(.., |_, hosted| hosted.slot.state() == SlotState::Refused);
        for (_, Hosted { slot, .. }) in refused {
            // If it is still ordered, the next orders start it again.
            let launcher = self.launcher.clone();
            tokio::spawn(async move { slot.unload(&launcher, Instant::now() + DRAIN).await });
        }
        hosted.values_mut().for_each(|hosted| hosted.is_checked = false);
    }

    async fn check_trust(&self, of: &VersionName) -> Result<()> {
        let folder = self.pull.copy_of(of);
        let folder = folder.ok_or_else(|| Error::new(Code::NotFound, format!("no copy of {of} is here")))?;
        let policy = self.launcher.policy_now();
        tokio::task::spawn_blocking(move || policy.check_trust(&Bundle::open(&folder)?))
            .await
            .map_err(|e| Error::new(Code::Internal, "the look at a bundle broke").because(e))?
    }

    fn note_refusal(&self, of: &VersionName, why: &str) {
        let mut refused = self.refused();
        if !refused.contains_key(of) {
            if limits::WORKER_REFUSALS_MAX <= refused.len() {
                refused.pop_first();
            }
            refused.insert(of.clone(), why.to_owned());
        }
    }

    /// What the centre is told that this machine refuses.
    pub(super) fn refusals(&self) -> Vec<WorkerRefusal> {
        let refusal = |(of, why): (&VersionName, &String)| WorkerRefusal {
            model: of.model.clone(),
            version: of.version,
            why: why.clone(),
        };
        self.refused().iter().map(refusal).collect()
    }

    fn refused(&self) -> MutexGuard<'_, Refused> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
