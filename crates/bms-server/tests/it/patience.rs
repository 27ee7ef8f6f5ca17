//! How long the clients of language models wait, as they say themselves.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Response, header};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{SOON, Server};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
/// The headers of the clients of OpenAI and Anthropic.
const READ: &str = "x-stainless-read-timeout";
const ALL: &str = "x-stainless-timeout";

async fn server() -> Server {
    Server::of_a_language_model(|_| {}).await
}

async fn ask(server: &Server, path: &str, body: &Value, headers: &[(&str, &str)]) -> Response<Bytes> {
    server.connect().await.raw("POST", path, body.to_string(), headers).await
}

fn document(answer: &Response<Bytes>) -> Value {
    serde_json::from_slice(answer.body()).unwrap()
}

async fn until_exists(path: &Path) {
    let began = Instant::now();
    while !path.exists() {
        assert!(began.elapsed() < SOON, "{} was not made", path.display());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_not_begun_in_the_clients_time_is_given_up_in_its_protocol() {
    let server = server().await;
    let began = Instant::now();
    for (n, (path, stream, timeout, headers)) in [
        (CHAT, false, json!(0.3), &[][..]),
        (CHAT, true, json!(0.3), &[]),
        (CHAT, false, Value::Null, &[(READ, "0.3")]),
        ("/v1/embeddings", false, Value::Null, &[(READ, "600"), (ALL, "0.3")]),
        (MESSAGES, false, Value::Null, &[(READ, "0.3")]),
        (MESSAGES, true, Value::Null, &[(ALL, "0.3")]),
    ]
    .into_iter()
    .enumerate()
    {
        let dropped = server.dir.path().join(format!("dropped-{n}"));
        let mut body = json!({ "model": "m", "wait_for": "/nowhere", "dropped": dropped });
        if stream {
            body["pieces"] = 3.into();
        }
        if !timeout.is_null() {
            body["timeout"] = timeout;
        }
        let answer = ask(&server, path, &body, headers).await;
        let said = document(&answer);
        assert_eq!(answer.status(), 504, "{path} {said}");
        let error = &said["error"];
        assert!(error["message"].as_str().unwrap().contains("within 0.3 s"), "{said}");
        match path {
            MESSAGES => {
                assert_eq!((&said["type"], said["error"]["type"].is_string()), (&json!("error"), true))
            }
            _ => assert_eq!(error["code"], "deadline_exceeded", "{said}"),
        }
        until_exists(&dropped).await;
    }
    assert!(began.elapsed() < SOON, "none took the server's time");
    server.until_in_flight(0).await;
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_begun_goes_on_and_no_time_is_as_much_as_the_servers() {
    let server = server().await;
    let body = json!({ "model": "m", "pieces": 6, "every_ms": 200, "then": "done", "timeout": 0.6 });
    let began = Instant::now();
    let answer = ask(&server, CHAT, &body, &[(READ, "0.7")]).await;
    let text = String::from_utf8(answer.body().to_vec()).unwrap();
    assert!(text.contains("\"n\":5") && text.ends_with("[DONE]\n\n"), "{text}");
    assert!(Duration::from_secs(1) < began.elapsed());
    for (timeout, headers) in [(json!(0), [(READ, "NOT_GIVEN")]), (json!(3600), [(ALL, "0")])] {
        let answer = ask(&server, CHAT, &json!({ "model": "m", "timeout": timeout }), &headers).await;
        assert_eq!(answer.status(), 200);
    }
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_of_life_is_no_beginning() {
    let server = server().await;
    let dropped = server.dir.path().join("dropped");
    let body = json!({ "model": "m", "idle": true, "dropped": dropped, "timeout": 1 });
    let began = Instant::now();
    let answer = ask(&server, CHAT, &body, &[]).await;
    let text = String::from_utf8(answer.body().to_vec()).unwrap();
    assert!((1..15).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    let events: Vec<_> = text.split_terminator("\n\n").collect();
    assert_eq!((answer.status().as_u16(), events.len()), (200, 2), "{text}");
    assert!(events[0].contains("assistant") && events[1].contains("deadline_exceeded"), "{text}");
    assert!(events[1].contains("did not begin within 1 s"), "{text}");
    until_exists(&dropped).await;
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_would_wait_longer_than_they_say_is_told_at_the_door() {
    let server = server().await;
    let may_begin = |n: usize| server.dir.path().join(format!("begin-{n}"));
    let mut open = JoinSet::new();
    for n in 0..60 {
        let body = json!({ "model": "m", "wait_for": may_begin(n) }).to_string();
        let mut connection = server.connect().await;
        open.spawn(async move { connection.raw("POST", CHAT, body, &[]).await.status() });
    }
    server.until_in_flight(60).await;
    // Ten a second begin: forty take four seconds.
    for n in 0..20 {
        std::fs::File::create(may_begin(n)).unwrap();
        open.join_next().await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let began = Instant::now();
    let body = json!({ "model": "m", "timeout": 2 });
    let answer = ask(&server, CHAT, &body, &[]).await;
    assert_eq!(answer.status(), 429, "{:?}", answer.body());
    let pause: u64 = answer.headers()[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!(1 <= pause, "{pause}");
    assert_eq!(document(&answer)["error"]["code"], "rate_limit_exceeded");
    assert!(began.elapsed() < Duration::from_secs(2), "at once");
    let answer = ask(&server, MESSAGES, &json!({ "model": "m" }), &[(READ, "2")]).await;
    assert_eq!(answer.status(), 429, "{:?}", answer.body());
    // Who has more time is let in, and so is who says nothing.
    for timeout in [json!(300), Value::Null] {
        let answer = ask(&server, CHAT, &json!({ "model": "m", "timeout": timeout }), &[]).await;
        assert_eq!(answer.status(), 200, "{:?}", answer.body());
    }
    (20..60).for_each(|n| drop(std::fs::File::create(may_begin(n)).unwrap()));
    while let Some(status) = open.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    server.stop().await.0.unwrap();
}
