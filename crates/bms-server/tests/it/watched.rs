//! Real slots that stand still, and those that only seem to.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::goes_on::Served;
use crate::harness::{SOON, Server, is_running, real_launch, signal};
use crate::lost::Load;
use crate::random_model::Size;

const HUNG_AFTER: Duration = Duration::from_millis(600);
const ADD: &str = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}]}"#;

async fn slot_of(server: &Server) -> u64 {
    server.get("/api/v1/slots").await.1[0]["pid"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_slot_is_found_under_load_and_no_request_is_lost() {
    let server = Server::with_registry(|settings| {
        settings.launch = real_launch();
        // As it is by default.
        settings.launch.hung_after = Duration::from_millis(bms_wire::limits::SLOT_HUNG_MS);
    })
    .await;
    server.publish(1, &["production"], &[]).await.unwrap();
    server.client(|client| client.deploy("m", "production")).await.unwrap();
    server.until("/v2/models/m/ready", |status, _| status == 200).await;
    assert_eq!(server.get("/v2/health/progress").await, (200, json!({ "progress": true })));
    let load = Load::of_answers(&server, 8, ADD.to_owned(), |answer| {
        assert_eq!(answer["outputs"][0]["data"], json!([2.0, 3.0]));
        (0, 0)
    });
    load.more(100).await;
    let slot = slot_of(&server).await;
    signal(slot, Signal::STOP);
    let stopped = Instant::now();
    // It still counts as ready, and its work does not move.
    let standing = server.until("/v2/models/m/progress", |status, _| status == 503).await;
    assert_eq!(standing["code"], "unavailable", "{standing}");
    server.until("/metrics", |_, _| !is_running(slot)).await;
    eprintln!("a stopped slot was found after {:.1} s", stopped.elapsed().as_secs_f32());
    load.more(100).await;
    load.end().await;
    let metrics = server.metrics().await;
    assert!(
        metrics.contains(r#"bms_slot_restarts_total{model="m",reason="hung",version="1"} 1"#),
        "{metrics}"
    );
    assert!(metrics.contains(r#"bms_slot_progress_age_seconds{model="m",version="1"} 0"#), "{metrics}");
    let reports = |_: u16, slots: &serde_json::Value| slots[0]["progress"]["steps"].is_u64();
    let slots = server.until("/api/v1/slots", reports).await;
    assert_eq!(slots[0]["last_restart"]["reason"], "hung", "{slots}");
    assert_eq!(slots[0]["progress"]["moving"], true, "{slots}");
    let written = |status: u16, audit: &serde_json::Value| {
        status == 200
            && audit.to_string().contains("\"slot.restarted\"")
            && audit.to_string().contains("\"hung\"")
    };
    server.until("/api/v1/audit", written).await;
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_with_nothing_to_do_is_left_alone() {
    let server = Server::of_one_bundle(|settings| {
        settings.launch = real_launch();
        settings.launch.hung_after = HUNG_AFTER;
    })
    .await;
    assert_eq!(server.infer(ADD).await.0, 200);
    tokio::time::sleep(5 * HUNG_AFTER).await;
    let (status, progress) = server.get("/v2/models/m/progress").await;
    assert_eq!((status, &progress["waiting"]), (200, &json!(0)), "{progress}");
    assert!(!server.metrics().await.contains("bms_slot_restarts_total{"));
    // And it is looked after all the same: one that stops is replaced before somebody needs it.
    assert_eq!(server.infer(ADD).await.0, 200);
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_prefill_is_left_alone() {
    // Deep enough for a prompt that takes several times the limit on a fast machine.
    let size = Size { width: 128, layers: 9, context: 16_384 };
    let served = Served::start(size, |settings| {
        settings.launch.hung_after = HUNG_AFTER;
        settings.launch.threads = Some(1);
    })
    .await;
    let slot = served.slot().unwrap();
    let prompt: String = (0..16_000u32).map(|n| char::from(b'a' + (n * n / 7 % 26) as u8)).collect();
    let body = json!({ "model": "m", "prompt": prompt, "max_tokens": 1, "ignore_eos": true });
    let address = served.address;
    let began = Instant::now();
    let asking = tokio::spawn(async move {
        crate::harness::Connection::open(address)
            .await
            .send("POST", "/v1/completions", &body.to_string())
            .await
    });
    let mut steps = Vec::new();
    while !asking.is_finished() {
        let (status, progress) = served.get("/v2/models/m/progress").await;
        assert_eq!(status, 200, "{progress}");
        if progress["waiting"] == 1 {
            steps.extend(progress["steps"].as_u64());
        }
        assert!(began.elapsed() < 10 * SOON);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (status, answer) = asking.await.unwrap();
    assert_eq!(status, 200, "{answer}");
    assert!(3 * HUNG_AFTER < began.elapsed(), "the prompt is too short for this test: {:?}", began.elapsed());
    steps.dedup();
    assert!(3 <= steps.len() && steps.is_sorted(), "{steps:?}");
    assert_eq!(served.slot(), Some(slot));
    assert!(!served.metrics().await.contains("bms_slot_restarts_total{"));
    served.end().await;
}
