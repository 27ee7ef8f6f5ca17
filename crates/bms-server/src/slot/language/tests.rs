//! The routes over a decoder that says what it is told to: `say:TEXT~` in the prompt is answered with TEXT.

pub(super) mod echo;
mod errors;
mod goes_on;
mod other;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bms_engine::lm::LanguageOptions;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::Language;
use echo::{Echo, Letters};

pub(super) struct Server {
    pub(super) language: Arc<Language>,
}

impl Server {
    fn new() -> Self {
        Server::with(Duration::ZERO, LanguageOptions::default())
    }

    /// One whose decoder takes its time, with these options.
    fn with(pause: Duration, options: LanguageOptions) -> Self {
        let engine = bms_engine::lm::LanguageEngine::start(
            Box::new(Echo::new(pause)),
            Arc::new(Letters::new()),
            &options,
        );
        let script = Box::new(Letters::new());
        let language = Language::new("m".into(), engine.unwrap(), script, Vec::new());
        Server { language: Arc::new(language) }
    }

    async fn send(&self, request: Request<Body>) -> http::Response<Body> {
        super::routes(self.language.clone()).oneshot(request).await.unwrap()
    }

    async fn post(&self, path: &str, body: &Value) -> http::Response<Body> {
        self.send(Request::post(path).body(Body::from(body.to_string())).unwrap()).await
    }

    /// Status and JSON of an answer.
    async fn ask(&self, path: &str, body: Value) -> (u16, Value) {
        let response = self.post(path, &body).await;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    /// Whether the answer is right away what is wanted.
    async fn ok(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask(path, body).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// The events of a streamed answer: name and data.
    async fn stream(&self, path: &str, body: Value) -> Vec<(String, Value)> {
        let response = self.post(path, &body).await;
        assert_eq!(response.status(), 200);
        events(response).await
    }
}

async fn events(response: http::Response<Body>) -> Vec<(String, Value)> {
    let kind = response.headers()[http::header::CONTENT_TYPE].to_str().unwrap().to_owned();
    assert!(kind.starts_with("text/event-stream"), "{kind}");
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let mut events = Vec::new();
    for event in text.split("\n\n").filter(|event| !event.is_empty() && !event.starts_with(':')) {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
        let data = field("data: ").unwrap();
        let value = if data == "[DONE]" { json!("[DONE]") } else { serde_json::from_str(data).unwrap() };
        events.push((field("event: ").unwrap_or_default().to_owned(), value));
    }
    events
}

fn say(text: &str) -> Value {
    json!([{"role": "user", "content": format!("say:{text}~")}])
}

fn joined(events: &[(String, Value)], pick: impl Fn(&Value) -> Option<&str>) -> String {
    events.iter().filter_map(|(_, event)| pick(event)).collect()
}

fn tool() -> Value {
    json!([{"type": "function", "function": {"name": "f", "parameters":
        {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"], "additionalProperties": false}}}])
}

const CALL: &str = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 12}}\n</tool_call>";

#[tokio::test]
async fn a_chat_is_answered_whole() {
    let server = Server::new();
    let body = json!({"model": "m", "messages": say("Hello, Wörld."), "temperature": 0, "n": 2, "logprobs": true,
        "top_logprobs": 2});
    let answer = server.ok("/v1/chat/completions", body).await;
    assert_eq!(answer["object"], json!("chat.completion"));
    for index in 0..2 {
        let choice = &answer["choices"][index];
        assert_eq!(choice["message"]["content"], json!("Hello, Wörld."), "{answer}");
        assert_eq!((&choice["finish_reason"], &choice["index"]), (&json!("stop"), &json!(index)));
        let scores = choice["logprobs"]["content"].as_array().unwrap();
        assert_eq!(scores.len(), "Hello, Wörld.".len());
        assert_eq!(scores[0]["token"], json!("H"));
        assert_eq!(scores[0]["top_logprobs"].as_array().unwrap().len(), 2);
        assert!(-0.1 < scores[0]["logprob"].as_f64().unwrap(), "{}", scores[0]);
    }
    let usage = &answer["usage"];
    assert_eq!(usage["completion_tokens"], json!(2 * ("Hello, Wörld.".len() + 1)), "{usage}");
    assert_eq!(
        usage["total_tokens"].as_u64(),
        Some(usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap())
    );
}

#[tokio::test]
async fn a_chat_is_answered_as_a_stream() {
    let server = Server::new();
    let body = json!({"model": "m", "messages": say("Hello."), "temperature": 0, "stream": true,
        "stream_options": {"include_usage": true}});
    let events = server.stream("/v1/chat/completions", body).await;
    assert_eq!(events[0].1["choices"][0]["delta"]["role"], json!("assistant"));
    assert_eq!(joined(&events, |e| e["choices"][0]["delta"]["content"].as_str()), "Hello.");
    let n = events.len();
    assert_eq!(events[n - 1].1, json!("[DONE]"));
    assert_eq!(events[n - 2].1["choices"], json!([]));
    assert_eq!(events[n - 2].1["usage"]["completion_tokens"], json!(7));
    assert_eq!(events[n - 3].1["choices"][0]["finish_reason"], json!("stop"));
}

#[tokio::test]
async fn thoughts_are_told_apart() {
    let server = Server::new();
    let body = json!({"messages": say("<think>hm</think>\n\nYes."), "temperature": 0});
    let answer = server.ok("/v1/chat/completions", body).await;
    let message = &answer["choices"][0]["message"];
    assert_eq!((&message["reasoning_content"], &message["content"]), (&json!("hm"), &json!("Yes.")));
}

#[tokio::test]
async fn functions_are_called_whole_and_streamed() {
    let server = Server::new();
    let body = |stream: bool| json!({"messages": say(&format!("I look.\n{CALL}")), "temperature": 0, "tools": tool(), "stream": stream});
    let answer = server.ok("/v1/chat/completions", body(false)).await;
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], json!("tool_calls"));
    assert_eq!(choice["message"]["content"], json!("I look."));
    assert_eq!(
        choice["message"]["tool_calls"][0]["function"],
        json!({"name": "f", "arguments": "{\"x\": 12}"})
    );
    let events = server.stream("/v1/chat/completions", body(true)).await;
    let call = |e: &Value| e["choices"][0]["delta"]["tool_calls"][0].clone();
    let first = events.iter().map(|(_, e)| call(e)).find(|call| !call.is_null()).unwrap();
    assert_eq!(first["function"]["name"], json!("f"));
    assert!(first["id"].as_str().unwrap().starts_with("call_"), "{first}");
    let arguments =
        joined(&events, |e| e["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str());
    assert_eq!(arguments, "{\"x\": 12}");
}

#[tokio::test]
async fn a_function_that_is_asked_for_is_called_whatever_the_model_would_say() {
    let server = Server::new();
    for choice in [json!("required"), json!({"type": "function", "function": {"name": "f"}})] {
        let body = json!({"messages": say("I would rather not."), "temperature": 0, "tools": tool(),
            "tool_choice": choice, "max_tokens": 200});
        let answer = server.ok("/v1/chat/completions", body).await;
        let call = &answer["choices"][0]["message"]["tool_calls"][0]["function"];
        assert_eq!(call["name"], json!("f"), "{answer}");
        let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
        assert!(arguments["x"].is_number(), "{arguments}");
    }
    let body = json!({"messages": say(CALL), "temperature": 0, "tools": tool(), "tool_choice": "none"});
    let answer = server.ok("/v1/chat/completions", body).await;
    assert_eq!(answer["choices"][0]["message"]["content"], json!(CALL));
}

#[tokio::test]
async fn a_schema_is_kept_to() {
    let server = Server::new();
    let schema = json!({"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"],
        "additionalProperties": false});
    let body = json!({"messages": say("{\"a\": \"y\"} and more"), "temperature": 0, "max_tokens": 100,
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}});
    let answer = server.ok("/v1/chat/completions", body).await;
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(text).unwrap(), json!({"a": "y"}));
}

#[tokio::test]
async fn texts_are_continued_with_echo_and_probabilities() {
    let server = Server::new();
    let body = json!({"prompt": ["say:ab~assistant:", "say:cd~assistant:"], "temperature": 0, "n": 2, "echo": true,
        "logprobs": 1, "max_tokens": 5});
    let answer = server.ok("/v1/completions", body).await;
    let choices = answer["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 4);
    for (index, text) in ["ab", "ab", "cd", "cd"].iter().enumerate() {
        let whole = format!("say:{text}~assistant:{text}");
        assert_eq!((&choices[index]["text"], &choices[index]["index"]), (&json!(whole), &json!(index)));
        let logprobs = &choices[index]["logprobs"];
        assert_eq!(logprobs["tokens"].as_array().unwrap().len(), whole.len());
        assert_eq!(logprobs["token_logprobs"][0], Value::Null);
        assert_eq!(logprobs["text_offset"][whole.len() - 1], json!(whole.len() - 1));
    }
    let tokens: Vec<u32> = b"say:ab~assistant:".iter().map(|b| u32::from(*b)).collect();
    let stream = json!({"prompt": tokens, "temperature": 0, "stream": true, "stop": ["b"]});
    let events = server.stream("/v1/completions", stream).await;
    assert_eq!(joined(&events, |e| e["choices"][0]["text"].as_str()), "a");
}

#[tokio::test]
async fn a_response_is_what_its_events_add_up_to() {
    let server = Server::new();
    let body = |stream: bool| {
        json!({"model": "m", "input": say(&format!("<think>hm</think>Hi.{CALL}")), "temperature": 0, "stream": stream,
            "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}]})
    };
    let whole = server.ok("/v1/responses", body(false)).await;
    let kinds: Vec<&str> =
        whole["output"].as_array().unwrap().iter().map(|item| item["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["reasoning", "message", "function_call"], "{whole}");
    assert_eq!(whole["output"][1]["content"][0]["text"], json!("Hi."));
    assert_eq!(whole["output"][2]["arguments"], json!("{\"x\": 12}"));
    assert_eq!(whole["status"], json!("completed"));
    let events = server.stream("/v1/responses", body(true)).await;
    assert_eq!(events[0].0, "response.created");
    for (number, (name, event)) in events.iter().enumerate() {
        assert_eq!((&event["type"], &event["sequence_number"]), (&json!(name), &json!(number)));
    }
    let text = |e: &Value| e["type"] == json!("response.output_text.delta");
    let text =
        events.iter().filter(|(_, e)| text(e)).map(|(_, e)| e["delta"].as_str().unwrap()).collect::<String>();
    assert_eq!(text, "Hi.");
    let last = &events.last().unwrap().1;
    assert_eq!(last["type"], json!("response.completed"));
    assert_eq!(last["response"]["output"].as_array().unwrap().len(), 3);
    let refused = server.ask("/v1/responses", json!({"input": "x", "previous_response_id": "r"})).await;
    assert_eq!((refused.0, &refused.1["error"]["param"]), (400, &json!("previous_response_id")));
}

#[tokio::test]
async fn messages_in_anthropics_form() {
    let server = Server::new();
    let body = |stream: bool, text: &str| {
        json!({"model": "m", "max_tokens": 200, "messages": say(text), "temperature": 0, "stream": stream,
            "tools": [{"name": "f", "input_schema": {"type": "object"}}], "stop_sequences": ["STOP"]})
    };
    let whole = server.ok("/v1/messages", body(false, &format!("Hi.{CALL}"))).await;
    assert_eq!(whole["content"][0], json!({"type": "text", "text": "Hi."}));
    assert_eq!(whole["content"][1]["input"], json!({"x": 12}));
    assert_eq!(whole["stop_reason"], json!("tool_use"));
    let stopped = server.ok("/v1/messages", body(false, "Hi. STOP there")).await;
    assert_eq!(
        (&stopped["stop_reason"], &stopped["stop_sequence"]),
        (&json!("stop_sequence"), &json!("STOP"))
    );
    let events = server.stream("/v1/messages", body(true, &format!("Hi.{CALL}"))).await;
    let names: Vec<&str> =
        events.iter().map(|(name, _)| name.as_str()).filter(|n| *n != "content_block_delta").collect();
    assert_eq!(
        names,
        [
            "message_start",
            "content_block_start",
            "content_block_stop",
            "content_block_start",
            "content_block_stop",
            "message_delta",
            "message_stop"
        ]
    );
    assert_eq!(joined(&events, |e| e["delta"]["text"].as_str()), "Hi.");
    assert_eq!(joined(&events, |e| e["delta"]["partial_json"].as_str()), "{\"x\": 12}");
    let counted = server.ok("/v1/messages/count_tokens", json!({"messages": say("a")})).await;
    assert_eq!(counted["input_tokens"], json!("user:say:a~\nassistant:".len()));
    let continued = json!({"max_tokens": 9, "temperature": 0, "messages": [
        {"role": "user", "content": "say:abc~"}, {"role": "assistant", "content": "a"}]});
    let continued = server.ok("/v1/messages", continued).await;
    assert_eq!(continued["content"][0]["text"], json!("bc"));
}
