//! The slot itself: gate, engine and protocol, behind the gateway.

use std::time::Duration;

use bms_bundle::{Policy, SigningKey};
use bms_server::Settings;
use bms_wire::{Code, limits};
use rustix::process::Signal;
use serde_json::json;
use tokio::net::TcpListener;

use crate::harness::{Server, code, is_running, real_launch, signal, unconfined, write_bundle};
use crate::lost::Load;

async fn server() -> Server {
    Server::of_one_bundle(|settings| settings.launch = real_launch()).await
}

fn request(datatype: &str, shape: [i64; 2], data: &serde_json::Value) -> String {
    json!({ "id": "a", "inputs": [{ "name": "x", "datatype": datatype, "shape": shape, "data": data }] })
        .to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_answers_through_the_gateway() {
    let server = server().await;
    let (status, answer) = server.infer(&request("FP32", [2, 2], &json!([[1.0, 2.0], [3.0, -4.5]]))).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        (&answer["model_name"], &answer["model_version"], &answer["id"]),
        (&"m".into(), &"1".into(), &"a".into())
    );
    assert_eq!(answer["outputs"][0]["name"], "y");
    assert_eq!(answer["outputs"][0]["shape"], json!([2, 2]));
    assert_eq!(answer["outputs"][0]["data"], json!([2.0, 3.0, 4.0, -3.5]));
    let (_, metadata) = server.get("/v2/models/m").await;
    assert_eq!(metadata["inputs"], json!([{ "name": "x", "datatype": "FP32", "shape": [-1, 2] }]));
    assert_eq!(metadata["versions"], json!(["1"]));
    assert!(metadata["platform"].as_str().unwrap().starts_with("onnx_"), "{metadata}");
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_answer_comes_whole() {
    let server = server().await;
    let rows = 50_000;
    let data: Vec<f32> = (0..2 * rows).map(|n| n as f32).collect();
    let (status, answer) = server.infer(&request("FP32", [rows, 2], &json!(data))).await;
    assert_eq!(status, 200);
    let out = answer["outputs"][0]["data"].as_array().unwrap();
    assert!(out.iter().zip(&data).all(|(y, x)| y.as_f64() == Some(f64::from(x + 1.0))));
    assert_eq!(out.len(), data.len());
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_input_gets_its_code_and_the_slot_goes_on() {
    let server = server().await;
    let ok = request("FP32", [1, 2], &json!([1.0, 2.0]));
    for (body, expected) in [
        (String::new(), Code::InvalidRequest),
        ("{".to_owned(), Code::InvalidRequest),
        (r#"{"inputs": 7}"#.to_owned(), Code::InvalidRequest),
        (json!({ "inputs": [] }).to_string(), Code::InvalidInput),
        (request("FP32", [1, 3], &json!([1.0, 2.0, 3.0])), Code::InvalidInput),
        (request("FP32", [1, 2], &json!([1.0])), Code::InvalidInput),
        (request("INT64", [1, 2], &json!([1, 2])), Code::InvalidInput),
        (request("FP32", [1, 2], &json!(["NaN", 2.0])), Code::InvalidInput),
        (request("FP32", [1, 2], &json!([1e300, 2.0])), Code::InvalidInput),
        (ok.replace(r#""x""#, r#""z""#), Code::InvalidInput),
    ] {
        let (status, answer) = server.infer(&body).await;
        assert_eq!((status, code(&answer)), (expected.http(), Some(expected)), "{body}: {answer}");
    }
    let binary = [("inference-header-content-length", "10")];
    let answer = server.connect().await.raw("POST", "/v2/models/m/infer", ok.clone(), &binary).await;
    assert_eq!(answer.status(), 400);
    assert_eq!(server.infer(&ok).await.0, 200);
    let metrics = server.metrics().await;
    assert!(metrics.contains(r#"bms_slots{model="m",state="ready",version="1"} 1"#), "{metrics}");
    assert!(!metrics.contains("bms_slot_restarts_total{"), "{metrics}");
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_slot_killed_under_load_loses_no_request() {
    let server = Server::with_registry(|settings| settings.launch = real_launch()).await;
    server.publish(1, &["production"], &[]).await.unwrap();
    server.client(|client| client.deploy("m", "production")).await.unwrap();
    server.until("/v2/models/m/ready", |status, _| status == 200).await;
    let load = Load::of_answers(&server, 8, request("FP32", [1, 2], &json!([1.0, 2.0])), |answer| {
        assert_eq!(answer["outputs"][0]["data"], json!([2.0, 3.0]));
        (0, answer["model_version"].as_str().unwrap().parse().unwrap())
    });
    for _ in 0..3 {
        load.more(200).await;
        let slots = server.until("/api/v1/slots", |_, slots| slots[0]["state"] == "ready").await;
        signal(slots[0]["pid"].as_u64().unwrap(), Signal::KILL);
    }
    load.more(200).await;
    load.end().await;
    let (_, slots) = server.get("/api/v1/slots").await;
    assert_eq!(slots[0]["restarts"], 3);
    assert!(600 < slots[0]["requests"].as_u64().unwrap(), "{slots}");
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_told_to_terminate_is_replaced_without_loss() {
    let server = Server::with_registry(|settings| settings.launch = real_launch()).await;
    server.publish(1, &["production"], &[]).await.unwrap();
    server.client(|client| client.deploy("m", "production")).await.unwrap();
    server.until("/v2/models/m/ready", |status, _| status == 200).await;
    let load = Load::of_answers(&server, 8, request("FP32", [1, 2], &json!([1.0, 2.0])), |_| (0, 0));
    load.more(100).await;
    let (_, slots) = server.get("/api/v1/slots").await;
    let pid = slots[0]["pid"].as_u64().unwrap();
    signal(pid, Signal::TERM);
    server.until("/api/v1/slots", |_, slots| !is_running(pid) && slots[0]["state"] == "ready").await;
    load.more(100).await;
    load.end().await;
    server.stop().await.0.unwrap();
}

/// Serves one bundle under a policy that trusts `key` only; the code it is refused with.
async fn refusal(prepare: impl FnOnce(&std::path::Path, &SigningKey)) -> Code {
    let dir = tempfile::tempdir().unwrap();
    let bundle = dir.path().join("bundle");
    write_bundle(&bundle, "m", 1, &[]);
    let key = SigningKey::generate();
    prepare(&bundle, &key);
    let policy = unconfined(Policy::trusting(key.public(), "us"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = Settings::new(real_launch(), dir.path().join("work"));
    let shutdown = tokio::time::sleep(Duration::from_secs(60));
    let served = bms_server::serve_one(
        settings,
        bms_server::Place::Bundle(bundle.clone()),
        policy,
        listener,
        shutdown,
    )
    .await;
    served.unwrap_err().code()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gate_is_in_front_of_every_slot() {
    assert_eq!(refusal(|_, _| {}).await, Code::SignatureMissing);
    let strange = refusal(|bundle, _| bms_bundle::sign_dir(bundle, &SigningKey::generate()).unwrap());
    assert_eq!(strange.await, Code::SignerUntrusted);
    let changed = refusal(|bundle, key| {
        bms_bundle::sign_dir(bundle, key).unwrap();
        let model = bundle.join("model.onnx");
        let mut bytes = std::fs::read(&model).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&model, bytes).unwrap();
    });
    assert_eq!(changed.await, Code::Tampered);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_bundle_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = dir.path().join("bundle");
    write_bundle(&bundle, "m", 1, &[]);
    let key = SigningKey::generate();
    bms_bundle::sign_dir(&bundle, &key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let settings = Settings::new(real_launch(), dir.path().join("work"));
    let policy = unconfined(Policy::trusting(key.public(), "us"));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        let shutdown = async { stopped.await.unwrap_or_default() };
        bms_server::serve_one(settings, bms_server::Place::Bundle(bundle.clone()), policy, listener, shutdown)
            .await
    });
    let mut connection = crate::harness::Connection::open(address).await;
    let (status, answer) =
        connection.send("POST", "/v2/models/m/infer", &request("FP32", [1, 2], &json!([0.0, 1.0]))).await;
    assert_eq!((status, &answer["outputs"][0]["data"]), (200, &json!([1.0, 2.0])));
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_rows_than_a_batch_holds_are_answered() {
    let server = server().await;
    let rows = 3 * limits::BATCH_ROWS_MAX as i64 + 1;
    let data: Vec<f32> = vec![0.5; 2 * rows as usize];
    let (status, answer) = server.infer(&request("FP32", [rows, 2], &json!(data))).await;
    assert_eq!((status, &answer["outputs"][0]["shape"]), (200, &json!([rows, 2])));
    server.stop().await.0.unwrap();
}
