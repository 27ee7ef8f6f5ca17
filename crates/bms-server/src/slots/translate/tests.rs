use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use super::{Back, Events, INFERENCE_HEADER_LENGTH, outgoing};
use crate::engines::{Engine, Engines};
use crate::slots::{Broken, VersionName};

fn engine(lines: &str) -> std::sync::Arc<Engine> {
    let engines = Engines::from_toml(&format!("schema = 1\n[engines.e]\n{lines}")).unwrap();
    engines.serving("m").unwrap().clone()
}

fn text_engine() -> std::sync::Arc<Engine> {
    engine(
        "protocol = \"openai\"\nurl = \"http://gpu:8000/x/\"\nserves = \"m\"\nmodel = \"org/Big \\\"1\\\"\"",
    )
}

fn of() -> VersionName {
    VersionName { model: "m".to_owned(), version: 0 }
}

/// The path and body an engine gets.
async fn sent(engine: &Engine, path: &str, body: &str) -> bms_wire::Result<(String, String, Back)> {
    let request = Request::builder().method(Method::POST).uri(path).header("x-bms-continuable", "1");
    let request = request.header(header::AUTHORIZATION, "Bearer caller").header(header::CONTENT_TYPE, "a/b");
    let (request, back) = outgoing(engine, &of(), request.body(Full::from(body.to_owned())).unwrap()).await?;
    let (parts, body) = request.into_parts();
    assert_eq!(parts.headers[header::CONTENT_TYPE], "a/b");
    assert_eq!(parts.headers[header::HOST], "gpu:8000");
    assert_eq!(parts.headers.len(), 2, "{:?}", parts.headers);
    let body = body.collect().await.unwrap().to_bytes();
    Ok((parts.uri.to_string(), String::from_utf8(body.to_vec()).unwrap(), back))
}

fn head(kind: &'static str) -> http::response::Parts {
    let response =
        http::Response::builder().header(header::CONTENT_TYPE, kind).header("x-bms-continuable", "1");
    response.body(()).unwrap().into_parts().0
}

#[tokio::test]
async fn texts_go_under_the_name_the_engine_knows_and_come_back_under_ours() {
    let (path, body, back) =
        sent(&text_engine(), "/v1/chat/completions", r#"{"model": "m@production", "n": 1}"#).await.unwrap();
    assert_eq!(path, "/x/v1/chat/completions");
    assert_eq!(body, r#"{"model": "org/Big \"1\"", "n": 1}"#);
    let mut parts = head("application/json");
    let back = back.head(&mut parts).unwrap();
    assert!(!parts.headers.contains_key("x-bms-continuable"), "marks are for slots of this program");
    let answer = r#"{"model":"org/Big","usage":{"total_tokens":3}}"#;
    let answer = back.whole(&mut parts, answer.into());
    assert_eq!(answer, r#"{"model":"m@production","usage":{"total_tokens":3}}"#);
    let (_, body, _) = sent(&text_engine(), "/v1/completions", "{}").await.unwrap();
    assert_eq!(body, r#"{"model":"org/Big \"1\""}"#);
}

#[tokio::test]
async fn what_an_engine_is_not_asked_for_is_refused() {
    let engine = text_engine();
    for (path, body) in [
        ("/v1/messages", "{}"),
        ("/v1/models", ""),
        ("/v2/models/m/versions/0/infer", "{}"),
        ("/v1/chat/completions", r#"{"model": "m:adapter"}"#),
    ] {
        let error = sent(&engine, path, body).await.err().unwrap();
        assert_eq!(error.code(), bms_wire::Code::NotSupported, "{path}");
    }
    assert!(sent(&engine, "/v1/chat/completions", r#"{"model": "m:3"}"#).await.is_ok());
}

fn events(pieces: &[&str]) -> (Vec<String>, Option<String>) {
    let mut parts = head("text/event-stream; charset=utf-8");
    let Back::Stream(mut events) = Back::Text(b"\"m\"".to_vec()).head(&mut parts).unwrap() else {
        panic!("it is a stream")
    };
    let text = |bytes: bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let taken = pieces.iter().map(|piece| text(events.take(piece.as_bytes()).unwrap())).collect();
    (taken, events.rest().map(text))
}

#[test]
fn streams_pass_event_by_event() {
    let (taken, rest) = events(&[
        "data: {\"model\":\"x\",\"a\":1}\n\nda",
        "ta: {\"model\":",
        "\"x\"}\n",
        "\n: comment\n\nevent: e\ndata: {\"response\":{\"model\":\"x\"}}\r\n\r\ndata: [DONE]\n\n",
    ]);
    assert_eq!(taken[..3], ["data: {\"model\":\"m\",\"a\":1}\n\n", "", ""]);
    assert_eq!(
        taken[3],
        "data: {\"model\":\"m\"}\n\n: comment\n\nevent: e\ndata: {\"response\":{\"model\":\"m\"}}\n\ndata: [DONE]\n\n"
    );
    assert_eq!(rest, None);
    let anthropic =
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"x\",\"id\":1}}\n\n";
    assert_eq!(events(&[anthropic]).0, [anthropic.replace("\"x\"", "\"m\"")]);
    assert_eq!(events(&["data: [DONE]"]).1.as_deref(), Some("data: [DONE]\n\n"));
    assert_eq!(events(&["data: [DONE]\n"]).1.as_deref(), Some("data: [DONE]\n\n"));
}

#[test]
fn an_event_without_end_is_no_answer() {
    let mut events = Events { name: b"\"m\"".to_vec(), line: Default::default(), event: Default::default() };
    let piece = "x".repeat(1 << 20);
    let mut all = (0..8).map(|_| events.take(piece.as_bytes()));
    assert!(all.any(|taken| matches!(taken, Err(Broken::Lost(_)))));
}

#[test]
fn a_wrong_key_is_the_servers_fault_and_not_the_clients() {
    let mut parts = head("application/json");
    parts.status = StatusCode::UNAUTHORIZED;
    let refused = Back::Text(Vec::new()).head(&mut parts).unwrap_err();
    assert!(matches!(refused, Broken::Refused(e) if e.code() == bms_wire::Code::Unavailable));
    let mut parts = head("application/json");
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    assert!(Back::Text(Vec::new()).head(&mut parts).is_err());
}

#[tokio::test]
async fn tensors_go_and_come_under_the_right_names() {
    let lines = "protocol = \"oip\"\nurl = \"http://gpu:8000\"\nserves = \"m\"\nmodel = \"a b\"\nmodel_version = \"7\"";
    let engine = engine(lines);
    let (path, _, back) = sent(&engine, "/v2/models/m/versions/0/infer", "{}").await.unwrap();
    assert_eq!(path, "/v2/models/a%20b/versions/7/infer");
    let mut parts = head("application/octet-stream");
    let answer =
        json!({ "model_name": "a b", "model_version": "7", "outputs": [{ "name": "y" }] }).to_string();
    parts.headers.insert(INFERENCE_HEADER_LENGTH, HeaderValue::from(answer.len()));
    let back = back.head(&mut parts).unwrap();
    let whole = back.whole(&mut parts, [answer.as_bytes(), b"\0\x01\xff"].concat().into());
    let length: usize = parts.headers[&INFERENCE_HEADER_LENGTH].to_str().unwrap().parse().unwrap();
    let answer: Value = serde_json::from_slice(&whole[..length]).unwrap();
    assert_eq!(answer, json!({ "model_name": "m", "model_version": "0", "outputs": [{ "name": "y" }] }));
    assert_eq!(&whole[length..], b"\0\x01\xff");
    let mut parts = head("application/json");
    let about = json!({ "name": "a b", "versions": ["7"], "inputs": [{ "name": "x" }], "platform": "p" });
    let about: Value = serde_json::from_slice(&back.whole(&mut parts, about.to_string().into())).unwrap();
    assert_eq!(
        (&about["name"], &about["versions"], &about["inputs"][0]["name"]),
        (&json!("m"), &json!(["0"]), &json!("x"))
    );
}
