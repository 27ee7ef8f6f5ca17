//! Workers: who may be one, how each stands, and which slots are placed where.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use bms_registry::{Placed, Placing, Registry};
use bms_wire::Code;
use bms_wire::api::{NewJoinToken, WorkerReport, WorkerState};

use crate::databases::{edit, open};

fn digest(c: char) -> String {
    c.to_string().repeat(64)
}

fn report(address: &str) -> WorkerReport {
    WorkerReport {
        address: address.to_owned(),
        memory_bytes: 1 << 30,
        memory_free_bytes: 1 << 29,
        cores: 4,
        labels: BTreeMap::from([
            ("zone".to_owned(), "own".to_owned()),
            ("disk".to_owned(), "fast".to_owned()),
        ]),
        until_ms: None,
        draining: false,
        slots: Vec::new(),
        refused: Vec::new(),
    }
}

async fn token(registry: &Registry, c: char, uses: u64) -> String {
    let labels = BTreeMap::from([("zone".to_owned(), "token".to_owned())]);
    registry
        .create_join_token(&digest(c), &NewJoinToken { uses, seconds: 60, labels }, "test")
        .await
        .unwrap();
    digest(c)
}

async fn state(registry: &Registry, name: &str) -> WorkerState {
    registry.workers().await.unwrap().into_iter().find(|w| w.name == name).unwrap().state
}

#[tokio::test]
async fn a_token_lets_in_as_many_as_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path()).await.unwrap();
    let two = token(&registry, 'a', 2).await;
    registry.enrol_worker(&two, "w1", &digest('1')).await.unwrap();
    // An answer that was lost costs no use.
    registry.enrol_worker(&two, "w1", &digest('1')).await.unwrap();
    registry.report_worker("w1", &report("h:1")).await.unwrap();
    registry.enrol_worker(&two, "w2", &digest('2')).await.unwrap();
    let refused = registry.enrol_worker(&two, "w3", &digest('3')).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "used up");
    let unknown = registry.enrol_worker(&digest('f'), "w3", &digest('3')).await.unwrap_err();
    assert_eq!(unknown.code(), Code::PermissionDenied);
    token(&registry, 'b', 1).await;
    edit(dir.path(), "UPDATE join_tokens SET expires_ms = 1").await;
    assert_eq!(
        registry.enrol_worker(&digest('b'), "w3", &digest('3')).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    let fresh = token(&registry, 'c', 5).await;
    assert_eq!(registry.enrol_worker(&fresh, "w1", &digest('9')).await.unwrap_err().code(), Code::Conflict);
    assert_eq!(registry.enrol_worker(&fresh, "w9", &digest('1')).await.unwrap_err().code(), Code::Conflict);
    for (uses, seconds) in [(0, 60), (1, 0), (u64::MAX, 60), (1, u64::MAX)] {
        let new = NewJoinToken { uses, seconds, labels: BTreeMap::new() };
        let refused = registry.create_join_token(&digest('d'), &new, "test").await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidRequest);
    }
    assert_eq!(registry.worker_with_key(&digest('1')).await.unwrap(), "w1");
    assert_eq!(registry.worker_with_key(&digest('7')).await.unwrap_err().code(), Code::PermissionDenied);
    registry.audit_verify().await.unwrap();
}

#[tokio::test]
async fn a_worker_is_as_it_was_last_heard() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path()).await.unwrap();
    let token = token(&registry, 'a', 9).await;
    registry.enrol_worker(&token, "w", &digest('1')).await.unwrap();
    assert_eq!(state(&registry, "w").await, WorkerState::Gone, "it has said nothing yet");
    assert!(!registry.report_worker("w", &report("h:1")).await.unwrap());
    assert_eq!(state(&registry, "w").await, WorkerState::Ready);
    let labels = registry.workers().await.unwrap()[0].report.labels.clone();
    assert_eq!((labels["zone"].as_str(), labels["disk"].as_str()), ("token", "fast"));
    registry.suspect_worker("w").await.unwrap();
    assert_eq!(state(&registry, "w").await, WorkerState::Gone);
    registry.report_worker("w", &report("h:1")).await.unwrap();
    registry.drain_worker("w", "test").await.unwrap();
    assert_eq!(state(&registry, "w").await, WorkerState::Draining);
    assert!(registry.report_worker("w", &report("h:1")).await.unwrap(), "it hears that it shall leave");
    // Told to stay, it takes slots again; that it leaves because it was told to, is not so any more.
    assert_eq!(registry.resume_worker("w", "test").await.unwrap().state, WorkerState::Ready);
    assert!(!registry.report_worker("w", &report("h:1")).await.unwrap());
    assert_eq!(registry.leave_worker("w", true).await.unwrap_err().code(), Code::Conflict);
    // One that leaves of its own cannot be told to stay.
    registry.report_worker("w", &WorkerReport { draining: true, ..report("h:1") }).await.unwrap();
    assert_eq!(registry.resume_worker("w", "test").await.unwrap_err().code(), Code::Conflict);
    registry.leave_worker("w", false).await.unwrap();
    assert_eq!(registry.resume_worker("w", "test").await.unwrap_err().code(), Code::Conflict, "it has left");
    registry.report_worker("w", &report("h:1")).await.unwrap();
    registry.drain_worker("w", "test").await.unwrap();
    registry.leave_worker("w", true).await.unwrap();
    assert_eq!(state(&registry, "w").await, WorkerState::Left);
    assert_eq!(registry.drain_worker("w", "test").await.unwrap_err().code(), Code::Conflict);
    registry.report_worker("w", &report("h:1")).await.unwrap();
    assert_eq!(state(&registry, "w").await, WorkerState::Ready, "it has come back");
    for wrong in ["", "h", "h:0", "h:x"] {
        assert_eq!(
            registry.report_worker("w", &report(wrong)).await.unwrap_err().code(),
            Code::InvalidRequest
        );
    }
    registry.revoke_worker("w", "test").await.unwrap();
    assert_eq!(registry.report_worker("w", &report("h:1")).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(registry.worker_with_key(&digest('1')).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(registry.enrol_worker(&token, "w", &digest('2')).await.unwrap_err().code(), Code::Conflict);
    assert_eq!(registry.revoke_worker("nobody", "test").await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn one_authority_counts() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path()).await.unwrap();
    registry.anchor_authority("first").await.unwrap();
    registry.anchor_authority("first").await.unwrap();
    assert_eq!(registry.anchor_authority("second").await.unwrap_err().code(), Code::Conflict);
}

#[tokio::test]
async fn slots_are_placed_under_the_lease() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path()).await.unwrap();
    let length = Duration::from_secs(30);
    let lease = registry.acquire_lease("placement", "a", length).await.unwrap().unwrap();
    let placed = |id: &str, worker: Option<&str>| Placed {
        id: id.to_owned(),
        model: "m".to_owned(),
        version: 1,
        number: 0,
        worker: worker.map(str::to_owned),
        memory_bytes: 5,
        cores: worker.map(|_| 3),
        leaving: false,
        why: String::new(),
        made_ms: 0,
    };
    let add = vec![placed("x", Some("w")), placed("y", None)];
    registry.place(&lease, &Placing { add, ..Placing::default() }).await.unwrap();
    let (both, _) = registry.placements().await.unwrap();
    assert_eq!(both.iter().map(|placed| placed.cores).collect::<Vec<_>>(), [Some(3), None]);
    let say = vec![("y".to_owned(), "no worker is there".to_owned())];
    registry.place(&lease, &Placing { say, ..Placing::default() }).await.unwrap();
    assert_eq!(registry.placements().await.unwrap().0[1].why, "no worker is there");
    let change = Placing { leave: vec!["x".into()], remove: vec!["y".into()], ..Placing::default() };
    registry.place(&lease, &change).await.unwrap();
    let (now, _) = registry.placements().await.unwrap();
    assert_eq!(now.len(), 1);
    assert!(
        now[0].leaving && now[0].id == "x" && now[0].worker.as_deref() == Some("w") && 0 < now[0].made_ms
    );
    over(dir.path()).await;
    let late = Placing { remove: vec!["x".into()], ..Placing::default() };
    assert_eq!(registry.place(&lease, &late).await.unwrap_err().code(), Code::Conflict);
    assert_eq!(registry.placements().await.unwrap().0.len(), 1, "who does not lead changes nothing");
}

async fn over(dir: &Path) {
    edit(dir, "UPDATE leases SET expires_ms = 1").await;
}

#[tokio::test]
async fn workers_hear_of_the_replicas_that_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path()).await.unwrap();
    let centres = async || registry.centres().await.unwrap();
    assert!(centres().await.is_empty());
    for address in ["a:1", "b:1", "a:1"] {
        registry.note_centre(address).await.unwrap();
    }
    assert_eq!(BTreeSet::from_iter(centres().await), BTreeSet::from(["a:1".to_owned(), "b:1".to_owned()]));
    registry.forget_centre("b:1").await.unwrap();
    assert_eq!(centres().await, ["a:1"]);
    edit(dir.path(), "UPDATE centres SET seen_ms = seen_ms - 61000").await;
    assert!(centres().await.is_empty(), "it says nothing any more");
}
