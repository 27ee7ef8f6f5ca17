//! Slots that live and do nothing.

use std::time::{Duration, Instant};

use bms_wire::Code;
use rustix::process::Signal;

use crate::harness::{Server, code, is_running, signal};

const HUNG_AFTER: Duration = Duration::from_millis(400);

async fn server() -> Server {
    Server::of_one_bundle(|settings| settings.launch.hung_after = HUNG_AFTER).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_holds_a_request_and_does_nothing_is_replaced_and_the_request_answered() {
    let server = server().await;
    let before = server.infer("{}").await.1["pid"].as_u64().unwrap();
    let flag = server.dir.path().join("hung");
    let (status, answer) = server.infer(&format!(r#"{{"hang_once": {flag:?}}}"#)).await;
    assert_eq!(status, 200, "{answer}");
    assert!(flag.exists());
    assert_ne!(answer["pid"].as_u64(), Some(before));
    assert!(!is_running(before));
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_computes_for_long_is_left_alone() {
    let server = server().await;
    let before = server.infer("{}").await.1["pid"].as_u64();
    let began = Instant::now();
    let (status, answer) = server.infer(r#"{"spin_ms": 2000}"#).await;
    assert_eq!(status, 200, "{answer}");
    assert!(4 * HUNG_AFTER < began.elapsed());
    assert_eq!(answer["pid"].as_u64(), before);
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_stops_without_requests_is_noticed_too() {
    let server = server().await;
    let before = server.infer("{}").await.1["pid"].as_u64().unwrap();
    signal(before, Signal::STOP);
    server.until("/metrics", |_, _| !is_running(before)).await;
    server.until("/v2/models/m/ready", |status, _| status == 200).await;
    assert_ne!(server.infer("{}").await.1["pid"].as_u64(), Some(before));
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_computes_past_the_deadline_is_replaced() {
    let server = Server::of_one_bundle(|settings| {
        settings.launch.hung_after = HUNG_AFTER;
        settings.deadline = Duration::from_secs(1);
    })
    .await;
    let before = server.infer("{}").await.1["pid"].as_u64().unwrap();
    let (status, body) = server.infer(r#"{"spin_ms": 600000}"#).await;
    assert_eq!((status, code(&body)), (504, Some(Code::DeadlineExceeded)));
    server.until("/v2/models/m/ready", |_, _| !is_running(before)).await;
    server.until("/v2/models/m/ready", |status, _| status == 200).await;
    assert_eq!(server.infer("{}").await.0, 200);
    server.stop().await.0.unwrap();
}
