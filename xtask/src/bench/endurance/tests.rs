use bms_wire::api::AuditEvent;
use serde_json::{Value, json};

use super::verdict::decided_once;

fn event(action: &str, details: Value) -> AuditEvent {
    let text = String::new;
    AuditEvent {
        sequence: 1,
        at_ms: 0,
        action: action.to_owned(),
        subject: super::scene::TENSORS.to_owned(),
        details,
        previous: text(),
        hash: text(),
    }
}

fn step(number: u64, token: u64) -> AuditEvent {
    event("rollout.step", json!({ "step": number, "under": { "token": token } }))
}

fn promoted(token: u64) -> AuditEvent {
    event("rollout.promoted", json!({ "under": { "token": token } }))
}

#[test]
fn decisions_that_are_doubled_or_late_are_found() {
    let begun = || event("rollout.begun", json!({}));
    assert_eq!(decided_once(&[begun(), step(0, 1), step(1, 1), step(2, 2), promoted(2)]), Ok(()));
    for wrong in [
        vec![begun(), step(0, 1), step(0, 1), promoted(1)],
        vec![begun(), step(0, 2), step(1, 1), promoted(2)],
        vec![begun(), step(0, 1), promoted(1), promoted(1)],
        vec![begun(), step(0, 1), promoted(2), step(1, 2)],
        vec![begun(), step(0, 1)],
        vec![],
    ] {
        assert!(decided_once(&wrong).is_err(), "{wrong:?}");
    }
}
