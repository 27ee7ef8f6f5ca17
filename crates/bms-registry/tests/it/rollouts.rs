//! Rollouts as the registry keeps them: one at a time, decided under a lease, counted by several replicas.

use std::collections::BTreeMap;
use std::time::Duration;

use bms_registry::{Lease, RolloutCount, RolloutMove};
use bms_wire::Code;
use bms_wire::api::{
    EvaluationGate, NewRollout, Rollout, RolloutOrder, RolloutPlan, RolloutState, SetAlias, SetDeployment,
};

use crate::bundles::{Site, manifest};
use crate::databases::open;

fn new(candidate: &str) -> NewRollout {
    NewRollout { candidate: candidate.to_owned(), require: None, plan: RolloutPlan::default() }
}

/// Two versions, the first of which is deployed.
async fn site() -> Site {
    let site = Site::new().await;
    for seed in 1..=2 {
        site.publish(manifest("digits", seed), &[]).await.unwrap();
    }
    point(&site, 1).await.unwrap();
    let deployment = SetDeployment::of("production");
    site.registry.set_deployment("digits", &deployment).await.unwrap();
    site
}

async fn point(site: &Site, version: u64) -> bms_wire::Result<()> {
    let set = SetAlias { version, require: None, current: None };
    site.registry.set_alias("digits", "production", &set).await.map(drop)
}

async fn serves(site: &Site) -> u64 {
    site.registry.resolve("digits", "production").await.unwrap().version
}

async fn lease(site: &Site, holder: &str) -> Lease {
    site.registry.acquire_lease("rollouts", holder, Duration::from_secs(30)).await.unwrap().unwrap()
}

async fn actions(site: &Site) -> Vec<String> {
    let events = site.registry.audit_events(0, 1000).await.unwrap();
    events.into_iter().map(|event| event.action).filter(|action| action.starts_with("rollout.")).collect()
}

#[tokio::test]
async fn a_rollout_goes_step_by_step_and_moves_the_alias_at_the_end() {
    let site = site().await;
    let registry = &site.registry;
    let begun = registry.begin_rollout("digits", &new("2"), "ada").await.unwrap();
    assert_eq!(
        (begun.state, begun.percent, begun.stable, begun.candidate),
        (RolloutState::Preparing, 0.0, 1, 2)
    );
    let lease = lease(&site, "a").await;
    registry.move_rollout(&lease, &begun, &RolloutMove::Step(0), "it is ready").await.unwrap();
    let running = registry.rollout("digits").await.unwrap();
    assert_eq!((running.state, running.step, running.percent), (RolloutState::Running, 0, 5.0));
    registry.move_rollout(&lease, &running, &RolloutMove::Step(1), "it is good").await.unwrap();
    // What was decided on an older sight is not done.
    let late = registry.move_rollout(&lease, &running, &RolloutMove::RollBack, "late").await.unwrap_err();
    assert_eq!(late.code(), Code::Conflict);
    assert_eq!(serves(&site).await, 1);
    let running = registry.rollout("digits").await.unwrap();
    registry.move_rollout(&lease, &running, &RolloutMove::Promote, "it is good").await.unwrap();
    assert_eq!(serves(&site).await, 2);
    let ended = registry.rollout("digits").await.unwrap();
    assert!(ended.state == RolloutState::Promoted && ended.ended_ms.is_some());
    let after = registry.rollouts_under_way().await.unwrap();
    assert!(after.rollouts.is_empty());
    assert_eq!(after.warm, [("digits".to_owned(), 1)], "the old version stays loaded for a while");
    assert_eq!(actions(&site).await, ["rollout.begun", "rollout.step", "rollout.step", "rollout.promoted"]);
    // And back at once.
    let back = registry.roll_back("digits", "ada").await.unwrap();
    assert_eq!((back.version, back.from, serves(&site).await), (1, 2, 1));
    registry.audit_verify().await.unwrap();
}

#[tokio::test]
async fn a_leader_that_is_none_any_more_moves_nothing() {
    let site = site().await;
    let begun = site.registry.begin_rollout("digits", &new("2"), "ada").await.unwrap();
    let old = lease(&site, "a").await;
    let newer = lease(&site, "a").await;
    let refused = site.registry.move_rollout(&old, &begun, &RolloutMove::Promote, "").await.unwrap_err();
    assert_eq!((refused.code(), serves(&site).await), (Code::Conflict, 1));
    let seen: Rollout = site.registry.rollout("digits").await.unwrap();
    assert_eq!(seen.revision, begun.revision);
    site.registry.move_rollout(&newer, &begun, &RolloutMove::RollBack, "worse").await.unwrap();
    let ended = site.registry.rollout("digits").await.unwrap();
    assert_eq!(
        (ended.state, ended.reason.as_str(), serves(&site).await),
        (RolloutState::RolledBack, "worse", 1)
    );
}

#[tokio::test]
async fn what_would_disturb_a_rollout_is_refused() {
    let site = site().await;
    let registry = &site.registry;
    registry.begin_rollout("digits", &new("2"), "ada").await.unwrap();
    let other = open(&site.root()).await.unwrap();
    let second = other.begin_rollout("digits", &new("2"), "eve").await.unwrap_err();
    assert_eq!(second.code(), Code::Conflict);
    assert_eq!(point(&site, 2).await.unwrap_err().code(), Code::Conflict);
    assert_eq!(registry.delete_version("digits", 2, true, "ada").await.unwrap_err().code(), Code::Conflict);
    let aborted = registry.order_rollout("digits", RolloutOrder::Abort, "ada").await.unwrap();
    assert_eq!(aborted.state, RolloutState::Aborted);
    point(&site, 2).await.unwrap();
    let none = registry.order_rollout("digits", RolloutOrder::Pause, "ada").await.unwrap_err();
    assert_eq!(none.code(), Code::NotFound);
    registry.begin_rollout("digits", &new("1"), "ada").await.unwrap();
    registry.remove_deployment("digits").await.unwrap();
    assert_eq!(registry.rollout("digits").await.unwrap().state, RolloutState::Aborted);
}

#[tokio::test]
async fn plans_that_contradict_themselves_are_refused() {
    let site = site().await;
    let plan = |change: fn(&mut RolloutPlan)| {
        let mut new = new("2");
        change(&mut new.plan);
        new
    };
    for wrong in [
        plan(|p| p.steps.clear()),
        plan(|p| p.steps = vec![50.0, 10.0]),
        plan(|p| p.steps = vec![100.0, 100.0]),
        plan(|p| p.steps = vec![f64::NAN]),
        plan(|p| p.steps = vec![0.0, 100.0]),
        plan(|p| p.min_agreement = 1.5),
        plan(|p| p.max_error_increase = f64::NAN),
        plan(|p| p.step_seconds = u64::MAX),
        plan(|p| p.sticky = "header:".into()),
        plan(|p| p.sticky = "moon".into()),
        new("1"),
    ] {
        let refused = site.registry.begin_rollout("digits", &wrong, "ada").await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidRequest, "{wrong:?}");
    }
    let unknown = site.registry.begin_rollout("digits", &new("9"), "ada").await.unwrap_err();
    assert_eq!(unknown.code(), Code::VersionNotFound);
    let gate = EvaluationGate { metric: "no such metric".into(), max_drop: 0.0 };
    let gated = NewRollout { require: Some(gate), ..new("2") };
    let refused = site.registry.begin_rollout("digits", &gated, "ada").await.unwrap_err();
    assert_eq!(refused.code(), Code::QualityRefused);
    assert!(actions(&site).await.is_empty());
}

#[tokio::test]
async fn what_replicas_count_is_summed_and_counted_once() {
    let site = site().await;
    let begun = site.registry.begin_rollout("digits", &new("2"), "ada").await.unwrap();
    let other = open(&site.root()).await.unwrap();
    let counted = |side, requests, errors| RolloutCount {
        rollout: begun.id,
        step: 0,
        side,
        requests,
        errors,
        dropped: 1,
        latency: BTreeMap::from([(RolloutCount::latency_step(0.010), requests - errors)]),
    };
    site.registry.flush_counts("a", &[counted(0, 10, 0), counted(1, 5, 1)]).await.unwrap();
    site.registry.flush_counts("a", &[counted(1, 7, 1), counted(2, 4, 2)]).await.unwrap();
    other.flush_counts("b", &[counted(1, 3, 2)]).await.unwrap();
    let [stable, candidate, shadow] = site.registry.counted(begun.id, 0).await.unwrap();
    assert_eq!((stable.requests, candidate.requests, candidate.errors), (10, 10, 3));
    assert_eq!((shadow.requests, shadow.errors, shadow.dropped), (4, 2, 1));
    assert_eq!(candidate.timed(), 7);
    let shown = other.rollout("digits").await.unwrap();
    assert_eq!((shown.candidate_side.requests, shown.shadow.agreed), (10, 2));
    assert!((9.0..12.0).contains(&shown.candidate_side.p95_ms), "{shown:?}");
    assert_eq!(other.counted(begun.id, 1).await.unwrap()[1].requests, 0);
}
