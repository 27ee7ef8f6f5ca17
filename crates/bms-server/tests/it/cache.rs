//! Answers that are kept: asked once, per version and caller, as long as they are good, and never failures.

use std::time::Duration;

use bms_server::CacheSettings;
use bytes::Bytes;
use http::Response;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{SOON, Server, launch};

const CHAT: &str = "/v1/chat/completions";

async fn serving(age: Duration) -> Server {
    serving_in("serve", age).await
}

async fn serving_in(mode: &str, age: Duration) -> Server {
    let server = Server::with_registry(|settings| {
        settings.launch = launch(mode);
        settings.cache = Some(CacheSettings { memory: 8 << 20, age, models: Vec::new() });
    })
    .await;
    server.publish(1, &["production"], &[]).await.unwrap();
    server.client(|client| client.deploy("m", "production")).await.unwrap();
    server.until("/v2/models/m/ready", |status, _| status == 200).await;
    server
}

async fn ask(
    server: &Server,
    body: &'static str,
    headers: &[(&str, &str)],
) -> (u16, String, Response<Bytes>) {
    ask_at(server, "/v2/models/m/infer", body, headers).await
}

async fn ask_at(
    server: &Server,
    path: &str,
    body: &'static str,
    headers: &[(&str, &str)],
) -> (u16, String, Response<Bytes>) {
    let answer = server.connect().await.raw("POST", path, body, headers).await;
    let cached = answer.headers().get("x-bms-cache").map_or("", |value| value.to_str().unwrap()).to_owned();
    (answer.status().as_u16(), cached, answer)
}

/// Requests its slots were asked.
async fn asked(server: &Server) -> u64 {
    let slots = server.get("/api/v1/slots").await.1;
    slots.as_array().unwrap().iter().map(|slot| slot["requests"].as_u64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_requests_are_asked_once_also_at_the_same_time() {
    let server = serving(Duration::from_secs(600)).await;
    let before = asked(&server).await;
    let all = (0..8).map(|_| ask(&server, r#"{"sleep_ms": 200}"#, &[]));
    let answers = futures_util::future::join_all(all).await;
    let misses = answers.iter().filter(|(_, cached, _)| cached == "miss").count();
    let hits =
        answers.iter().filter(|(status, cached, _)| (*status, cached.as_str()) == (200, "hit")).count();
    assert_eq!((misses, hits), (1, 7));
    assert!(answers.iter().all(|(.., answer)| answer.body() == answers[0].2.body()));
    assert_eq!(asked(&server).await, before + 1);
    let (_, other, _) = ask(&server, r#"{"sleep_ms": 1}"#, &[]).await;
    assert_eq!(other, "miss", "another body is another request");
    let (_, own, _) = ask(&server, r#"{"sleep_ms": 200}"#, &[("cache-control", "no-cache")]).await;
    assert_eq!(own, "", "whoever wants an own answer gets one");
    assert_eq!(asked(&server).await, before + 3);
    let metrics = server.metrics().await;
    assert!(metrics.contains("bms_cache_requests_total{model=\"m\",outcome=\"hit\"} 7"), "{metrics}");
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_of_its_version_and_a_failure_is_not_kept() {
    let server = serving(Duration::from_secs(600)).await;
    for _ in 0..2 {
        let (status, cached, answer) = ask(&server, r#"{"status": 400}"#, &[]).await;
        assert_eq!((status, cached.as_str()), (400, "miss"), "{:?}", answer.body());
    }
    assert_eq!(ask(&server, "{}", &[]).await.1, "miss");
    let (_, cached, first) = ask(&server, "{}", &[]).await;
    assert_eq!(cached, "hit");
    server.publish(2, &["production"], &[]).await.unwrap();
    server.until("/v2/models/m", |_, body| body["versions"] == serde_json::json!(["2"])).await;
    let (status, cached, second) = ask(&server, "{}", &[]).await;
    assert_eq!((status, cached.as_str()), (200, "miss"));
    assert_ne!(first.body(), second.body());
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_answer_is_asked_for_again() {
    let server = serving(Duration::from_millis(1)).await;
    for _ in 0..2 {
        assert_eq!(ask(&server, "{}", &[]).await.1, "miss");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.stop().await.0.unwrap();
}

/// Whether it was kept, and the answer of a language model.
async fn chat(server: &Server, path: &str, body: &'static str) -> (String, Value) {
    let (status, cached, answer) = ask_at(server, path, body, &[]).await;
    assert_eq!(status, 200, "{answer:?}");
    (cached, serde_json::from_slice(answer.body()).unwrap())
}

/// The events of a stream, and whether it was kept.
async fn stream(server: &Server, body: &'static str) -> (String, String) {
    let (status, cached, answer) = ask_at(server, CHAT, body, &[]).await;
    assert_eq!((status, answer.headers()["content-type"].to_str().unwrap()), (200, "text/event-stream"));
    (cached, String::from_utf8(answer.into_body().to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_language_model_would_say_again_is_kept() {
    let server = serving_in("language", Duration::from_secs(600)).await;
    let (cached, first) = chat(&server, CHAT, r#"{"model":"m","temperature":0}"#).await;
    assert_eq!(cached, "miss");
    let (cached, second) = chat(&server, CHAT, r#"{"temperature":0, "model":"m", "user":"somebody"}"#).await;
    assert_eq!((cached.as_str(), &second["asked"], &second["pid"]), ("hit", &first["asked"], &first["pid"]));
    assert!(second["id"].as_str().unwrap().starts_with("chatcmpl-") && second["id"] != first["id"]);
    assert!(17 < second["created"].as_u64().unwrap(), "{second}");
    for (path, body, again) in [
        ("/v1/completions", r#"{"model":"m","temperature":0}"#, "hit"),
        (CHAT, r#"{"model":"m@1","temperature":0}"#, "hit"),
        (CHAT, r#"{"model":"m:style","temperature":0}"#, "hit"),
        (CHAT, r#"{"model":"m","temperature":1,"seed":3}"#, "hit"),
        ("/v1/embeddings", r#"{"model":"m"}"#, "hit"),
        (CHAT, r#"{"model":"m"}"#, ""),
        ("/tokenize", r#"{"model":"m","temperature":0}"#, ""),
    ] {
        let first = if again.is_empty() { "" } else { "miss" };
        assert_eq!(chat(&server, path, body).await.0, first, "{path} {body}");
        assert_eq!(chat(&server, path, body).await.0, again, "{path} {body}");
    }
    let own =
        ask_at(&server, CHAT, r#"{"model":"m","temperature":0}"#, &[("cache-control", "no-store")]).await;
    assert_eq!(own.1, "", "whoever wants an own answer gets one");
    for _ in 0..2 {
        let failed = ask_at(&server, CHAT, r#"{"model":"m","temperature":0,"status":400}"#, &[]).await;
        assert_eq!((failed.0, failed.1.as_str()), (400, "miss"));
    }
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_kept_once_it_has_come_to_its_end() {
    let server = serving_in("language", Duration::from_secs(600)).await;
    let body = r#"{"model":"m","temperature":0,"stream":true,"pieces":3,"then":"done"}"#;
    let (cached, first) = stream(&server, body).await;
    assert_eq!(cached, "miss");
    let (cached, second) = stream(&server, body).await;
    assert_eq!(cached, "hit");
    assert!(second.ends_with("data: [DONE]\n\n"), "{second}");
    let read = |text: &str| -> Vec<Value> {
        let events = text.split("\n\n").filter_map(|event| event.strip_prefix("data: {"));
        events.map(|event| serde_json::from_str(&format!("{{{event}")).unwrap()).collect()
    };
    let (first, mut second) = (read(&first), read(&second));
    let id = second[0]["id"].clone();
    assert_ne!(id, first[0]["id"]);
    for (event, first) in second.iter_mut().zip(&first) {
        assert_eq!(event["id"], id);
        assert!(17 < event["created"].as_u64().unwrap());
        (event["id"], event["created"]) = (first["id"].clone(), first["created"].clone());
    }
    assert_eq!(first, second);
    for body in [
        r#"{"model":"m","temperature":0,"stream":true,"pieces":3,"then":"error"}"#,
        r#"{"model":"m","temperature":0,"stream":true,"pieces":3,"then":"end"}"#,
        r#"{"model":"m","temperature":0,"stream":true,"pieces":3,"then":"exit"}"#,
    ] {
        assert_eq!(stream(&server, body).await.0, "miss");
        assert_eq!(stream(&server, body).await.0, "miss", "{body}");
    }
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_streams_at_the_same_time_are_one_that_all_read_along() {
    let server = serving_in("language", Duration::from_secs(600)).await;
    let body = r#"{"model":"m","temperature":0,"stream":true,"pieces":40,"every_ms":50,"then":"done"}"#;
    // Who asked first reads some and leaves; the others have the rest.
    let mut first = TcpStream::connect(server.address).await.unwrap();
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
    first.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut text = String::new();
    while !text.contains("\"n\":0") {
        let mut part = [0; 4096];
        let n = tokio::time::timeout(SOON, first.read(&mut part)).await.unwrap().unwrap();
        assert_ne!(n, 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&part[..n]));
    }
    assert!(text.contains("x-bms-cache: miss"), "{text}");
    let others = async { futures_util::future::join_all((0..3).map(|_| stream(&server, body))).await };
    let (answers, ()) = tokio::join!(others, async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        drop(first);
    });
    let ids: std::collections::BTreeSet<_> = answers
        .iter()
        .filter_map(|(_, text)| text.split('"').find(|word| word.starts_with("chatcmpl-")))
        .collect();
    assert_eq!(ids.len(), 3, "each has a name of its own");
    for (cached, text) in &answers {
        assert_eq!(cached, "hit");
        assert!(text.contains("\"n\":39") && text.ends_with("data: [DONE]\n\n"), "{text}");
    }
    // The slot numbers what it is asked.
    let number = |text: &str| text.split("\"asked\":").nth(1).unwrap().split(',').next().unwrap().to_owned();
    assert!(answers.iter().all(|(_, other)| number(other) == number(&text)), "it was asked once");
    assert_eq!(stream(&server, body).await.0, "hit");
    server.stop().await.0.unwrap();
}
