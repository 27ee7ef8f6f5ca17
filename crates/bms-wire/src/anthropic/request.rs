//! `POST /v1/messages` and `/v1/messages/count_tokens`: reading the request.

use serde_json::{Map, Value, json};

use crate::conversation::{Conversation, Message, Role, Tool, ToolCall, ToolChoice};
use crate::fields::{Fields, mistyped, unsupported};
use crate::generation::{Constraint, Generation, Sampling};
use crate::openai::{checked_name, checked_schema, reasoning_effort, stops};
use crate::{Code, Error, Result, limits};

/// Fields that do not change the answer.
const HARMLESS: &[&str] = &[
    "cache_control",
    "diagnostics",
    "inference_geo",
    "service_tier",
    "speed",
    "user_profile_id",
    "workspace_id",
];

/// Fields of a block that do not change what it says.
const BLOCK_HARMLESS: &[&str] = &["cache_control", "citations"];

/// A request, translated.
#[derive(Clone, Debug, PartialEq)]
pub struct MessagesRequest {
    /// What is to be answered.
    pub conversation: Conversation,
    /// How.
    pub generation: Generation,
}

impl MessagesRequest {
    /// Reads the body of a request for an answer.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`], [`Code::InvalidInput`] or [`Code::TooLarge`], with the field at fault.
    pub fn parse(body: &[u8]) -> Result<Self> {
        let mut fields = Fields::parse(body)?;
        let max_tokens = fields.count("max_tokens", 1..=i32::MAX as usize)?;
        let max_tokens = fields.needed("max_tokens", max_tokens)?;
        MessagesRequest::read(fields, Some(max_tokens))
    }

    /// Reads the body of a request to count tokens.
    ///
    /// # Errors
    /// As [`MessagesRequest::parse`].
    pub fn parse_for_count(body: &[u8]) -> Result<Self> {
        let mut fields = Fields::parse(body)?;
        let max_tokens = fields.count("max_tokens", 1..=i32::MAX as usize)?;
        MessagesRequest::read(fields, max_tokens)
    }

    fn read(mut fields: Fields, max_tokens: Option<usize>) -> Result<Self> {
        let mut variables = fields.object("chat_template_kwargs")?.unwrap_or_default();
        thinking(&mut fields, &mut variables)?;
        let constraint = output_config(&mut fields, &mut variables)?;
        let (tool_choice, parallel_tool_calls) = choice(&mut fields)?;
        let generation = generation(&mut fields, max_tokens, constraint)?;
        let conversation = conversation(&mut fields, variables, tool_choice, parallel_tool_calls)?;
        fields.refuse("container", "is not supported: the server runs no code")?;
        fields.refuse("mcp_servers", "is not supported: the server calls no other servers")?;
        fields.refuse("context_management", "is not supported")?;
        fields.end(HARMLESS)?;
        conversation.check()?;
        Ok(MessagesRequest { conversation, generation })
    }
}

fn generation(
    fields: &mut Fields,
    max_tokens: Option<usize>,
    constraint: Option<Constraint>,
) -> Result<Generation> {
    let user = match fields.nested("metadata")? {
        None => None,
        Some(mut metadata) => {
            let user = metadata.text("user_id")?;
            metadata.end(&[])?;
            user
        }
    };
    Ok(Generation {
        model: fields.text("model")?,
        sampling: Sampling {
            temperature: fields.number("temperature", 0.0..=1.0)?.map(|t| t as f32),
            top_k: fields.count("top_k", 0..=u32::MAX as usize)?,
            top_p: fields.number("top_p", 0.0..=1.0)?.map(|p| p as f32),
            ..Sampling::default()
        },
        stop: stops(fields, "stop_sequences")?,
        max_tokens,
        constraint,
        user,
        stream: fields.flag("stream")?.unwrap_or(false),
        include_usage: true,
        ..Generation::default()
    })
}

fn conversation(
    fields: &mut Fields,
    template_variables: Map<String, Value>,
    tool_choice: ToolChoice,
    parallel_tool_calls: Option<bool>,
) -> Result<Conversation> {
    let mut messages = Vec::new();
    let path = fields.path("system");
    match fields.take("system") {
        None => {}
        Some(Value::String(text)) => messages.push(Message::new(Role::System, text)),
        Some(Value::Array(blocks)) => messages.push(Message::new(Role::System, texts(&path, blocks)?)),
        Some(other) => return Err(mistyped(&path, &other, "a string or a list of blocks")),
    }
    let items = fields.list("messages", limits::MESSAGES_MAX)?;
    let items = fields.needed("messages", items)?;
    if items.is_empty() {
        return Err(unsupported("messages", "is empty"));
    }
    for (index, item) in items.into_iter().enumerate() {
        add(&mut messages, Fields::of(item, format!("messages[{index}]"))?)?;
    }
    let continues = messages.last().is_some_and(|last| last.role == Role::Assistant);
    if continues && messages.last().is_some_and(|last| !last.tool_calls.is_empty()) {
        return Err(unsupported("messages", "ends with calls of tools that have no results"));
    }
    let tools = tools(fields)?;
    Ok(Conversation { messages, tools, tool_choice, parallel_tool_calls, template_variables, continues })
}

/// Adds one message: results of tools in it are turns of their own, and come first.
fn add(messages: &mut Vec<Message>, mut fields: Fields) -> Result<()> {
    let role = fields.text("role")?;
    let role = match fields.needed("role", role)?.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        other => {
            let path = fields.path("role");
            let what = format!("`{path}` is `{other}`, expected user, assistant or system");
            return Err(Error::new(Code::InvalidRequest, what).about(path));
        }
    };
    let path = fields.path("content");
    let content = fields.take("content");
    let mut message = Message::new(role, "");
    let mut said = false;
    match fields.needed("content", content)? {
        Value::String(text) => {
            message.content = text;
            said = true;
        }
        Value::Array(blocks) => {
            for (index, block) in blocks.into_iter().enumerate() {
                let block = Fields::of(block, format!("{path}[{index}]"))?;
                said |= add_block(messages, &mut message, block)?;
            }
        }
        other => return Err(mistyped(&path, &other, "a string or a list of blocks")),
    }
    fields.end(&[])?;
    if !said {
        return Ok(());
    }
    match messages.last_mut() {
        // Consecutive turns of one speaker are one turn.
        Some(last) if last.role == role && role == Role::User => {
            last.content.push('\n');
            last.content.push_str(&message.content);
        }
        _ => messages.push(message),
    }
    Ok(())
}

/// Adds a block to its message. Whether the message says something with it: a tool's result is a message of
/// its own.
fn add_block(messages: &mut Vec<Message>, message: &mut Message, mut block: Fields) -> Result<bool> {
    let kind = block.text("type")?;
    let kind = block.needed("type", kind)?;
    match (kind.as_str(), message.role) {
        ("text", _) => {
            let text = block.text("text")?;
            message.content.push_str(&block.needed("text", text)?);
            block.end(BLOCK_HARMLESS)?;
            Ok(true)
        }
        ("tool_use", Role::Assistant) => {
            let (id, name) = (block.text("id")?, block.text("name")?);
            let input = block.object("input")?.unwrap_or_default();
            message.tool_calls.push(ToolCall {
                id: block.needed("id", id)?,
                name: block.needed("name", name)?,
                arguments: Value::Object(input).to_string(),
            });
            block.end(&["cache_control", "caller", "toolset_name"])?;
            Ok(true)
        }
        ("thinking", Role::Assistant) => {
            let thinking = block.text("thinking")?;
            message.reasoning = Some(block.needed("thinking", thinking)?);
            block.end(&["signature", "cache_control"])?;
            Ok(true)
        }
        ("tool_result", Role::User) => {
            messages.push(tool_result(block)?);
            Ok(false)
        }
        _ => {
            let path = block.path("type");
            let what = format!("`{path}` is `{kind}`, which this model does not read here: it reads text");
            Err(Error::new(Code::InvalidInput, what).about(path))
        }
    }
}

fn tool_result(mut block: Fields) -> Result<Message> {
    let id = block.text("tool_use_id")?;
    let id = block.needed("tool_use_id", id)?;
    let path = block.path("content");
    let text = match block.take("content") {
        None => String::new(),
        Some(Value::String(text)) => text,
        Some(Value::Array(blocks)) => texts(&path, blocks)?,
        Some(other) => return Err(mistyped(&path, &other, "a string or a list of blocks")),
    };
    let failed = block.flag("is_error")?.unwrap_or(false);
    block.end(&["cache_control", "toolset_name"])?;
    let mut message = Message::new(Role::Tool, if failed { format!("Error: {text}") } else { text });
    message.tool_call_id = Some(id);
    Ok(message)
}

fn texts(path: &str, blocks: Vec<Value>) -> Result<String> {
    let mut all = String::new();
    for (index, block) in blocks.into_iter().enumerate() {
        let mut block = Fields::of(block, format!("{path}[{index}]"))?;
        let kind = block.text("type")?;
        let kind = block.needed("type", kind)?;
        if kind != "text" {
            let path = block.path("type");
            let what = format!("`{path}` is `{kind}`, but this model reads text only");
            return Err(Error::new(Code::InvalidInput, what).about(path));
        }
        let text = block.text("text")?;
        all.push_str(&block.needed("text", text)?);
        block.end(BLOCK_HARMLESS)?;
    }
    Ok(all)
}

fn tools(fields: &mut Fields) -> Result<Vec<Tool>> {
    let items = fields.list("tools", limits::TOOLS_MAX)?.unwrap_or_default();
    let read = |(index, item)| {
        let mut tool = Fields::of(item, format!("tools[{index}]"))?;
        tool.only("type", &[json!("custom")], "is a tool that the server would run, and it runs none")?;
        let name = tool.text("name")?;
        let name = checked_name(&tool.path("name"), tool.needed("name", name)?)?;
        let description = tool.text("description")?;
        let schema = tool.take("input_schema");
        let parameters = checked_schema(&tool.path("input_schema"), tool.needed("input_schema", schema)?)?;
        tool.end(&[
            "allowed_callers",
            "cache_control",
            "defer_loading",
            "eager_input_streaming",
            "input_examples",
            "strict",
        ])?;
        Ok(Tool { name, description, parameters })
    };
    items.into_iter().enumerate().map(read).collect()
}

fn choice(fields: &mut Fields) -> Result<(ToolChoice, Option<bool>)> {
    let Some(mut choice) = fields.nested("tool_choice")? else { return Ok((ToolChoice::Auto, None)) };
    let kind = choice.text("type")?;
    let chosen = match choice.needed("type", kind)?.as_str() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => {
            let name = choice.text("name")?;
            ToolChoice::Named(choice.needed("name", name)?)
        }
        _ => return Err(unsupported("tool_choice.type", "is none of auto, any, none and tool")),
    };
    let one = choice.flag("disable_parallel_tool_use")?;
    choice.end(&[])?;
    Ok((chosen, one.map(|one| !one)))
}

fn thinking(fields: &mut Fields, variables: &mut Map<String, Value>) -> Result<()> {
    let Some(mut thinking) = fields.nested("thinking")? else { return Ok(()) };
    let kind = thinking.text("type")?;
    match thinking.needed("type", kind)?.as_str() {
        "disabled" => {
            variables.insert("enable_thinking".to_owned(), json!(false));
        }
        "adaptive" => {}
        "enabled" => {
            thinking.refuse("budget_tokens", "is not supported: a budget cannot be kept; use `adaptive`")?;
            variables.insert("enable_thinking".to_owned(), json!(true));
        }
        _ => return Err(unsupported("thinking.type", "is none of adaptive, enabled and disabled")),
    }
    thinking.only("display", &[json!("summarized")], "is not supported: thoughts are shown")?;
    thinking.end(&[])
}

fn output_config(fields: &mut Fields, variables: &mut Map<String, Value>) -> Result<Option<Constraint>> {
    let Some(mut config) = fields.nested("output_config")? else { return Ok(None) };
    if let Some(effort) = config.text("effort")? {
        reasoning_effort(variables, effort);
    }
    let format = config.nested("format")?;
    config.end(&[])?;
    let Some(mut format) = format else { return Ok(None) };
    format.only("type", &[json!("json_schema")], "can only be json_schema")?;
    let schema = format.take("schema");
    let schema = checked_schema(&format.path("schema"), format.needed("schema", schema)?)?;
    format.end(&[])?;
    Ok(Some(Constraint::JsonSchema(schema)))
}
