use serde_json::{Value, json};

use super::{ErrorEnvelope, Event, MessagesRequest};
use crate::conversation::{Role, ToolChoice};
use crate::{Code, Error};

fn parse(body: Value) -> crate::Result<MessagesRequest> {
    MessagesRequest::parse(body.to_string().as_bytes())
}

#[test]
fn a_conversation_with_tools_is_understood() {
    let request = parse(json!({
        "model": "m", "max_tokens": 5, "system": [{"type": "text", "text": "be brief"}], "stop_sequences": ["x"],
        "messages": [
            {"role": "user", "content": "what?"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": ""},
                {"type": "text", "text": "let me see"},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "2"}]},
                {"type": "text", "text": "so?"}]},
        ],
        "tools": [{"name": "f", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
        "metadata": {"user_id": "u"}, "temperature": 0, "stream": true,
    }))
    .unwrap();
    let roles: Vec<Role> = request.conversation.messages.iter().map(|m| m.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::Tool, Role::User]);
    assert_eq!(request.conversation.messages[2].tool_calls[0].arguments, r#"{"x":1}"#);
    assert_eq!(request.conversation.tool_choice, ToolChoice::Required);
    assert_eq!(request.conversation.parallel_tool_calls, Some(false));
    assert_eq!(request.generation.user.as_deref(), Some("u"));
    assert!(request.generation.stream && !request.conversation.continues);
}

#[test]
fn a_last_message_of_the_assistant_is_continued() {
    let body = json!({"max_tokens": 5, "messages": [
        {"role": "user", "content": "a"}, {"role": "user", "content": "b"}, {"role": "assistant", "content": "c"}]});
    let conversation = parse(body).unwrap().conversation;
    assert!(conversation.continues);
    assert_eq!(conversation.messages[0].content, "a\nb");
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    for (field, mut body) in [
        ("max_tokens", json!({"max_tokens": null})),
        ("messages", json!({"messages": []})),
        (
            "messages[0].content[0].type",
            json!({"messages": [{"role": "user", "content": [{"type": "image"}]}]}),
        ),
        ("thinking.budget_tokens", json!({"thinking": {"type": "enabled", "budget_tokens": 1024}})),
        ("tools[0].type", json!({"tools": [{"type": "web_search_20250305", "name": "w"}]})),
        ("mcp_servers", json!({"mcp_servers": []})),
        ("temperature", json!({"temperature": 1.5})),
        ("frobnicate", json!({"frobnicate": 1})),
    ] {
        for (name, value) in
            [("max_tokens", json!(5)), ("messages", json!([{"role": "user", "content": "a"}]))]
        {
            if body.get(name).is_none() {
                body[name] = value;
            }
        }
        assert_eq!(parse(body.clone()).unwrap_err().field(), Some(field), "{body}");
    }
    let count = br#"{"messages": [{"role": "user", "content": "a"}]}"#;
    assert_eq!(MessagesRequest::parse_for_count(count).unwrap().generation.max_tokens, None);
}

#[test]
fn events_and_errors_have_the_shape_clients_read() {
    assert_eq!(serde_json::to_value(Event::MessageStop).unwrap(), json!({"type": "message_stop"}));
    let error = Error::new(Code::Unavailable, "loading");
    assert_eq!(
        serde_json::to_value(ErrorEnvelope::from(&error)).unwrap(),
        json!({"type": "error", "error": {"type": "overloaded_error", "message": "loading"}})
    );
}
