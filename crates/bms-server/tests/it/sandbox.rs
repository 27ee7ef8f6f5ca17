//! What a slot tries and may not: the metric, the audit log, and the formats that need a confined process.

use bms_bundle::Policy;
use bms_sandbox::Support;
use bms_server::{Place, Settings};
use bms_wire::Code;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::harness::{Server, launch, real_launch, write_bundle};

/// Whether this machine confines processes and tells what it denies. In CI it must.
fn possible() -> bool {
    let support = Support::detect();
    let possible = support.confines() && support.notification;
    if !possible {
        eprintln!("SKIPPED: this machine confines no process: {support:?}");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI must run where processes are confined");
    }
    possible
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_slot_tries_and_may_not_is_counted_and_audited() {
    if !possible() {
        return;
    }
    let server = Server::with_registry(|settings| settings.launch = launch("trespass")).await;
    server.publish(1, &["production"], &[]).await.unwrap();
    server.client(|client| client.deploy("m", "production")).await.unwrap();
    let all = |_: u16, events: &Value| {
        let events = events.as_array().unwrap();
        let tried = |call: &str| events.iter().any(|event| event["details"]["call"] == call);
        tried("openat")
            && tried("socket")
            && events.iter().filter(|e| e["action"] == "sandbox.denied").count() >= 4
    };
    let events = server.until("/api/v1/audit", all).await;
    let denied: Vec<&Value> =
        events.as_array().unwrap().iter().filter(|event| event["action"] == "sandbox.denied").collect();
    let passwd = denied.iter().find(|event| event["details"]["target"] == "/etc/passwd").unwrap();
    assert_eq!((&passwd["subject"], &passwd["details"]["times"]), (&json!("m@1"), &json!(1)));
    assert!(denied.iter().any(|event| event["details"]["target"] == "IPv4"), "{denied:?}");
    let metrics = server.metrics().await;
    for call in ["openat", "socket"] {
        let counted = format!("bms_sandbox_denied_total{{call=\"{call}\",model=\"m\"}} ");
        assert!(metrics.contains(&counted), "{metrics}");
    }
    server.registry.as_ref().unwrap().audit_verify().await.unwrap();
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graph_is_refused_in_a_process_that_is_not_confined() {
    // These slots never are: the harness has a thread beside them.
    let dir = tempfile::tempdir().unwrap();
    let bundle = dir.path().join("bundle");
    write_bundle(&bundle, "m", 1, &[]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = Settings::new(real_launch(), dir.path().join("work"));
    let policy = Policy::development();
    let served =
        bms_server::serve_one(settings, Place::Bundle(bundle), policy, listener, std::future::pending());
    let error = served.await.unwrap_err();
    assert_eq!(error.code(), Code::FormatDenied, "{error}");
    assert!(error.advice().unwrap().contains("bms doctor"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_admits_unconfined_models_is_audited() {
    // The harness's policy does.
    let server = Server::with_registry(|_| {}).await;
    let (_, events) = server.get("/api/v1/audit").await;
    let event =
        events.as_array().unwrap().iter().find(|event| event["action"] == "policy.unconfined").unwrap();
    assert_eq!(event["details"]["formats"], json!(["onnx"]));
    server.stop().await.0.unwrap();
}
