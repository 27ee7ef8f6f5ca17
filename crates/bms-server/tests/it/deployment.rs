//! Deployments follow their alias, and lose nothing on the way.

use std::time::Duration;

use bms_wire::Code;
use bms_wire::api::SetAlias;

use crate::harness::{Server, code, is_running};
use crate::lost::Load;
use crate::stand_in::REFUSED_FILE;

async fn move_alias(server: &Server, version: u64) {
    let change = SetAlias { version, require: None, current: None };
    server.client(move |client| client.set_alias("m", "production", &change)).await.unwrap();
}

/// A server with version 1 deployed and ready.
async fn deployed() -> Server {
    let server = Server::with_registry(|_| {}).await;
    assert_eq!(server.publish(1, &["production"], &[]).await.unwrap(), 1);
    server.client(|client| client.deploy("m", "production")).await.unwrap();
    server.until("/v2/models/m/ready", |status, _| status == 200).await;
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_the_alias_under_load_loses_no_request() {
    let server = deployed().await;
    let load = Load::on(&server, 16, r#"{"sleep_ms": 20}"#);
    load.more(100).await;
    assert_eq!(server.publish(2, &[], &[]).await.unwrap(), 2);
    for version in [2, 1, 2] {
        move_alias(&server, version).await;
        let serves = |_: u16, slots: &serde_json::Value| {
            let slots = slots.as_array().unwrap();
            slots.len() == 1 && slots[0]["version"] == version && slots[0]["state"] == "ready"
        };
        server.until("/api/v1/slots", serves).await;
        load.more(100).await;
    }
    let answers = load.end().await;
    let switches = |client: &Vec<(u64, u64)>| client.windows(2).filter(|pair| pair[0].1 != pair[1].1).count();
    assert!(answers.iter().all(|client| switches(client) == 3), "1, 2, 1, 2 and nothing in between");
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_is_refused_leaves_the_old_one_serving() {
    let server = deployed().await;
    let before = server.infer("{}").await.1["pid"].clone();
    server.publish(2, &[], &[REFUSED_FILE]).await.unwrap();
    move_alias(&server, 2).await;
    let told = |_: u16, deployments: &serde_json::Value| deployments[0]["problem"].is_string();
    let deployments = server.until("/api/v1/deployments", told).await;
    assert!(deployments[0]["problem"].as_str().unwrap().contains("the bytes differ"), "{deployments}");
    let (status, answer) = server.infer("{}").await;
    assert_eq!((status, &answer["version"], &answer["pid"]), (200, &1.into(), &before));
    let (status, body) = server.connect().await.send("POST", "/v2/models/m/versions/2/infer", "{}").await;
    assert_eq!((status, code(&body)), (403, Some(Code::Tampered)));
    let audited = |_: u16, events: &serde_json::Value| {
        events.as_array().unwrap().iter().any(|e| e["action"] == "slot.refused" && e["subject"] == "m@2")
    };
    server.until("/api/v1/audit", audited).await;
    // Back again: nothing had to be loaded.
    move_alias(&server, 1).await;
    server.until("/api/v1/slots", |_, slots| slots.as_array().unwrap().len() == 1).await;
    assert_eq!(server.infer("{}").await.1["pid"], before);
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removing_a_deployment_unloads_it() {
    let server = deployed().await;
    let pid = server.infer("{}").await.1["pid"].as_u64().unwrap();
    let mut connection = server.connect().await;
    assert_eq!(connection.send("DELETE", "/api/v1/deployments/m", "").await.0, 204);
    server.until("/api/v1/slots", |_, slots| slots.as_array().unwrap().is_empty()).await;
    assert!(!is_running(pid));
    assert_eq!(server.infer("{}").await.0, 404);
    // The files go right after the slot.
    let work = server.dir.path().join("work");
    let has_copies = || {
        let mut entries = std::fs::read_dir(&work).unwrap();
        entries.any(|entry| entry.unwrap().file_type().is_ok_and(|kind| kind.is_dir()))
    };
    for _ in 0..500 {
        if !has_copies() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!has_copies());
    assert_eq!(connection.send("DELETE", "/api/v1/deployments/m", "").await.0, 404);
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_can_be_asked_by_its_number() {
    let server = deployed().await;
    let mut connection = server.connect().await;
    let (status, answer) = connection.send("POST", "/v2/models/m/versions/1/infer", "{}").await;
    assert_eq!((status, answer["version"].as_u64()), (200, Some(1)));
    server.publish(2, &[], &[]).await.unwrap();
    let (status, body) = connection.send("POST", "/v2/models/m/versions/2/infer", "{}").await;
    assert_eq!((status, code(&body)), (404, Some(Code::VersionNotFound)), "published is not deployed");
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_started_again_serves_what_was_deployed_and_tidies_up() {
    let server = deployed().await;
    let digest = server.client(|client| client.version("m", "1")).await.unwrap().digest;
    let (ended, dir) = server.begin_stop();
    ended.await.unwrap().unwrap();
    let work = dir.path().join("work");
    assert!(work.join(&digest).is_dir(), "a copy is kept for the next start");
    let stale = [work.join("0".repeat(64)), work.join(format!("{digest}.new"))];
    stale.iter().for_each(|copy| std::fs::create_dir(copy).unwrap());
    let foreign = work.join("notes");
    std::fs::create_dir(&foreign).unwrap();
    let server = Server::again(dir).await;
    assert_eq!(server.infer("{}").await.0, 200, "ready means that what is deployed answers");
    assert!(work.join(&digest).is_dir() && foreign.is_dir());
    assert!(stale.iter().all(|copy| !copy.exists()));
    server.stop().await.0.unwrap();
}
