//! Messages of a chat completion: those of a request and the one of an answer.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::conversation::{Message, Role, ToolCall};
use crate::fields::{Fields, mistyped, unsupported};
use crate::{Code, Error, Result, limits};

/// Reads `messages`.
pub(super) fn messages(fields: &mut Fields) -> Result<Vec<Message>> {
    let items = fields.list("messages", limits::MESSAGES_MAX)?;
    let items = fields.needed("messages", items)?;
    let path = fields.path("messages");
    items
        .into_iter()
        .enumerate()
        .map(|(index, item)| message(Fields::of(item, format!("{path}[{index}]"))?))
        .collect()
}

fn message(mut fields: Fields) -> Result<Message> {
    let role = fields.text("role")?;
    let role = role_of(&fields, fields.needed("role", role)?.as_str())?;
    let content = content(&mut fields)?;
    let refusal = fields.text("refusal")?;
    let mut message = Message::new(role, content.or(refusal).unwrap_or_default());
    message.name = fields.text("name")?;
    match role {
        Role::Assistant => {
            fields.refuse("audio", "is not supported: this model reads text only")?;
            fields.refuse("function_call", "is the old form of `tool_calls`, which is what to use")?;
            message.reasoning = match fields.text("reasoning_content")? {
                None => fields.text("reasoning")?,
                given => given,
            };
            message.tool_calls = calls(&mut fields)?;
        }
        Role::Tool => {
            let id = fields.text("tool_call_id")?;
            message.tool_call_id = Some(fields.needed("tool_call_id", id)?);
        }
        Role::System | Role::User => {}
    }
    fields.end(&["annotations", "reasoning", "reasoning_details"])?;
    Ok(message)
}

pub(super) fn role_of(fields: &Fields, role: &str) -> Result<Role> {
    match role {
        "system" | "developer" => Ok(Role::System),
        "user" => Ok(Role::User),
        "assistant" => Ok(Role::Assistant),
        "tool" => Ok(Role::Tool),
        _ => {
            let path = fields.path("role");
            let what = format!("`{path}` is `{role}`, expected system, developer, user, assistant or tool");
            Err(Error::new(Code::InvalidRequest, what).about(path))
        }
    }
}

/// A text, or parts that are texts.
pub(super) fn content(fields: &mut Fields) -> Result<Option<String>> {
    let path = fields.path("content");
    match fields.take("content") {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Array(parts)) => joined(&path, parts).map(Some),
        Some(other) => Err(mistyped(&path, &other, "a string or a list of parts")),
    }
}

/// The texts of the parts, one after another.
pub(super) fn joined(path: &str, parts: Vec<Value>) -> Result<String> {
    let mut text = String::new();
    for (index, part) in parts.into_iter().enumerate() {
        let mut part = match part {
            Value::String(plain) => {
                text.push_str(&plain);
                continue;
            }
            other => Fields::of(other, format!("{path}[{index}]"))?,
        };
        let kind = part.text("type")?;
        let kind = part.needed("type", kind)?;
        let field = match kind.as_str() {
            "text" | "input_text" | "output_text" => "text",
            "refusal" => "refusal",
            _ => {
                return Err(Error::new(
                    Code::InvalidInput,
                    format!("`{}` is `{kind}`, but this model reads text only", part.path("type")),
                )
                .about(part.path("type")));
            }
        };
        let piece = part.text(field)?;
        text.push_str(&part.needed(field, piece)?);
        part.end(&["annotations", "logprobs", "prompt_cache_breakpoint", "cache_control"])?;
    }
    Ok(text)
}

fn calls(fields: &mut Fields) -> Result<Vec<ToolCall>> {
    let items = fields.list("tool_calls", limits::TOOLS_MAX)?.unwrap_or_default();
    let path = fields.path("tool_calls");
    let read = |(index, item)| {
        let mut call = Fields::of(item, format!("{path}[{index}]"))?;
        call.only("type", &[json!("function")], "is not a kind of call supported here; only `function` is")?;
        let id = call.text("id")?;
        let id = call.needed("id", id)?;
        let function = call.nested("function")?;
        let mut function = call.needed("function", function)?;
        let name = function.text("name")?;
        let name = function.needed("name", name)?;
        let arguments = arguments(&mut function)?;
        function.end(&[])?;
        call.end(&["index"])?;
        Ok(ToolCall { id, name, arguments })
    };
    items.into_iter().enumerate().map(read).collect()
}

/// Arguments are the text of a JSON object; some clients send the object itself.
pub(super) fn arguments(fields: &mut Fields) -> Result<String> {
    let path = fields.path("arguments");
    match fields.take("arguments") {
        None => Ok("{}".to_owned()),
        Some(Value::String(text)) if text.trim().is_empty() => Ok("{}".to_owned()),
        Some(Value::String(text)) => match serde_json::from_str::<Value>(&text) {
            Ok(Value::Object(_)) => Ok(text),
            _ => Err(unsupported(&path, "is not the text of a JSON object")),
        },
        Some(object @ Value::Object(_)) => Ok(object.to_string()),
        Some(other) => Err(mistyped(&path, &other, "the text of a JSON object")),
    }
}

/// The message of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnsweredMessage {
    /// Always `assistant`.
    pub role: String,
    /// What the model said; `null` when it only calls functions.
    pub content: Option<String>,
    /// What it thought first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// The functions it calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<AnsweredCall>,
    /// Always `null`: there is no second model that refuses.
    pub refusal: Option<String>,
}

/// A call in an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnsweredCall {
    /// What its result refers to.
    pub id: String,
    /// Always `function`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Which function, how.
    pub function: AnsweredFunction,
}

/// A function and its arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnsweredFunction {
    /// The function.
    pub name: String,
    /// The text of a JSON object.
    pub arguments: String,
}

impl From<ToolCall> for AnsweredCall {
    fn from(call: ToolCall) -> Self {
        AnsweredCall {
            id: call.id,
            kind: "function".to_owned(),
            function: AnsweredFunction { name: call.name, arguments: call.arguments },
        }
    }
}
