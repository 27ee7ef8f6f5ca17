use serde_json::{Value, json};

use super::responses::ResponsesRequest;
use super::{ChatRequest, CompletionRequest, EmbeddingRequest, ErrorEnvelope, Prompt};
use crate::conversation::{Role, ToolChoice};
use crate::generation::Constraint;
use crate::{Code, Error};

fn chat(mut body: Value) -> crate::Result<ChatRequest> {
    body["model"] = json!("m");
    if body["messages"].is_null() {
        body["messages"] = json!([{"role": "user", "content": "hi"}]);
    }
    ChatRequest::parse(body.to_string().as_bytes())
}

#[track_caller]
fn refused(parsed: crate::Result<ChatRequest>, field: &str) {
    let error = parsed.unwrap_err();
    assert_eq!(error.field(), Some(field), "{error}");
    assert!(matches!(error.code().http(), 400 | 413), "{error}");
}

#[test]
fn a_chat_request_with_everything_is_understood() {
    let request = chat(json!({
        "messages": [
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}]},
            {"role": "tool", "tool_call_id": "1", "content": "2"},
        ],
        "temperature": 0.5, "top_p": 0.9, "top_k": -1, "min_p": 0.1, "repetition_penalty": 1.1,
        "frequency_penalty": 0.1, "presence_penalty": -0.1, "seed": -1, "logit_bias": {"5": -100},
        "stop": ["x"], "n": 2, "max_tokens": 7, "max_completion_tokens": 8, "logprobs": true, "top_logprobs": 3,
        "stream": true, "stream_options": {"include_usage": true}, "user": "u", "priority": -3,
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}},
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}, "strict": true}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}}, "parallel_tool_calls": false,
        "ignore_eos": true, "min_tokens": 2, "stop_token_ids": [4], "store": false, "metadata": {"a": "b"},
        "chat_template_kwargs": {"enable_thinking": false}, "reasoning_effort": "low",
    }))
    .unwrap();
    let (conversation, generation) = (request.conversation, request.generation);
    assert_eq!(
        conversation.messages.iter().map(|m| m.role).collect::<Vec<_>>(),
        [Role::System, Role::User, Role::Assistant, Role::Tool]
    );
    assert_eq!(conversation.messages[1].content, "ab");
    assert_eq!(conversation.tool_choice, ToolChoice::Named("f".into()));
    assert_eq!(conversation.template_variables["reasoning_effort"], json!("low"));
    assert_eq!(generation.constraint, Some(Constraint::JsonSchema(json!({"type": "object"}))));
    assert_eq!((generation.n, generation.max_tokens, generation.logprobs), (2, Some(8), Some(3)));
    assert_eq!(generation.sampling.top_k, Some(0));
    assert_eq!(generation.sampling.logit_bias, [(5, -100.0)]);
    assert!(generation.stream && generation.include_usage && generation.ignore_eos);
    assert_eq!((generation.user.as_deref(), generation.priority), (Some("u"), -3));
}

#[test]
fn what_would_change_the_answer_and_cannot_be_done_is_refused_by_name() {
    for (field, body) in [
        ("temperature", json!({"temperature": 5.1})),
        ("n", json!({"n": 65})),
        ("logit_bias.5", json!({"logit_bias": {"5": 101}})),
        ("logit_bias", json!({"logit_bias": {"x": 1}})),
        ("top_logprobs", json!({"top_logprobs": 2})),
        ("audio", json!({"audio": {}})),
        ("modalities", json!({"modalities": ["text", "audio"]})),
        ("best_of", json!({"best_of": 2})),
        ("store", json!({"store": true})),
        ("functions", json!({"functions": []})),
        ("use_beam_search", json!({"use_beam_search": true})),
        ("chat_template", json!({"chat_template": "{{ x }}"})),
        ("stream_options", json!({"stream_options": {"include_usage": true}})),
        ("response_format", json!({"response_format": {"type": "json_object"}, "guided_regex": "a"})),
        ("response_format.type", json!({"response_format": {"type": "xml"}})),
        ("frobnicate", json!({"frobnicate": 1})),
        ("tool_choice", json!({"tool_choice": "required"})),
        ("stop", json!({"stop": ""})),
        ("max_tokens", json!({"max_tokens": 0})),
        ("messages[0].role", json!({"messages": [{"role": "wizard", "content": "x"}]})),
        (
            "messages[0].content[0].type",
            json!({"messages": [{"role": "user", "content":
            [{"type": "image_url", "image_url": {"url": "data:"}}]}]}),
        ),
        ("messages[0].tool_call_id", json!({"messages": [{"role": "tool", "content": "x"}]})),
    ] {
        refused(chat(body), field);
    }
}

#[test]
fn ways_to_constrain_are_one() {
    for (body, wanted) in [
        (json!({"guided_json": "{\"type\":\"object\"}"}), Constraint::JsonSchema(json!({"type": "object"}))),
        (json!({"guided_choice": ["a", "b"]}), Constraint::Choice(vec!["a".into(), "b".into()])),
        (json!({"guided_regex": "a+"}), Constraint::Regex("a+".into())),
        (
            json!({"structured_outputs": {"grammar": "start: \"a\""}}),
            Constraint::Grammar("start: \"a\"".into()),
        ),
        (json!({"response_format": {"type": "json_object"}}), Constraint::JsonObject),
    ] {
        assert_eq!(chat(body).unwrap().generation.constraint, Some(wanted));
    }
}

#[test]
fn completions_take_texts_and_tokens() {
    let parse = |body: Value| CompletionRequest::parse(body.to_string().as_bytes());
    let request = parse(json!({"model": "m", "prompt": "a"})).unwrap();
    assert_eq!((request.prompts, request.generation.max_tokens), (vec![Prompt::Text("a".into())], Some(16)));
    assert_eq!(parse(json!({"prompt": [1, 2]})).unwrap().prompts, [Prompt::Tokens(vec![1, 2])]);
    let many = parse(json!({"prompt": ["a", [3]], "echo": true, "max_tokens": 0, "logprobs": 0})).unwrap();
    assert_eq!(many.prompts, [Prompt::Text("a".into()), Prompt::Tokens(vec![3])]);
    assert_eq!(many.generation.logprobs, Some(0));
    for (field, body) in [
        ("suffix", json!({"prompt": "a", "suffix": "b"})),
        ("best_of", json!({"prompt": "a", "best_of": 4})),
        ("prompt", json!({"prompt": []})),
        ("prompt[1]", json!({"prompt": [1, -2]})),
        ("prompt", json!({})),
        ("max_tokens", json!({"prompt": "a", "max_tokens": 0})),
    ] {
        assert_eq!(parse(body.clone()).unwrap_err().field(), Some(field), "{body}");
    }
}

#[test]
fn embeddings_take_many_inputs() {
    let request = EmbeddingRequest::parse(br#"{"input": ["a", "b"], "encoding_format": "base64"}"#).unwrap();
    assert_eq!(request.inputs.len(), 2);
    let error = EmbeddingRequest::parse(br#"{"input": "a", "encoding_format": "hex"}"#).unwrap_err();
    assert_eq!(error.field(), Some("encoding_format"));
}

#[test]
fn responses_take_items_and_keep_nothing() {
    let parse = |body: Value| ResponsesRequest::parse(body.to_string().as_bytes());
    let request = parse(json!({
        "model": "m", "instructions": "be brief", "max_output_tokens": 9,
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
            {"type": "reasoning", "id": "r", "summary": [], "content": [{"type": "reasoning_text", "text": "t"}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "3"},
        ],
        "tools": [{"type": "function", "name": "f", "parameters": {}, "strict": true}],
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}},
    }))
    .unwrap();
    let messages = &request.conversation.messages;
    assert_eq!(messages.len(), 4, "{messages:?}");
    assert_eq!((messages[2].reasoning.as_deref(), messages[2].content.as_str()), (Some("t"), "a"));
    assert_eq!(messages[2].tool_calls.len(), 1);
    assert_eq!(request.echoed.max_output_tokens, Some(9));
    assert_eq!(parse(json!({"input": "hi"})).unwrap().conversation.messages.len(), 1);
    for field in ["previous_response_id", "conversation", "background", "store", "truncation"] {
        let mut body = json!({"input": "hi"});
        body[field] = json!("x");
        assert_eq!(parse(body).unwrap_err().field(), Some(field));
    }
}

#[test]
fn errors_have_the_shape_clients_read() {
    let error = Error::new(Code::QueueFull, "too many").hint("Wait.").about("n");
    let body = serde_json::to_value(ErrorEnvelope::from(&error)).unwrap();
    assert_eq!(
        body,
        json!({"error": {"message": "too many. Wait.", "type": "rate_limit_error", "param": "n",
            "code": "rate_limit_exceeded"}})
    );
}
