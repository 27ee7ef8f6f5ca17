//! Certificates of workers: renewed in time, refused after their end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bms_bundle::{Policy, SigningKey};
use bms_server::{JoinSettings, Nodes, Settings};
use bms_wire::Code;
use bms_wire::api::WorkerState;
use serde_json::Value;

use crate::harness::{SOON, Server, launch};
use crate::lost::Load;
use crate::workers::{Worker, deploy, settings, token, until_at, until_seen};

/// An address nobody listens on, the same after a restart.
fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Seconds of the certificates of these tests.
const BRIEF: u64 = 4;

fn brief(nodes: SocketAddr, authority: PathBuf) -> impl FnOnce(&mut Settings) {
    move |settings| {
        let nodes = Nodes::new(nodes, authority);
        settings.launch = launch("serve");
        settings.nodes = Some(Nodes { certificates_last: Duration::from_secs(BRIEF), ..nodes });
    }
}

/// What a worker keeps of itself.
fn kept(data: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(data.join("worker.json")).unwrap()).unwrap()
}

fn now_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_renews_its_certificate_in_time_and_the_old_one_ends() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = free_address();
    let server = Server::with_registry(brief(nodes, dir.path().join("ca"))).await;
    let data = dir.path().join("w");
    let policy = Policy::development();
    let joining = settings(&data, "w", token(&server).await, policy.clone());
    let worker = Worker::join(JoinSettings { launch: launch("serve"), ..joining }).await.unwrap();
    let first = kept(&data);
    deploy(&server, &SigningKey::generate()).await;
    until_at(&server, Some("w")).await;
    let load = Load::on(&server, 2, r#"{"sleep_ms":2}"#);
    let (began, mut certificates) = (Instant::now(), vec![first["certificate"].clone()]);
    while certificates.len() < 5 {
        assert!(began.elapsed() < SOON, "{} certificates", certificates.len());
        let certificate = kept(&data)["certificate"].clone();
        if !certificates.contains(&certificate) {
            certificates.push(certificate);
        }
        load.more(1).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(Duration::from_secs(BRIEF) < began.elapsed(), "the first one has ended by now");
    // New connections are made with the certificates of now, in both directions.
    until_at(&server, Some("w")).await;
    load.more(50).await;
    let pids: Vec<_> = load.end().await.into_iter().flatten().map(|(pid, _)| pid).collect();
    assert!(pids.iter().all(|pid| *pid == pids[0]), "the same process answered all the time");

    // Whoever has the first one, and says that it is fresh, is let in no more.
    let stolen = dir.path().join("stolen");
    std::fs::create_dir(&stolen).unwrap();
    let mut old = first.clone();
    old["certified_ms"] = now_ms().into();
    std::fs::write(stolen.join("worker.json"), old.to_string()).unwrap();
    let error = Worker::join(settings(&stolen, "w", None, policy)).await.err().expect("it is not let in");
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert!(error.body().hint.unwrap().contains("fresh token"), "{error}");
    worker.leave().await;
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_was_cut_off_for_too_long_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let (nodes, ca) = (free_address(), dir.path().join("ca"));
    let server = Server::with_registry(brief(nodes, ca.clone())).await;
    let data = dir.path().join("w");
    let policy = Policy::development();
    let joining = settings(&data, "w", token(&server).await, policy.clone());
    let worker = Worker::join(joining).await.unwrap();
    let (stopping, folder) = server.begin_stop();
    stopping.await.unwrap().unwrap();
    let what_to_do = |error: bms_wire::Error| {
        assert_eq!(error.code(), Code::PermissionDenied, "{error}");
        assert!(error.message().contains("has ended"), "{error}");
        assert!(error.body().hint.unwrap().contains("fresh token"), "{error}");
    };
    let ended = tokio::time::timeout(SOON, worker.task).await.expect("it ends by itself");
    what_to_do(ended.unwrap().unwrap_err());

    let server = Server::again_as(folder, brief(nodes, ca)).await;
    what_to_do(Worker::join(settings(&data, "w", None, policy.clone())).await.err().unwrap());
    let worker = Worker::join(settings(&data, "w", token(&server).await, policy)).await.unwrap();
    let registry = server.registry.clone().unwrap();
    until_seen(&registry, |worker| worker.name == "w" && worker.state == WorkerState::Ready).await;
    assert_eq!(registry.workers().await.unwrap().len(), 1, "it stays the same worker");
    worker.leave().await;
    server.stop().await.0.unwrap();
}
