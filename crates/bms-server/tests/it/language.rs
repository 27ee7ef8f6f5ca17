//! Language models through the gateway: what the body names, answers that stream, clients that leave or do not read.

use std::time::{Duration, Instant};

use bms_wire::limits;
use http::header;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{SOON, Server, is_running, launch};

const CHAT: &str = "/v1/chat/completions";

async fn server() -> Server {
    Server::of_a_language_model(|_| {}).await
}

async fn ask(server: &Server, path: &str, body: &Value) -> (u16, Value) {
    server.connect().await.send("POST", path, &body.to_string()).await
}

/// Sends a request and leaves the answer unread.
async fn begin(server: &Server, body: &Value) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let body = body.to_string();
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    stream
}

/// Reads until the text so far is as wanted.
async fn read_until(stream: &mut TcpStream, text: &mut String, wanted: impl Fn(&str) -> bool) {
    let reading = async {
        while !wanted(text) {
            let mut part = [0; 4096];
            let n = stream.read(&mut part).await.unwrap();
            assert_ne!(n, 0, "it ended after {text}");
            text.push_str(&String::from_utf8_lossy(&part[..n]));
        }
    };
    tokio::time::timeout(SOON, reading).await.expect("it comes soon");
}

async fn until_exists(path: &std::path::Path) {
    let began = Instant::now();
    while !path.exists() {
        assert!(began.elapsed() < SOON, "{} was not made", path.display());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_body_names_the_model_and_the_path_stays() {
    let server = server().await;
    for path in [
        CHAT,
        "/v1/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/tokenize",
        "/detokenize",
    ] {
        let (status, answer) = ask(&server, path, &json!({ "model": "m" })).await;
        assert_eq!((status, answer["path"].as_str()), (200, Some(path)), "{answer}");
    }
    // With the version's number, and what only a slot can know; without a name there is but one it can be.
    for model in ["m", "m@1", "m:1", "m:style", "style"] {
        let (status, answer) = ask(&server, CHAT, &json!({ "model": model })).await;
        assert_eq!((status, answer["model"].as_str()), (200, Some(model)), "{answer}");
    }
    assert_eq!(ask(&server, CHAT, &json!({})).await.0, 200);
    let (_, models) = server.get("/v1/models").await;
    let ids: Vec<_> = models["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!((ids, models["data"][1]["parent"].as_str()), (vec!["m", "style"], Some("m")));
    let (status, one) = server.get("/v1/models/m@1").await;
    assert_eq!((status, one["id"].as_str(), one["max_model_len"].as_u64()), (200, Some("m@1"), Some(99)));
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_have_the_shape_of_the_protocol() {
    let server = server().await;
    let (status, body) = ask(&server, CHAT, &json!({ "model": "nobody" })).await;
    assert_eq!((status, body["error"]["code"].as_str()), (404, Some("model_not_found")), "{body}");
    let (status, body) = ask(&server, "/v1/messages", &json!({ "model": "nobody" })).await;
    assert_eq!((status, body["type"].as_str()), (404, Some("error")), "{body}");
    assert_eq!(body["error"]["type"], "not_found_error");
    let (status, body) = ask(&server, CHAT, &json!({ "model": "m@production" })).await;
    assert_eq!((status, body["error"]["code"].as_str()), (404, Some("version_not_found")), "{body}");
    assert_eq!(ask(&server, CHAT, &json!({ "model": 7 })).await.0, 400);
    assert_eq!(server.connect().await.send("POST", CHAT, "{\"model\":\"m\"").await.0, 400);
    assert_eq!(server.connect().await.send("POST", CHAT, r#"{"model":"m","model":"x"}"#).await.0, 400);
    assert_eq!(server.get("/v1/models/nobody").await.0, 404);
    assert!(!server.metrics().await.contains("nobody"));
    // What the engine says of its full queue goes through as it is.
    let body = json!({ "model": "m", "status": 429 }).to_string();
    let answer = server.connect().await.raw("POST", CHAT, body, &[]).await;
    let pause = answer.headers()[header::RETRY_AFTER].to_str().unwrap();
    assert_eq!((answer.status().as_u16(), pause), (429, "7"));
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graph_is_no_language_model() {
    let server = Server::of_one_bundle(|settings| settings.launch = launch("real")).await;
    let (status, body) = ask(&server, CHAT, &json!({ "model": "m" })).await;
    assert_eq!((status, body["error"]["code"].as_str()), (400, Some("invalid_request")), "{body}");
    assert_eq!(ask(&server, CHAT, &json!({})).await.0, 400);
    assert_eq!(server.get("/v1/models").await.1["data"], json!([]));
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alias_is_a_name_too() {
    let server = Server::with_registry(|settings| settings.launch = launch("language")).await;
    server.publish(1, &["production"], &[]).await.unwrap();
    server.client(|client| client.deploy("m", "production")).await.unwrap();
    server.until("/v2/models/m/ready", |status, _| status == 200).await;
    assert_eq!(ask(&server, CHAT, &json!({ "model": "m@production" })).await.0, 200);
    assert_eq!(ask(&server, CHAT, &json!({ "model": "m@candidate" })).await.0, 404);
    assert_eq!(ask(&server, CHAT, &json!({ "model": "m@2" })).await.0, 404);
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pieces_go_out_as_they_come() {
    let server = server().await;
    let end = server.dir.path().join("end");
    let mut stream = begin(&server, &json!({ "model": "m", "pieces": 3, "then": "hang" })).await;
    let mut text = String::new();
    read_until(&mut stream, &mut text, |text| text.contains("\"n\":2")).await;
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    assert!(text.contains("content-type: text/event-stream") && text.contains("cache-control: no-cache"));
    // Many at once, each whole.
    let body = json!({ "model": "m", "pieces": 20, "every_ms": 5, "bytes": 2000, "wait_for": end });
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (mut connection, body) = (server.connect().await, body.to_string());
        asking.spawn(async move { connection.raw("POST", CHAT, body, &[]).await.into_body() });
    }
    server.until_in_flight(101).await;
    std::fs::File::create(&end).unwrap();
    while let Some(answer) = asking.join_next().await {
        let answer = String::from_utf8(answer.unwrap().to_vec()).unwrap();
        assert_eq!(answer.matches("data: ").count(), 20);
    }
    drop(stream);
    server.until_in_flight(0).await;
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_ends_the_work_of_its_slot() {
    let server = server().await;
    for pieces in [2, 100_000] {
        let dropped = server.dir.path().join(format!("dropped-{pieces}"));
        let body =
            json!({ "model": "m", "pieces": pieces, "every_ms": 1, "then": "hang", "dropped": dropped });
        let mut stream = begin(&server, &body).await;
        read_until(&mut stream, &mut String::new(), |text| text.contains("\"n\":1")).await;
        assert!(!dropped.exists());
        drop(stream);
        until_exists(&dropped).await;
        server.until_in_flight(0).await;
    }
    let metrics = server.metrics().await;
    assert!(metrics.contains(r#"bms_requests_total{code="499",model="m",version="1"} 2"#), "{metrics}");
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_is_cut_off_and_holds_up_nobody() {
    let server = Server::of_a_language_model(|settings| {
        settings.client_stall = Duration::from_secs(2);
        // Whoever waits for a client is not taken for hung.
        settings.launch.hung_after = Duration::from_millis(400);
    })
    .await;
    let pid = ask(&server, CHAT, &json!({ "model": "m" })).await.1["pid"].as_u64().unwrap();
    let dropped = server.dir.path().join("dropped");
    let body = json!({ "model": "m", "pieces": 1_000_000, "bytes": 10_000, "dropped": dropped });
    let stalled = begin(&server, &body).await;
    server.until_in_flight(1).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        let (status, _) = ask(&server, CHAT, &json!({ "model": "m" })).await;
        assert_eq!(status, 200);
        assert!(!dropped.exists(), "it has time to read on");
    }
    until_exists(&dropped).await;
    server.until_in_flight(0).await;
    assert_eq!(ask(&server, CHAT, &json!({ "model": "m" })).await.1["pid"].as_u64(), Some(pid));
    drop(stalled);
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_lost_before_the_first_piece_is_replaced_unseen() {
    let server = server().await;
    for extra in [json!({}), json!({ "pieces": 3 })] {
        let flag = server.dir.path().join(format!("lost-{}", extra["pieces"]));
        let mut body = json!({ "model": "m", "exit_once": flag });
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let answer = server.connect().await.raw("POST", CHAT, body.to_string(), &[]).await;
        assert_eq!(answer.status(), 200);
        assert!(flag.exists());
    }
    let metrics = server.metrics().await;
    assert!(metrics.contains(r#"bms_request_retries_total{model="m"} 2"#), "{metrics}");
    // One that is lost each time is given up.
    let (status, _) = ask(&server, CHAT, &json!({ "model": "m", "status": 503 })).await;
    assert_eq!(status, 503);
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_lost_half_way_ends_the_answer_with_an_error() {
    let server = server().await;
    let body = json!({ "model": "m", "pieces": 2, "every_ms": 50, "then": "exit" }).to_string();
    let answer = server.connect().await.raw("POST", CHAT, body.clone(), &[]).await.into_body();
    let events: Vec<_> = std::str::from_utf8(&answer).unwrap().split_terminator("\n\n").collect();
    assert_eq!(events.len(), 3, "{events:?}");
    let last: Value = serde_json::from_str(events[2].strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "unavailable", "{last}");

    server.until("/v2/models/m/ready", |status, _| status == 200).await;
    let answer = server.connect().await.raw("POST", "/v1/messages", body, &[]).await.into_body();
    let answer = String::from_utf8(answer.to_vec()).unwrap();
    assert!(answer.contains("event: error\ndata: {\"type\":\"error\""), "{answer}");

    // In the middle of an event nothing can be added: the connection breaks.
    server.until("/v2/models/m/ready", |status, _| status == 200).await;
    let mut stream = begin(&server, &json!({ "model": "m", "pieces": 1, "then": "half" })).await;
    let mut text = Vec::new();
    tokio::time::timeout(SOON, stream.read_to_end(&mut text)).await.unwrap().unwrap_or_default();
    let text = String::from_utf8(text).unwrap();
    assert!(
        text.contains("data: {\"n\":") && !text.contains("error") && !text.ends_with("0\r\n\r\n"),
        "{text}"
    );
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_of_an_answer_is_bounded_and_a_busy_slot_is_left_alone() {
    let server = Server::of_a_language_model(|settings| {
        settings.language_deadline = Duration::from_secs(1);
        settings.launch.hung_after = Duration::from_secs(10);
    })
    .await;
    let pid = ask(&server, CHAT, &json!({ "model": "m" })).await.1["pid"].as_u64().unwrap();
    let dropped = server.dir.path().join("dropped");
    let body = json!({ "model": "m", "pieces": 2, "then": "hang", "dropped": dropped }).to_string();
    let answer = server.connect().await.raw("POST", CHAT, body, &[]).await.into_body();
    let answer = String::from_utf8(answer.to_vec()).unwrap();
    assert!(answer.contains("deadline_exceeded"), "{answer}");
    until_exists(&dropped).await;
    let (status, body) = ask(&server, CHAT, &json!({ "model": "m", "wait_for": "/nowhere" })).await;
    assert_eq!((status, body["error"]["code"].as_str()), (504, Some("deadline_exceeded")));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(is_running(pid));
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_door_answers_429() {
    let server = server().await;
    let open = server.dir.path().join("open");
    let body = json!({ "model": "m", "wait_for": open }).to_string();
    let mut inside = tokio::task::JoinSet::new();
    for _ in 0..limits::LANGUAGE_REQUESTS_MAX {
        let (mut connection, body) = (server.connect().await, body.clone());
        inside.spawn(async move { connection.raw("POST", CHAT, body, &[]).await.status() });
    }
    server.until_in_flight(limits::LANGUAGE_REQUESTS_MAX).await;
    let answer = server.connect().await.raw("POST", CHAT, body, &[]).await;
    assert_eq!((answer.status().as_u16(), answer.headers().contains_key(header::RETRY_AFTER)), (429, true));
    std::fs::File::create(&open).unwrap();
    while let Some(status) = inside.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_engine_counts_is_in_the_metrics() {
    let server = server().await;
    let metrics = server.metrics().await;
    for line in [
        r#"bms_llm_requests_running{model="m",version="1"} 3"#,
        r#"bms_llm_kv_cache_usage_ratio{model="m",version="1"} 0.5"#,
        r#"bms_llm_time_to_first_token_seconds_bucket{model="m",version="1",le="+Inf"} 3"#,
        r#"bms_llm_requests_finished_total{model="m",version="1",finished_reason="stop"} 4"#,
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}\n{metrics}");
    }
    server.stop().await.0.unwrap();
}
