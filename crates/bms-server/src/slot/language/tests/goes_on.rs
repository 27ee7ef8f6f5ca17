//! Streams that are cut anywhere and go on in a fresh slot.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use bms_engine::lm::LanguageOptions;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::{CALL, Server, say, tool};
use crate::continuation::{CONTINUABLE, CONTINUES, Continuation, MARK, Mark};

/// Events, and the mark behind them.
type Part = (String, Mark);

/// A server whose answers come token by token: how many a draft brings at once is a matter of speed.
fn server() -> Server {
    let options = LanguageOptions { speculate: false, ..LanguageOptions::default() };
    Server::with(Duration::from_micros(200), options)
}

/// Sends a request that asks for marks.
async fn send(path: &str, body: Vec<u8>, continues: Option<usize>) -> http::Response<Body> {
    let mut request = Request::post(path).header(CONTINUABLE, "1");
    if let Some(length) = continues {
        request = request.header(CONTINUES, length);
    }
    server().send(request.body(Body::from(body)).unwrap()).await
}

/// The parts of a stream.
async fn parts(response: http::Response<Body>) -> Vec<Part> {
    assert_eq!(response.status(), 200);
    assert!(response.headers().contains_key(CONTINUABLE));
    let text = String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    let (mut parts, mut events) = (Vec::new(), String::new());
    for event in text.split_inclusive("\n\n") {
        match event.as_bytes().strip_prefix(MARK) {
            Some(mark) => parts.push((std::mem::take(&mut events), serde_json::from_slice(mark).unwrap())),
            None => events.push_str(event),
        }
    }
    assert_eq!(events, "", "every event is marked");
    parts
}

/// What a client has seen, without the identifiers of calls, which differ.
fn seen(parts: &[Part]) -> String {
    let mut text: String = parts.iter().map(|(events, _)| events.as_str()).collect();
    while let Some(at) = text.find("\"call_") {
        let end = at + 1 + text[at + 1..].find('"').unwrap();
        text.replace_range(at..=end, "\"ID\"");
    }
    text
}

/// The same, answer by answer: in which order several of them come is a matter of speed.
fn sorted(seen: &str) -> BTreeMap<Option<u64>, Vec<String>> {
    let mut sorted: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for event in seen.split_terminator("\n\n") {
        let value: Value = serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap_or_default();
        let index = value["choices"].get(0).and_then(|choice| choice["index"].as_u64());
        sorted.entry(index).or_default().push(event.to_owned());
    }
    sorted
}

/// All that can be told of a stream when it is cut after these parts.
fn continuation(parts: &[Part]) -> Continuation {
    let mut continuation = Continuation::new(parts[0].1.begin.clone().unwrap());
    for (_, mark) in parts {
        continuation.names = mark.names;
        continuation.heard.extend(mark.heard.clone());
    }
    continuation
}

/// Cuts the stream after each of its parts, and compares what the client sees.
async fn check(path: &str, body: Value) -> Vec<Part> {
    let body = body.to_string().into_bytes();
    let whole = parts(send(path, body.clone(), None).await).await;
    assert!(3 < whole.len() && whole.last().unwrap().1.ended, "{whole:?}");
    for cut in 1..whole.len() {
        let (again, length) = continuation(&whole[..cut]).before(&body).unwrap();
        let rest = parts(send(path, again.to_vec(), Some(length)).await).await;
        let seen_again = seen(&whole[..cut]) + &seen(&rest);
        assert_eq!(sorted(&seen_again), sorted(&seen(&whole)), "cut after {cut} parts");
        assert!(rest.iter().all(|(_, mark)| mark.begin.is_none()) && rest.last().unwrap().1.ended);
    }
    whole
}

#[tokio::test]
async fn a_chat_goes_on_without_gap_or_repetition() {
    let whole = check(
        "/v1/chat/completions",
        json!({"model": "m", "messages": say("<think>hm, Wörld</think>\n\nHello, Wörld. STO and no"),
            "temperature": 0, "stream": true, "n": 2, "logprobs": true, "top_logprobs": 2, "stop": ["STOP"],
            "stream_options": {"include_usage": true}}),
    )
    .await;
    let text = seen(&whole);
    assert!(text.contains("\"reasoning_content\":\"h\"") && text.ends_with("data: [DONE]\n\n"), "{text}");
    assert!(text.contains("\"logprob\":-"), "{text}");
}

#[tokio::test]
async fn calls_go_on_where_they_were() {
    let text = format!("I look.\n{CALL}{CALL}");
    let body = json!({"messages": say(&text), "temperature": 0, "tools": tool(), "stream": true});
    let whole = check("/v1/chat/completions", body).await;
    assert_eq!(seen(&whole).matches("\"id\":\"ID\"").count(), 2);
    // What was called something before the cut and after it is called differently.
    let cut = whole.iter().position(|(events, _)| events.contains("\"call_")).unwrap() + 1;
    let (again, length) = continuation(&whole[..cut])
        .before(
            json!({"messages": say(&text), "temperature": 0, "tools": tool(), "stream": true})
                .to_string()
                .as_bytes(),
        )
        .unwrap();
    let rest = parts(send("/v1/chat/completions", again.to_vec(), Some(length)).await).await;
    let ids = |parts: &[Part]| -> Vec<String> {
        let text: String = parts.iter().map(|(events, _)| events.as_str()).collect();
        text.match_indices("\"call_").map(|(at, _)| text[at..at + 22].to_owned()).collect()
    };
    assert_eq!((ids(&whole[..cut]).len(), ids(&rest).len()), (1, 1));
    assert_ne!(ids(&whole[..cut])[0][14..], ids(&rest)[0][14..]);
}

#[tokio::test]
async fn completions_of_several_prompts_go_on() {
    check(
        "/v1/completions",
        json!({"prompt": ["say:Hello.~assistant:", "say:And you?~assistant:"], "temperature": 1, "n": 2,
            "logprobs": 1, "stream": true, "stream_options": {"include_usage": true}}),
    )
    .await;
}

#[tokio::test]
async fn what_cannot_go_on_has_no_marks_and_what_is_no_continuation_is_refused() {
    let echo = json!({"prompt": "say:Hello.~assistant:", "echo": true, "stream": true});
    let response = send("/v1/completions", echo.to_string().into_bytes(), None).await;
    assert!(!response.headers().contains_key(CONTINUABLE));
    let messages = json!({"model": "m", "max_tokens": 9, "messages": say("Hi."), "stream": true});
    let response = send("/v1/messages", messages.to_string().into_bytes(), None).await;
    assert!(!response.headers().contains_key(CONTINUABLE));
    let whole = json!({"messages": say("Hello."), "temperature": 0});
    let response = send("/v1/chat/completions", whole.to_string().into_bytes(), None).await;
    assert!(!response.headers().contains_key(CONTINUABLE));

    let stream =
        json!({"messages": say("Hello."), "temperature": 0, "stream": true}).to_string().into_bytes();
    let begun = parts(send("/v1/chat/completions", stream.clone(), None).await).await;
    for (request, length) in
        [(whole.to_string().into_bytes(), 0), (stream.clone(), 5), (echo.to_string().into_bytes(), 0)]
    {
        let (body, real) = continuation(&begun[..2]).before(&request).unwrap();
        let path =
            if request == echo.to_string().into_bytes() { "/v1/completions" } else { "/v1/chat/completions" };
        let length = if length == 0 { real } else { length };
        let refused = send(path, body.to_vec(), Some(length)).await;
        assert_eq!(refused.status(), 400, "{path}");
    }
}
