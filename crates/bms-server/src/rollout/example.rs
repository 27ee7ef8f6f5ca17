//! A rollout for tests, which change what they are about.

use bms_wire::api::{Rollout, RolloutPlan, RolloutShadow, RolloutSide, RolloutState};

/// From version 1 of `m` to 2, at its first step, without a share yet.
pub(super) fn rollout(plan: RolloutPlan) -> Rollout {
    Rollout {
        id: 1,
        model: "m".into(),
        alias: "production".into(),
        stable: 1,
        candidate: 2,
        state: RolloutState::Running,
        step: 0,
        percent: 0.0,
        reason: String::new(),
        plan,
        require: None,
        created_ms: 0,
        step_ms: 0,
        ended_ms: None,
        revision: 1,
        stable_side: RolloutSide::default(),
        candidate_side: RolloutSide::default(),
        shadow: RolloutShadow::default(),
    }
}
