//! The loop's part of rollouts: look at the database, write down counts, and decide when this replica leads.

use std::sync::Arc;

use bms_registry::{Registry, RolloutMove, UnderWay};
use bms_wire::api::Rollout;
use bms_wire::{Code, Result};

use super::{Decision, Evidence, Rollouts, Sight, decide};
use crate::event::{Event, RolloutMoved};
use crate::fleet::Fleet;
use crate::leader::Leadership;
use crate::slots::VersionName;

/// The lease under which rollouts are decided.
const LEASE: &str = "rollouts";

/// Follows rollouts.
pub(crate) struct Driver {
    registry: Registry,
    rollouts: Arc<Rollouts>,
    leadership: Leadership,
}

impl Driver {
    pub(crate) fn new(registry: Registry, rollouts: Arc<Rollouts>) -> Self {
        let leadership = Leadership::new(registry.clone(), LEASE, rollouts.replica.clone());
        Driver { registry, rollouts, leadership }
    }

    /// Writes down what was counted and takes over what stands in the database. Returns that.
    pub(crate) async fn look(&self) -> Result<UnderWay> {
        let unwritten = self.rollouts.unwritten();
        for (at, (_, counts)) in unwritten.iter().enumerate() {
            if let Err(error) = self.registry.flush_counts(&self.rollouts.replica, counts).await {
                unwritten[at..].iter().for_each(|(split, _)| split.put_back());
                return Err(error);
            }
        }
        // Those that were replaced and have no open request may go from here on.
        drop(unwritten);
        let under_way = self.registry.rollouts_under_way().await?;
        self.rollouts.take_over(&under_way);
        Ok(under_way)
    }

    /// Decides what can be decided, when this replica leads. Whether anything was.
    pub(crate) async fn lead(&mut self, fleet: &Arc<Fleet>, under_way: &UnderWay) -> Result<bool> {
        if under_way.rollouts.is_empty() {
            self.leadership.release().await;
            return Ok(false);
        }
        let Some(lease) = self.leadership.hold().await? else { return Ok(false) };
        let mut moved = false;
        for rollout in &under_way.rollouts {
            let counted = self.registry.counted(rollout.id, rollout.step).await?;
            let evidence = Evidence {
                rollout,
                now_ms: under_way.now_ms,
                candidate_slot: sight(fleet, rollout),
                counted: &counted,
            };
            let Decision::Move(to, why) = decide(&evidence) else { continue };
            match self.move_to(&lease, rollout, &to, &why).await {
                Ok(()) => {
                    RolloutMoved { rollout, to: &to, why: &why }.emit(&fleet.launcher.metrics);
                    moved = true;
                }
                // Another leads by now, or somebody gave an order meanwhile: the next look says what stands.
                Err(error) if error.code() == Code::Conflict => {
                    tracing::info!(model = rollout.model, "a decision came too late: {error}");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(moved)
    }

    /// A promotion that the evaluation gate refuses goes back.
    async fn move_to(
        &self,
        lease: &bms_registry::Lease,
        rollout: &Rollout,
        to: &RolloutMove,
        why: &str,
    ) -> Result<()> {
        match self.registry.move_rollout(lease, rollout, to, why).await {
            Err(refused) if refused.code() == Code::QualityRefused && *to == RolloutMove::Promote => {
                let why = refused.message().to_owned();
                self.registry.move_rollout(lease, rollout, &RolloutMove::RollBack, &why).await
            }
            moved => moved,
        }
    }
}

/// How the candidate stands here.
pub(crate) fn sight(fleet: &Arc<Fleet>, rollout: &Rollout) -> Sight {
    let of = VersionName { model: rollout.model.clone(), version: rollout.candidate };
    fleet.sight(&of)
}
