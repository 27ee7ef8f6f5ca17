//! Two replicas of one registry: two handles on one database, as two servers have them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bms_registry::Registry;
use bms_wire::Code;
use bms_wire::api::SetAlias;
use serde_json::json;

use crate::bundles::{Site, manifest, signed, upload};
use crate::databases::{address, connect, on_postgres, open};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn versions_of_two_replicas_have_numbers_of_their_own() {
    let site = Site::new().await;
    let other = open(&site.root()).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for seed in 0..24 {
        let registry = if seed % 2 == 0 { site.registry.clone() } else { other.clone() };
        let (files, policy) = (signed(manifest("digits", seed), &site.key), site.policy.clone());
        tasks.spawn(async move {
            let new = upload(&registry, &files, &[]).await;
            registry.publish("digits", new, &policy).await.unwrap().version
        });
    }
    let mut numbers = tasks.join_all().await;
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=24).collect::<Vec<_>>());
    other.audit_verify().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_alias_that_is_compared_and_set_loses_no_move() {
    let site = Site::new().await;
    for seed in 1..=3 {
        site.publish(manifest("digits", seed), &[]).await.unwrap();
    }
    let first = SetAlias { version: 1, require: None, current: Some(0) };
    site.registry.set_alias("digits", "production", &first).await.unwrap();
    let again = site.registry.set_alias("digits", "production", &first).await.unwrap_err();
    assert_eq!(again.code(), Code::Conflict);
    let other = open(&site.root()).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..8_u64 {
        let registry = if n % 2 == 0 { site.registry.clone() } else { other.clone() };
        tasks.spawn(async move {
            let mut moved = 0_u64;
            for _ in 0..10 {
                let current = registry.resolve("digits", "production").await.unwrap().version;
                let set = SetAlias { version: current % 3 + 1, require: None, current: Some(current) };
                match registry.set_alias("digits", "production", &set).await {
                    Ok(_) => moved += 1,
                    Err(error) => assert_eq!(error.code(), Code::Conflict, "{error}"),
                }
            }
            moved
        });
    }
    let moved: u64 = tasks.join_all().await.into_iter().sum();
    assert!(10 <= moved, "somebody always wins: {moved}");
    // Each move went on from where the one before it had gone.
    let events = other.audit_events(0, 1000).await.unwrap();
    let moves: Vec<_> = events.iter().filter(|event| event.action == "alias.set").collect();
    assert_eq!(moves.len() as u64, moved + 1);
    for pair in moves.windows(2) {
        assert_eq!(pair[1].details["previous"], pair[0].details["version"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn approvals_of_two_replicas_make_one_transition() {
    use bms_wire::api::{NewTransition, StageRule, TransitionState, VersionName};
    let site = Site::new().await;
    site.publish(manifest("digits", 1), &[]).await.unwrap();
    let rule = StageRule { model: None, stage: "production".into(), approvals: 5 };
    site.registry.set_stage_rule(&rule, "root").await.unwrap();
    let of = VersionName { model: "digits".into(), version: 1 };
    let new = NewTransition { stage: "production".into(), ..NewTransition::default() };
    let id = site.registry.request_transition(&of, &new, "ada").await.unwrap().id;
    let other = open(&site.root()).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..12 {
        let registry = if n % 2 == 0 { site.registry.clone() } else { other.clone() };
        tasks.spawn(async move {
            match registry.approve_transition(id, "", &format!("person-{n}")).await {
                Ok(transition) => u64::from(transition.state == TransitionState::Done),
                Err(error) => {
                    assert_eq!(error.code(), Code::Conflict, "{error}");
                    0
                }
            }
        });
    }
    let done: u64 = tasks.join_all().await.into_iter().sum();
    assert_eq!(done, 1, "exactly one approval was the last");
    assert_eq!(other.transition(id).await.unwrap().approved_by.len(), 5);
}

/// Ends every connection of the registry's schema, as a restart of the server or a network would.
async fn cut(root: &std::path::Path) -> u64 {
    let mut admin = connect(&std::env::var("BMS_POSTGRES").unwrap()).await;
    let name = address(root).rsplit('=').next().unwrap().to_owned();
    sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE application_name = $1 AND pid <> pg_backend_pid()",
    )
    .bind(name)
    .fetch_all(&mut admin)
    .await
    .unwrap()
    .len() as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lost_connections_are_made_again_and_lose_nothing() {
    if !on_postgres() {
        return;
    }
    let site = Site::new().await;
    let registry: Registry = site.registry.clone();
    let stop = Arc::new(AtomicBool::new(false));
    let writing = {
        let (registry, stop) = (registry.clone(), stop.clone());
        tokio::spawn(async move {
            let (mut acknowledged, mut refused) = (Vec::new(), 0_u64);
            for n in 0_u64.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                match registry.audit("test", &n.to_string(), json!({})).await {
                    Ok(event) => acknowledged.push((event.sequence, event.hash)),
                    // Whatever was under way when the connection went is said to be unknown, and to be tried again.
                    Err(error) => {
                        assert_eq!(error.code(), Code::Unavailable, "{error}");
                        refused += 1;
                    }
                }
            }
            (acknowledged, refused)
        })
    };
    let mut ended = 0;
    for _ in 0..15 {
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        ended += cut(&site.root()).await;
    }
    stop.store(true, Ordering::Relaxed);
    let (acknowledged, refused) = writing.await.unwrap();
    assert!(
        10 < acknowledged.len() && 5 <= ended,
        "{} events, {refused} refused, {ended} ended",
        acknowledged.len()
    );
    let length = registry.audit_verify().await.unwrap();
    assert!(acknowledged.iter().all(|(sequence, _)| *sequence <= length));
    for (sequence, hash) in acknowledged {
        assert_eq!(registry.audit_events(sequence - 1, 1).await.unwrap()[0].hash, hash);
    }
}
