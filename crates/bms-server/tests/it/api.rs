//! The management API as the client sees it.

use std::io::Read;

use bms_store::{Recipe, frame, unframe};
use bms_wire::Code;
use bms_wire::api::{AssignedLabel, HardSample, NewVersion, NodeReport, SampleDelivery};

use crate::harness::{Server, code};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_go_in_and_come_out_and_must_be_what_they_say() {
    let server = Server::with_registry(|_| {}).await;
    let content: Vec<u8> = (0..9_000_000u32).map(|n| (n >> 7) as u8).collect();
    let blake3 = bms_bundle::FileEntry::of("", &content).blake3;
    let other = "0".repeat(64);
    server
        .client(move |client| {
            assert!(!client.has_blob(&blake3).unwrap());
            client.put_blob(&blake3, &content[..], content.len() as u64).unwrap();
            client.put_blob(&blake3, &content[..], content.len() as u64).unwrap();
            assert!(client.has_blob(&blake3).unwrap());
            let mut back = Vec::new();
            client.get_blob(&blake3).unwrap().read_to_end(&mut back).unwrap();
            assert!(back == content);
            let error = client.put_blob(&other, &content[..], content.len() as u64).unwrap_err();
            assert_eq!(error.code(), Code::Tampered, "{error}");
            assert!(!client.has_blob(&other).unwrap());
            assert_eq!(client.get_blob(&other).map(drop).unwrap_err().code(), Code::NotFound);
            let error = client.put_blob("..%2f..%2fetc", &b"x"[..], 1).unwrap_err();
            assert_eq!(error.code(), Code::InvalidRequest, "{error}");
        })
        .await;
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_goes_in_as_the_chunks_that_are_missing() {
    let server = Server::with_registry(|_| {}).await;
    let mut content = vec![0; 5_000_000];
    bms_bundle::FileEntry::of("", b"seed").blake3.bytes().cycle().zip(&mut content).for_each(|(a, b)| *b = a);
    content.iter_mut().enumerate().for_each(|(n, byte)| *byte ^= (n / 64) as u8 ^ (n / 9973) as u8);
    let recipe = Recipe::of(&content[..], content.len() as u64).unwrap();
    let blake3 = recipe.digest.to_string();
    server
        .client(move |client| {
            assert_eq!(client.get_recipe(&blake3).unwrap(), None);
            let ids: Vec<String> = recipe.chunks.iter().map(|chunk| chunk.id.to_string()).collect();
            assert_eq!(client.missing_chunks(ids.clone()).unwrap(), ids);
            let error = client.put_recipe(&blake3, &recipe.to_bytes()).unwrap_err();
            assert_eq!(error.code(), Code::NotFound, "{error}");
            let (mut frames, mut offset) = (Vec::new(), 0);
            for chunk in &recipe.chunks {
                frame(chunk.id, &content[offset..][..chunk.size as usize], &mut frames);
                offset += chunk.size as usize;
            }
            let torn = client.put_chunks(&frames[..frames.len() - 1]).unwrap_err();
            assert_eq!(torn.code(), Code::InvalidRequest, "{torn}");
            let stored = client.put_chunks(&frames).unwrap();
            assert!(0 < stored.new && stored.bytes <= content.len() as u64, "{stored:?}");
            assert_eq!(client.missing_chunks(ids.clone()).unwrap(), Vec::<String>::new());
            assert!(!client.has_blob(&blake3).unwrap(), "chunks alone are no file");
            client.put_recipe(&blake3, &recipe.to_bytes()).unwrap();
            assert!(client.has_blob(&blake3).unwrap());
            assert_eq!(client.get_recipe(&blake3).unwrap(), Some(recipe.to_bytes()));
            let read = unframe(client.get_chunks(ids[..1].to_vec()).unwrap().into()).unwrap();
            assert!(read[0].1 == content[..recipe.chunks[0].size as usize]);
            let mut back = Vec::new();
            client.get_blob(&blake3).unwrap().read_to_end(&mut back).unwrap();
            assert!(back == content);
            let error = client.missing_chunks(vec!["../x".to_owned()]).unwrap_err();
            assert_eq!(error.code(), Code::InvalidRequest, "{error}");
        })
        .await;
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_aliases_and_their_errors() {
    let server = Server::with_registry(|_| {}).await;
    assert_eq!(server.publish(1, &["production"], &[]).await.unwrap(), 1);
    assert_eq!(server.publish_again(1).await.unwrap(), 1, "the same bundle is the same version");
    server
        .client(|client| {
            assert_eq!(client.models().unwrap()[0].versions.len(), 1);
            assert_eq!(client.version("m", "production").unwrap().version, 1);
            assert_eq!(client.version("m", "latest").unwrap().version, 1);
            assert_eq!(client.version("m", "9").unwrap_err().code(), Code::VersionNotFound);
            assert_eq!(client.version("nobody", "1").unwrap_err().code(), Code::ModelNotFound);
            assert_eq!(client.deploy("m", "absent").unwrap_err().code(), Code::ModelNotFound);
            let empty = NewVersion { files: Vec::new(), aliases: Vec::new() };
            assert!(client.publish("m", &empty).is_err());
            assert!(2 <= client.verify_audit().unwrap());
            assert_eq!(client.quarantine().unwrap(), []);
        })
        .await;
    let mut connection = server.connect().await;
    let (status, body) =
        connection.send("PUT", "/api/v1/models/m/aliases/x", r#"{"version": 1, "typo": 2}"#).await;
    assert_eq!((status, code(&body)), (400, Some(Code::InvalidRequest)));
    let (status, body) = connection.send("GET", "/api/v1/audit?after=x", "").await;
    assert_eq!((status, code(&body)), (400, Some(Code::InvalidRequest)));
    let (status, body) = connection.send("PATCH", "/api/v1/models", "").await;
    assert_eq!((status, code(&body)), (405, Some(Code::InvalidRequest)));
    let (status, body) = connection.send("GET", "/api/v1/nothing", "").await;
    assert_eq!((status, code(&body)), (404, Some(Code::NotFound)));
    assert_eq!(connection.send("PUT", "/api/v1/models/m/aliases/beta", r#"{"version": 1}"#).await.0, 200);
    assert_eq!(connection.send("DELETE", "/api/v1/models/m/aliases/beta", "").await.0, 204);
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edge_nodes_get_orders_and_deliver_samples() {
    let server = Server::with_registry(|_| {}).await;
    server.publish(1, &["production"], &[]).await.unwrap();
    let report = NodeReport {
        model: "m".into(),
        version: None,
        answers: 0,
        offline_answers: 0,
        outbox: 1,
        problem: None,
    };
    let sample = HardSample {
        id: bms_bundle::FileEntry::of("", b"picture").blake3,
        image: "cGljdHVyZQ==".into(),
        label: "7".into(),
        confidence: 0.4,
        version: 1,
        at_ms: 5,
    };
    server
        .client(move |client| {
            let delivery = SampleDelivery { samples: vec![sample.clone()] };
            assert_eq!(client.deliver_samples("n1", &delivery).unwrap_err().code(), Code::NotFound);
            assert_eq!(client.report_node("n1", &report).unwrap().desired, None);
            client.deploy("m", "production").unwrap();
            let desired = client.report_node("n1", &report).unwrap().desired.unwrap();
            assert_eq!(desired.digest, client.version("m", "1").unwrap().digest);
            client.deliver_samples("n1", &delivery).unwrap();
            client.deliver_samples("n1", &delivery).unwrap();
            let stored = client.samples("m", true).unwrap();
            assert_eq!((stored.len(), &stored[0].sample), (1, &sample));
            let label = AssignedLabel { label: "1".into(), by: "a person".into(), confidence: 1.0 };
            client.label_sample(&sample.id, &label).unwrap();
            assert!(client.samples("m", true).unwrap().is_empty());
            assert_eq!(client.samples("m", false).unwrap()[0].assigned, Some(label));
            let bare: Vec<bms_wire::api::StoredSample> =
                client.get("/api/v1/samples?model=m&pictures=false").unwrap();
            assert_eq!(bare[0].sample.image, "");
            assert_eq!(client.nodes().unwrap()[0].report, report);
        })
        .await;
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_overview_shows_everything() {
    let server = Server::with_registry(|_| {}).await;
    server.publish(1, &["production"], &[]).await.unwrap();
    server.client(|client| client.deploy("m", "production")).await.unwrap();
    server.until("/v2/models/m/ready", |status, _| status == 200).await;
    assert_eq!(server.infer("{}").await.0, 200);
    assert_eq!(server.infer(r#"{"status": 400}"#).await.0, 400);
    let seen = |_: u16, overview: &serde_json::Value| {
        overview["traffic"]["requests_per_second"].as_array().unwrap().iter().any(|n| n != 0)
    };
    let overview = server.until("/api/v1/overview", seen).await;
    assert_eq!(overview["models"][0]["name"], "m");
    assert_eq!(overview["deployments"][0]["version"], 1);
    assert_eq!(overview["slots"][0]["state"], "ready");
    assert_eq!(overview["slots"][0]["runtime"], "stand-in");
    assert!(overview["slots"][0]["resident_bytes"].as_u64() > Some(100_000));
    assert_eq!(
        (&overview["nodes"], &overview["quarantine"]),
        (&serde_json::json!([]), &serde_json::json!([]))
    );
    assert_eq!(overview["audit_verified"], true);
    assert_eq!(overview["audit"][0]["action"], "deployment.set");
    assert_eq!(overview["traffic"]["requests_per_second"].as_array().unwrap().len(), 60);
    assert_eq!((&overview["traffic"]["total"], &overview["traffic"]["errors"]), (&2.into(), &1.into()));
    assert!(0.0 < overview["traffic"]["p99_ms"].as_f64().unwrap());
    assert_eq!(overview["samples"], serde_json::json!({ "total": 0, "unlabelled": 0 }));
    assert_eq!(overview["version"], env!("CARGO_PKG_VERSION"));
    assert!(overview["uptime_seconds"].is_u64());
    server.stop().await.0.unwrap();
}
