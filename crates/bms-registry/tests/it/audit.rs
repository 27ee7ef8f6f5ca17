//! Whoever edits the database or the head file is found out.

use bms_registry::Registry;
use bms_wire::Code;
use serde_json::json;

use crate::bundles::Site;
use crate::databases::{begin_anew, edit, open};

async fn site() -> Site {
    let site = Site::new().await;
    for n in 0..9 {
        site.registry
            .audit("test.happened", &format!("thing-{n}"), json!({ "n": n, "a": [null, 1.5] }))
            .await
            .unwrap();
    }
    assert_eq!(site.registry.audit_verify().await.unwrap(), 10);
    site
}

/// Tampers and expects that verification says `want`, before and after more events were added and the
/// registry was opened anew.
async fn check(sql: &str, want: &str) {
    let site = site().await;
    edit(&site.root(), sql).await;
    found(&site.registry, want).await;
    // The chain may have grown over the place by now, but not healed.
    for n in 0..12 {
        if site.registry.audit("test.later", &n.to_string(), json!({})).await.is_err() {
            break;
        }
    }
    let reopened = open(&site.root()).await.unwrap();
    let error = reopened.audit_verify().await.unwrap_err();
    assert_eq!(error.code(), Code::Tampered, "after more events: {error}");
}

async fn found(registry: &Registry, want: &str) {
    let error = registry.audit_verify().await.unwrap_err();
    assert_eq!(error.code(), Code::Tampered, "{error}");
    assert!(error.message().contains(want), "{error}, expected `{want}`");
}

#[tokio::test]
async fn edited_events_are_found() {
    check("UPDATE audit_events SET details = '{\"n\":99}' WHERE sequence = 4", "event 4 was changed").await;
    check("UPDATE audit_events SET subject = 'other' WHERE sequence = 4", "event 4 was changed").await;
    check("UPDATE audit_events SET action = 'other' WHERE sequence = 10", "event 10 was changed").await;
    check("UPDATE audit_events SET at_ms = at_ms + 1 WHERE sequence = 1", "event 1 was changed").await;
    check("UPDATE audit_events SET hash = previous WHERE sequence = 5", "event 5 was changed").await;
}

#[tokio::test]
async fn an_event_forged_with_its_hash_does_not_fit_the_next() {
    let site = site().await;
    let event = site.registry.audit_events(3, 1).await.unwrap().remove(0);
    let json = format!(
        r#"{{"action":"forged","at_ms":{},"details":{{}},"previous":"{}","sequence":4,"subject":"x"}}"#,
        event.at_ms, event.previous
    );
    let hash = blake3::hash(json.as_bytes()).to_hex();
    let forge = format!(
        "UPDATE audit_events SET action = 'forged', details = '{{}}', subject = 'x', hash = '{hash}' WHERE sequence = 4"
    );
    edit(&site.root(), &forge).await;
    found(&site.registry, "event 5 does not follow").await;
}

#[tokio::test]
async fn dropped_events_are_found() {
    check("DELETE FROM audit_events WHERE sequence = 4", "event 4 is missing").await;
    check("DELETE FROM audit_events WHERE sequence = 1", "event 1 is missing").await;
    check(
        "DELETE FROM audit_events WHERE sequence = 4;
         UPDATE audit_events SET sequence = sequence - 1 WHERE sequence > 4",
        "event 4 was changed",
    )
    .await;
}

#[tokio::test]
async fn reordered_events_are_found() {
    check(
        "UPDATE audit_events SET sequence = 100 WHERE sequence = 4;
         UPDATE audit_events SET sequence = 4 WHERE sequence = 5;
         UPDATE audit_events SET sequence = 5 WHERE sequence = 100",
        "event 4 was changed",
    )
    .await;
}

#[tokio::test]
async fn a_cut_off_end_is_found() {
    check("DELETE FROM audit_events WHERE sequence > 7", "ends at event 7, not at event 10").await;
    let with_head = "DELETE FROM audit_events WHERE sequence > 7;
        UPDATE audit_head SET sequence = 7, hash = (SELECT hash FROM audit_events WHERE sequence = 7)";
    check(with_head, "does not hold event 10").await;
    check("DELETE FROM audit_events; DELETE FROM audit_head", "does not hold event 10").await;
}

#[tokio::test]
async fn a_database_begun_anew_is_found() {
    let site = site().await;
    let root = site.root();
    drop(site.registry);
    begin_anew(&root).await;
    let reopened = open(&root).await.unwrap();
    found(&reopened, "does not hold event 10").await;
}

#[tokio::test]
async fn a_removed_or_edited_head_file_is_found() {
    let site = site().await;
    let file = site.root().join("audit.head");
    let kept = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    found(&site.registry, "`audit.head` is missing").await;
    site.registry.audit("test.later", "x", json!({})).await.unwrap();
    found(&open(&site.root()).await.unwrap(), "`audit.head` is missing").await;
    std::fs::write(&file, b"{").unwrap();
    found(&site.registry, "was changed").await;
    // A file that lags behind is what a crash leaves; it is legal and catches up.
    std::fs::write(&file, &kept).unwrap();
    assert_eq!(site.registry.audit_verify().await.unwrap(), 11);
    site.registry.audit("test.later", "y", json!({})).await.unwrap();
    assert!(std::fs::read_to_string(&file).unwrap().contains("\"sequence\":12"));
}

#[tokio::test]
async fn events_are_listed_in_pages_and_hash_as_documented() {
    let site = site().await;
    let events = site.registry.audit_events(3, 2).await.unwrap();
    assert_eq!(events.iter().map(|e| e.sequence).collect::<Vec<_>>(), [4, 5]);
    assert_eq!(events[1].previous, events[0].hash);
    let latest = site.registry.audit_latest(2).await.unwrap();
    assert_eq!(latest.iter().map(|e| e.sequence).collect::<Vec<_>>(), [10, 9]);

    // Computed here from the listing alone, as an auditor would.
    let event = &events[0];
    let json = format!(
        r#"{{"action":"{}","at_ms":{},"details":{{"a":[null,1.5],"n":2}},"previous":"{}","sequence":4,"subject":"{}"}}"#,
        event.action, event.at_ms, event.previous, event.subject
    );
    assert_eq!(event.hash, blake3::hash(json.as_bytes()).to_hex().to_string());
}

#[tokio::test]
async fn events_have_a_limit() {
    let site = Site::new().await;
    let long = site.registry.audit("test", "x", json!("y".repeat(70_000))).await.unwrap_err();
    assert_eq!(long.code(), Code::TooLarge);
    let long = site.registry.audit("test", &"x".repeat(2000), json!({})).await.unwrap_err();
    assert_eq!(long.code(), Code::TooLarge);
    assert_eq!(site.registry.audit_verify().await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn events_written_at_once_make_one_chain() {
    let site = Site::new().await;
    let other = open(&site.root()).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..40 {
        let registry = if n % 2 == 0 { site.registry.clone() } else { other.clone() };
        tasks.spawn(async move { registry.audit("test", &n.to_string(), json!({})).await.unwrap().sequence });
    }
    let mut sequences = tasks.join_all().await;
    sequences.sort();
    assert_eq!(sequences, (2..=41).collect::<Vec<_>>());
    assert_eq!(other.audit_verify().await.unwrap(), 41);
}
