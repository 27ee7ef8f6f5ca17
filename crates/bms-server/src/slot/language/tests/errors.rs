//! What goes wrong, in each protocol's shape.

use std::time::{Duration, Instant};

use bms_engine::lm::LanguageOptions;
use bms_wire::limits;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::echo::CONTEXT;
use super::{Server, events, say};

/// How long anything may take that should happen at once.
const SOON: Duration = Duration::from_secs(20);

impl Server {
    async fn until_idle(&self) {
        let began = Instant::now();
        loop {
            let metrics = self.language.engine.metrics();
            if metrics.running == 0 && metrics.waiting == 0 && 0 < metrics.requests {
                return;
            }
            assert!(began.elapsed() < SOON, "{metrics:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn a_foreign_model_a_bad_option_and_a_long_prompt() {
    let server = Server::new();
    let long = "x".repeat(CONTEXT);
    for (status, param, body) in [
        (404, json!("model"), json!({"model": "other", "messages": say("a")})),
        (400, json!("temperature"), json!({"messages": say("a"), "temperature": -1})),
        (400, Value::Null, json!({"messages": say(&long)})),
        (400, json!("messages"), json!({"messages": []})),
        (400, json!("foo"), json!({"messages": say("a"), "chat_template_kwargs": {"foo": 1}})),
    ] {
        let (got, answer) = server.ask("/v1/chat/completions", body).await;
        assert_eq!((got, &answer["error"]["param"]), (status, &param), "{answer}");
        assert!(answer["error"]["message"].is_string() && answer["error"]["type"].is_string());
    }
    let body = json!({"model": "other", "max_tokens": 5, "messages": say("a")});
    let (status, answer) = server.ask("/v1/messages", body).await;
    assert_eq!(status, 404);
    assert_eq!((&answer["type"], &answer["error"]["type"]), (&json!("error"), &json!("not_found_error")));
}

#[tokio::test]
async fn a_full_queue_is_said_at_once_with_when_to_come_again() {
    let options = LanguageOptions { queue_max: 1, sequences_max: 1, ..LanguageOptions::default() };
    let server = Server::with(Duration::from_millis(20), options);
    let endless = json!({"messages": say("forever"), "stream": true});
    let open = server.post("/v1/chat/completions", &endless).await;
    let began = Instant::now();
    let mut waiting = Vec::new();
    let refused = loop {
        let response = server.post("/v1/chat/completions", &endless).await;
        if response.status() == 429 {
            break response;
        }
        waiting.push(response);
        assert!(began.elapsed() < SOON);
    };
    assert!(refused.headers().contains_key(http::header::RETRY_AFTER));
    let answer: Value =
        serde_json::from_slice(&refused.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(answer["error"]["type"], json!("rate_limit_error"));
    drop((open, waiting));
    server.until_idle().await;
}

#[tokio::test]
async fn a_stream_begins_with_its_first_token() {
    let server = Server::with(Duration::from_millis(30), LanguageOptions::default());
    for (path, of_token) in
        [("/v1/chat/completions", "\"content\":\"f\""), ("/v1/messages", "\"text\":\"f\"")]
    {
        let asked = json!({"messages": say("forever"), "stream": true, "max_tokens": 9});
        let mut body = server.post(path, &asked).await.into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        let first = String::from_utf8(first.to_vec()).unwrap();
        assert!(first.contains("assistant") && first.contains(of_token), "{first}");
    }
}

#[tokio::test]
async fn who_leaves_cancels() {
    let server = Server::with(Duration::from_millis(1), LanguageOptions::default());
    let response =
        server.post("/v1/chat/completions", &json!({"messages": say("forever"), "stream": true})).await;
    let mut body = response.into_body();
    for _ in 0..3 {
        body.frame().await.unwrap().unwrap();
    }
    assert_eq!(server.language.engine.metrics().running, 1);
    drop(body);
    server.until_idle().await;
    assert_eq!(server.language.engine.metrics().cancelled, 1);
}

#[tokio::test]
async fn who_does_not_read_loses_the_answer_and_the_engine_goes_on() {
    // One token a piece.
    let options = LanguageOptions { speculate: false, ..LanguageOptions::default() };
    let server = Server::with(Duration::ZERO, options);
    let body =
        json!({"messages": say("forever"), "stream": true, "max_tokens": limits::ANSWER_PIECES_MAX + 2000});
    let response = server.post("/v1/chat/completions", &body).await;
    // Nothing is read until the engine has given up.
    server.until_idle().await;
    let events = events(response).await;
    let error = &events[events.len() - 2].1["error"];
    assert!(error["message"].as_str().unwrap().contains("not read"), "{error}");
}
