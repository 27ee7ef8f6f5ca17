//! One at a time: leases between processes that are killed, and between those that sleep through theirs.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use bms_registry::Registry;
use bms_wire::Code;
use serde_json::{Value, json};

use crate::databases::{edit, open};

/// Names the registry's folder to a process that holds the lease.
const CHILD: &str = "BMS_REGISTRY_TEST_LEADS_IN";
const NAME: &str = "work";
/// Long enough for a busy machine to renew it in time.
const LENGTH: Duration = Duration::from_secs(3);

#[tokio::test]
async fn one_holder_at_a_time_and_tokens_that_only_grow() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path()).await.unwrap();
    let other = open(dir.path()).await.unwrap();
    let first = registry.acquire_lease(NAME, "a", LENGTH).await.unwrap().unwrap();
    assert_eq!(other.acquire_lease(NAME, "b", LENGTH).await.unwrap(), None);
    assert!(other.acquire_lease("another", "b", LENGTH).await.unwrap().is_some());
    registry.renew_lease(&first).await.unwrap();
    registry.audit_under(&first, "test", "1", json!({})).await.unwrap();
    registry.release_lease(first.clone()).await.unwrap();
    let second = other.acquire_lease(NAME, "b", LENGTH).await.unwrap().unwrap();
    assert!(first.token() < second.token());
    // The same holder once more, which has lost the answer to its first call: the older token is over.
    let third = other.acquire_lease(NAME, "b", LENGTH).await.unwrap().unwrap();
    assert!(second.token() < third.token());
    for over in [&first, &second] {
        let refused = registry.audit_under(over, "test", "late", json!({})).await.unwrap_err();
        assert_eq!(refused.code(), Code::Conflict, "{refused}");
        assert_eq!(registry.renew_lease(over).await.unwrap_err().code(), Code::Conflict);
        assert_eq!(registry.release_lease(over.clone()).await.unwrap_err().code(), Code::Conflict);
    }
    other.audit_under(&third, "test", "2", json!({})).await.unwrap();
    let events = registry.audit_events(0, 100).await.unwrap();
    assert!(events.iter().all(|event| event.subject != "late"));
}

#[tokio::test]
async fn a_lease_ends_by_the_clock_of_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path()).await.unwrap();
    let lease = registry.acquire_lease(NAME, "a", LENGTH).await.unwrap().unwrap();
    edit(dir.path(), "UPDATE leases SET expires_ms = 1").await;
    // Nobody else has taken it, and still nothing is written under it any more.
    let refused = registry.audit_under(&lease, "test", "late", json!({})).await.unwrap_err();
    assert_eq!(refused.code(), Code::Conflict);
    assert!(registry.acquire_lease(NAME, "b", LENGTH).await.unwrap().is_some());
}

#[tokio::test]
async fn what_was_done_lately_is_not_due() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path()).await.unwrap();
    let day = Duration::from_secs(86_400);
    let lease = registry.acquire_due_lease(NAME, "a", LENGTH, day).await.unwrap().unwrap();
    registry.finish_lease(lease).await.unwrap();
    assert_eq!(registry.acquire_due_lease(NAME, "b", LENGTH, day).await.unwrap(), None);
    let lease = registry.acquire_due_lease(NAME, "b", LENGTH, Duration::ZERO).await.unwrap().unwrap();
    // Given back without having been brought to its end: what was done before still counts.
    registry.release_lease(lease).await.unwrap();
    assert_eq!(registry.acquire_due_lease(NAME, "a", LENGTH, day).await.unwrap(), None);
}

#[tokio::test]
async fn names_and_lengths_have_limits() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path()).await.unwrap();
    let long = "x".repeat(1000);
    let week = Duration::from_secs(7 * 86_400);
    for (name, holder, length) in [
        ("", "a", LENGTH),
        (NAME, "", LENGTH),
        (NAME, &long, LENGTH),
        (NAME, "a", Duration::ZERO),
        (NAME, "a", week),
    ] {
        let refused = registry.acquire_lease(name, holder, length).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidRequest);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_ask_at_once_one_gets_it() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path()).await.unwrap();
    let mut asking = tokio::task::JoinSet::new();
    for n in 0..16 {
        let registry = registry.clone();
        asking.spawn(async move { registry.acquire_lease(NAME, &format!("p{n}"), LENGTH).await.unwrap() });
    }
    let got = asking.join_all().await.into_iter().flatten().count();
    assert_eq!(got, 1);
}

#[test]
fn another_takes_over_from_a_holder_that_was_killed() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return lead(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut first = Leader::start(dir.path(), "killed");
    let token = first.writes(5);
    let mut second = Leader::start(dir.path(), "killed");
    first.child.kill().unwrap();
    let began = Instant::now();
    assert!(token < second.writes(5));
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    second.child.kill().unwrap();
    check(dir.path());
}

#[test]
fn a_holder_that_slept_through_its_lease_writes_nothing_any_more() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return lead(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut first = Leader::start(dir.path(), "stopped");
    let token = first.writes(5);
    // It pauses after each write, so it stops between two of them.
    first.signal("STOP");
    let mut second = Leader::start(dir.path(), "stopped");
    let newer = second.writes(5);
    assert!(token < newer);
    first.signal("CONT");
    // It wakes up, still believes that it leads, and is refused.
    assert_eq!(first.until("refused")["token"], token);
    assert!(newer <= second.writes(3), "who leads goes on leading");
    // Once the second has gone as well, the first leads again, under another token.
    second.child.kill().unwrap();
    assert!(newer < first.writes(1));
    first.child.kill().unwrap();
    check(dir.path());
}

/// A process that leads whenever it can.
struct Leader {
    child: Child,
    said: std::io::Lines<BufReader<ChildStdout>>,
}

impl Leader {
    fn start(dir: &Path, which: &str) -> Leader {
        let test = match which {
            "killed" => "leases::another_takes_over_from_a_holder_that_was_killed",
            _ => "leases::a_holder_that_slept_through_its_lease_writes_nothing_any_more",
        };
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(CHILD, dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        Leader { child, said }
    }

    /// The next thing of this kind that it says.
    fn until(&mut self, what: &str) -> Value {
        loop {
            let line = self.said.next().expect("it goes on until it is killed").unwrap();
            let said = line.split_once("ack ").and_then(|(_, said)| serde_json::from_str::<Value>(said).ok());
            if let Some(said) = said.filter(|said| said["what"] == what) {
                return said;
            }
        }
    }

    /// Waits for so many writes; the token of the last.
    fn writes(&mut self, writes: usize) -> u64 {
        (0..writes).map(|_| self.until("wrote")["token"].as_u64().unwrap()).last().unwrap()
    }

    fn signal(&self, signal: &str) {
        let kill = Command::new("kill").args([format!("-{signal}"), self.child.id().to_string()]).status();
        assert!(kill.unwrap().success());
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What the audit log holds was written by one leader after the other, never by two in turns.
fn check(dir: &Path) {
    runtime().block_on(async {
        let registry = open(dir).await.unwrap();
        let events = registry.audit_events(0, 10_000).await.unwrap();
        let tokens: Vec<u64> = events
            .iter()
            .filter(|event| event.action == "test.led")
            .map(|event| event.details["token"].as_u64().unwrap())
            .collect();
        assert!(10 <= tokens.len(), "{tokens:?}");
        assert!(tokens.is_sorted(), "{tokens:?}");
        registry.audit_verify().await.unwrap();
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Leads for ever: renews when half of the lease is over, and writes.
fn lead(dir: &Path) {
    let holder = format!("process {}", std::process::id());
    runtime().block_on(async {
        let registry: Registry = open(dir).await.unwrap();
        loop {
            let Some(lease) = registry.acquire_lease(NAME, &holder, LENGTH).await.unwrap() else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let mut renewed = Instant::now();
            loop {
                let details = json!({ "token": lease.token() });
                match registry.audit_under(&lease, "test.led", &holder, details).await {
                    Ok(_) => say(&json!({ "what": "wrote", "token": lease.token() })),
                    Err(error) => {
                        assert_eq!(error.code(), Code::Conflict, "{error}");
                        say(&json!({ "what": "refused", "token": lease.token() }));
                        break;
                    }
                }
                // Here it is stopped.
                tokio::time::sleep(Duration::from_millis(200)).await;
                // A sleeper does not notice that time has passed, and writes first.
                if (LENGTH / 3..LENGTH).contains(&renewed.elapsed()) {
                    if registry.renew_lease(&lease).await.is_err() {
                        break;
                    }
                    renewed = Instant::now();
                }
            }
        }
    });
}

fn say(what: &Value) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ack {what}").unwrap();
    out.flush().unwrap();
}
