//! Slots that end under load: no request is lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bms_wire::Code;
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Connection, SOON, Server, code, is_running, launch, signal};

/// Clients that keep asking until told to stop. Each answer's process and version, in one client's order.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<tokio::task::JoinHandle<Vec<(u64, u64)>>>,
}

impl Load {
    /// Load on stand-ins.
    pub(crate) fn on(server: &Server, clients: usize, body: &str) -> Load {
        Load::of_answers(server, clients, body.to_owned(), |answer| {
            (answer["pid"].as_u64().unwrap(), answer["version"].as_u64().unwrap())
        })
    }

    /// Load whose answers are looked at by `seen`.
    pub(crate) fn of_answers(
        server: &Server,
        clients: usize,
        body: String,
        seen: fn(&Value) -> (u64, u64),
    ) -> Load {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let address = server.address;
        let client = |_| {
            let (stop, answered, body) = (stop.clone(), answered.clone(), body.clone());
            tokio::spawn(async move {
                let mut connection = Connection::open(address).await;
                let mut answers = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let (status, answer) = connection.send("POST", "/v2/models/m/infer", &body).await;
                    assert_eq!(status, 200, "{answer}");
                    answers.push(seen(&answer));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                answers
            })
        };
        let clients = (0..clients).map(client).collect();
        Load { stop, answered, clients }
    }

    /// Waits until that many more answers have come.
    pub(crate) async fn more(&self, answers: u64) {
        let enough = self.answered.load(Ordering::Relaxed) + answers;
        let coming = async {
            while self.answered.load(Ordering::Relaxed) < enough {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON, coming).await.expect("answers keep coming");
    }

    pub(crate) async fn end(self) -> Vec<Vec<(u64, u64)>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut answers = Vec::new();
        for client in self.clients {
            answers.push(client.await.unwrap());
        }
        answers
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_the_slot_under_load_loses_no_request() {
    let server = Server::of_one_bundle(|_| {}).await;
    let load = Load::on(&server, 16, r#"{"sleep_ms": 5}"#);
    for _ in 0..4 {
        load.more(100).await;
        let (_, answer) = server.infer("{}").await;
        signal(answer["pid"].as_u64().unwrap(), Signal::KILL);
    }
    load.more(100).await;
    let answers = load.end().await;
    let processes: BTreeSet<u64> = answers.iter().flatten().map(|(pid, _)| *pid).collect();
    assert_eq!(processes.len(), 5, "{processes:?}");
    let metrics = server.metrics().await;
    assert!(
        metrics.contains(r#"bms_slot_restarts_total{model="m",reason="ended",version="1"} 4"#),
        "{metrics}"
    );
    assert!(metrics.contains(r#"bms_requests_in_flight{model="m"} 0"#), "{metrics}");
    assert!(metrics.contains(r#"bms_request_retries_total{model="m"} "#), "{metrics}");
    assert!(metrics.contains(r#"bms_slots{model="m",state="ready",version="1"} 1"#), "{metrics}");
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_ends_every_slot_is_given_up_and_the_others_go_on() {
    let server = Server::of_one_bundle(|settings| settings.deadline = Duration::from_secs(3)).await;
    let (status, body) = server.infer(r#"{"exit": true}"#).await;
    assert!([Some(Code::Unavailable), Some(Code::DeadlineExceeded)].contains(&code(&body)), "{body}");
    assert!([503, 504].contains(&status));
    assert_eq!(server.until("/v2/health/ready", |status, _| status == 200).await["ready"], true);
    assert_eq!(server.infer("{}").await.0, 200);
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_says_it_is_unavailable_is_asked_again_and_then_believed() {
    let server = Server::of_one_bundle(|_| {}).await;
    let (status, body) = server.infer(r#"{"status": 503}"#).await;
    assert_eq!((status, code(&body)), (503, Some(Code::Unavailable)));
    // Any other answer of the slot is the client's.
    assert_eq!(server.infer(r#"{"status": 400}"#).await.0, 400);
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_ends_with_its_server() {
    let server = Server::of_one_bundle(|_| {}).await;
    let pid = server.infer("{}").await.1["pid"].as_u64().unwrap();
    assert!(is_running(pid));
    server.stop().await.0.unwrap();
    assert!(!is_running(pid));
    // And when the server has no time to end it: the pipe closes with the process that holds it.
    let mut launch = launch("serve");
    launch.args.extend(["--bundle", "/", "--policy", "/proc/self/exe", "--socket"].map(Into::into));
    let socket = std::env::temp_dir().join(format!("bms-orphan-{}.sock", std::process::id()));
    let mut child = std::process::Command::new(&launch.program)
        .args(&launch.args)
        .arg(&socket)
        .envs(launch.environment)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stdin.take());
    let ended = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
    std::fs::remove_file(socket).ok();
    assert_eq!(ended.code(), Some(0), "{ended}");
}
