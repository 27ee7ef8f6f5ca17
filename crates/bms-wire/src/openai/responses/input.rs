//! The input of a response: a text, or the items of a conversation.

use serde_json::Value;

use crate::conversation::{Message, Role, ToolCall};
use crate::fields::{Fields, mistyped, unsupported};
use crate::openai::message::{arguments, content, joined, role_of};
use crate::{Result, limits};

/// The messages of `input`.
pub(super) fn messages(fields: &mut Fields) -> Result<Vec<Message>> {
    let path = fields.path("input");
    let input = fields.take("input");
    match fields.needed("input", input)? {
        Value::String(text) => Ok(vec![Message::new(Role::User, text)]),
        Value::Array(items) if limits::MESSAGES_MAX < items.len() => {
            let what = format!("`{path}` has {} items, at most {}", items.len(), limits::MESSAGES_MAX);
            Err(crate::Error::new(crate::Code::TooLarge, what).about(path))
        }
        Value::Array(items) => {
            let mut messages = Vec::with_capacity(items.len());
            for (index, item) in items.into_iter().enumerate() {
                add(&mut messages, Fields::of(item, format!("{path}[{index}]"))?)?;
            }
            Ok(messages)
        }
        other => Err(mistyped(&path, &other, "a string or a list of items")),
    }
}

fn add(messages: &mut Vec<Message>, mut item: Fields) -> Result<()> {
    let kind = item.text("type")?;
    match kind.as_deref() {
        None | Some("message") => {
            let role = item.text("role")?;
            let role = role_of(&item, item.needed("role", role)?.as_str())?;
            let text = content(&mut item)?;
            let text = item.needed("content", text)?;
            // What it says after what it thought is one turn.
            match messages.last_mut() {
                Some(last) if role == Role::Assistant && is_only_reasoning(last) => last.content = text,
                _ => messages.push(Message::new(role, text)),
            }
            item.end(&["id", "status", "phase"])
        }
        Some("function_call") => {
            let id = item.text("call_id")?;
            let name = item.text("name")?;
            let call = ToolCall {
                id: item.needed("call_id", id)?,
                name: item.needed("name", name)?,
                arguments: arguments(&mut item)?,
            };
            // Calls of one turn follow each other and what was said with them.
            match messages.last_mut() {
                Some(last) if last.role == Role::Assistant => last.tool_calls.push(call),
                _ => {
                    let mut message = Message::new(Role::Assistant, "");
                    message.tool_calls.push(call);
                    messages.push(message);
                }
            }
            item.end(&["id", "status"])
        }
        Some("function_call_output") => {
            let id = item.text("call_id")?;
            let path = item.path("output");
            let output = match item.take("output") {
                Some(Value::String(text)) => text,
                Some(Value::Array(parts)) => joined(&path, parts)?,
                Some(other) => return Err(mistyped(&path, &other, "a string or a list of parts")),
                None => item.needed("output", None)?,
            };
            let mut message = Message::new(Role::Tool, output);
            message.tool_call_id = Some(item.needed("call_id", id)?);
            messages.push(message);
            item.end(&["id", "status"])
        }
        Some("reasoning") => {
            let path = item.path("content");
            let parts = item.list("content", limits::MESSAGES_MAX)?.unwrap_or_default();
            let mut thoughts = String::new();
            for (index, part) in parts.into_iter().enumerate() {
                let mut part = Fields::of(part, format!("{path}[{index}]"))?;
                thoughts.push_str(&part.text("text")?.unwrap_or_default());
            }
            if !thoughts.is_empty() {
                let mut message = Message::new(Role::Assistant, "");
                message.reasoning = Some(thoughts);
                messages.push(message);
            }
            item.end(&["id", "status", "summary", "encrypted_content"])
        }
        Some(_) => Err(unsupported(
            &item.path("type"),
            "is not a kind of item supported here: message, function_call, \
                function_call_output and reasoning are",
        )),
    }
}

fn is_only_reasoning(message: &Message) -> bool {
    message.role == Role::Assistant
        && message.reasoning.is_some()
        && message.content.is_empty()
        && message.tool_calls.is_empty()
}
