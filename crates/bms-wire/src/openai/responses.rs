//! `POST /v1/responses`: one request, one answer; nothing is stored, so nothing can be referred to later.

mod event;
mod input;

pub use event::{Event, StreamEvent};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::chat::TokenLogprob;
use super::options::{self, stops};
use super::{ErrorDetail, tool};
use crate::conversation::{Conversation, Message, Role};
use crate::fields::Fields;
use crate::generation::{Generation, Tokens};
use crate::{Result, limits};

const HARMLESS: &[&str] =
    &["metadata", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "service_tier"];

/// What is not kept here, said where it is asked for.
const NOT_STORED: &str = "is not supported: answers are not stored; send the whole conversation as `input`";

/// A request, translated.
#[derive(Clone, Debug, PartialEq)]
pub struct ResponsesRequest {
    /// What is to be answered.
    pub conversation: Conversation,
    /// How.
    pub generation: Generation,
    /// What the answer repeats of the request.
    pub echoed: Echoed,
}

/// What an answer repeats of its request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Echoed {
    /// The instructions.
    pub instructions: Option<String>,
    /// The limit of tokens.
    pub max_output_tokens: Option<usize>,
    /// The caller's own notes.
    pub metadata: Map<String, Value>,
    /// The temperature.
    pub temperature: Option<f32>,
    /// The share of probability drawn from.
    pub top_p: Option<f32>,
    /// The functions on offer, as the request had them.
    pub tools: Vec<Value>,
    /// The choice among them, as the request had it.
    pub tool_choice: Value,
    /// Whether several may be called.
    pub parallel_tool_calls: bool,
    /// The form of the text, as the request had it.
    pub text: Value,
    /// Always `disabled`: a conversation is never shortened silently.
    pub truncation: String,
    /// Always `false`.
    pub store: bool,
    /// Always absent.
    pub previous_response_id: Option<String>,
}

impl ResponsesRequest {
    /// Reads a request's body.
    ///
    /// # Errors
    /// [`crate::Code::InvalidRequest`], [`crate::Code::InvalidInput`] or [`crate::Code::TooLarge`], with the
    /// field at fault.
    pub fn parse(body: &[u8]) -> Result<Self> {
        let mut fields = Fields::parse(body)?;
        let mut echoed = Echoed::of(&fields);
        refuse_what_needs_a_store(&mut fields)?;
        let generation = generation(&mut fields)?;
        let tools = tool::flat_tools(&mut fields)?;
        let tool_choice = tool::choice(&mut fields)?;
        let parallel_tool_calls = fields.flag("parallel_tool_calls")?;
        let instructions = fields.text("instructions")?;
        let mut messages: Vec<Message> = Vec::new();
        messages.extend(instructions.iter().map(|text| Message::new(Role::System, text)));
        messages.extend(input::messages(&mut fields)?);
        let mut variables = fields.object("chat_template_kwargs")?.unwrap_or_default();
        reasoning(&mut fields, &mut variables)?;
        fields.end(HARMLESS)?;
        echoed.instructions = instructions;
        echoed.max_output_tokens = generation.max_tokens;
        echoed.temperature = generation.sampling.temperature;
        echoed.top_p = generation.sampling.top_p;
        let conversation = Conversation {
            messages,
            tools,
            tool_choice,
            parallel_tool_calls,
            template_variables: variables,
            continues: false,
        };
        conversation.check()?;
        Ok(ResponsesRequest { conversation, generation, echoed })
    }
}

impl Echoed {
    fn of(fields: &Fields) -> Self {
        let mut fields = fields.clone();
        Echoed {
            // Of the wrong type they are refused where they are read.
            metadata: fields.object("metadata").ok().flatten().unwrap_or_default(),
            tools: match fields.take("tools") {
                Some(Value::Array(tools)) => tools,
                _ => Vec::new(),
            },
            tool_choice: fields.take("tool_choice").unwrap_or_else(|| json!("auto")),
            parallel_tool_calls: fields.flag("parallel_tool_calls").ok().flatten().unwrap_or(true),
            text: fields.take("text").unwrap_or_else(|| json!({ "format": { "type": "text" } })),
            truncation: "disabled".to_owned(),
            ..Echoed::default()
        }
    }
}

fn refuse_what_needs_a_store(fields: &mut Fields) -> Result<()> {
    let no = [json!(false)];
    fields.only("store", &no, "cannot be true: answers are not stored")?;
    fields.refuse("previous_response_id", NOT_STORED)?;
    fields.refuse("conversation", NOT_STORED)?;
    fields.refuse("prompt", "is not supported: prompts are not stored; send the text as `input`")?;
    fields.only("background", &no, "cannot be true: answers are not stored")?;
    fields.refuse("context_management", "is not supported")?;
    fields.refuse("moderation", "is not supported")?;
    fields.refuse("max_tool_calls", "is for tools that the server runs, and it runs none")?;
    fields.only("truncation", &[json!("disabled")], "can only be `disabled`: nothing is shortened silently")
}

fn generation(fields: &mut Fields) -> Result<Generation> {
    let stream = fields.flag("stream")?.unwrap_or(false);
    options::stream_options(fields, stream)?;
    let includes = fields.list("include", 16)?.unwrap_or_default();
    let logprobs = includes.contains(&json!("message.output_text.logprobs"));
    let known = [json!("message.output_text.logprobs"), json!("reasoning.encrypted_content")];
    if let Some(other) = includes.iter().find(|include| !known.contains(include)) {
        let what = format!("holds {other}, which this server does not have");
        return Err(crate::fields::unsupported("include", &what));
    }
    let top = fields.count("top_logprobs", 0..=limits::LOGPROBS_MAX)?;
    let constraint = match fields.nested("text")? {
        None => None,
        Some(mut text) => {
            text.only("verbosity", &[json!("medium")], "is not supported")?;
            let format = text.nested("format")?.map(options::text_format).transpose()?;
            text.end(&[])?;
            format.flatten()
        }
    };
    let user = match fields.text("user")? {
        None => fields.text("safety_identifier")?,
        user => {
            fields.text("safety_identifier")?;
            user
        }
    };
    let priority = fields.whole("priority", -100..=100)?;
    options::patience(fields)?;
    Ok(Generation {
        model: fields.text("model")?,
        sampling: options::sampling(fields)?,
        stop: stops(fields, "stop")?,
        max_tokens: fields.count("max_output_tokens", 1..=i32::MAX as usize)?,
        logprobs: if logprobs || top.is_some_and(|top| 0 < top) { Some(top.unwrap_or(0)) } else { None },
        constraint,
        user,
        priority: priority.and_then(|p| i32::try_from(p).ok()).unwrap_or(0),
        stream,
        include_usage: true,
        ..Generation::default()
    })
}

fn reasoning(fields: &mut Fields, variables: &mut Map<String, Value>) -> Result<()> {
    let Some(mut reasoning) = fields.nested("reasoning")? else { return Ok(()) };
    if let Some(effort) = reasoning.text("effort")? {
        options::reasoning_effort(variables, effort);
    }
    // Summaries are written by another model; without one the reasoning itself is what there is.
    reasoning.only("summary", &[json!("auto")], "is not supported: reasoning is given whole")?;
    reasoning.only("generate_summary", &[json!("auto")], "is not supported: reasoning is given whole")?;
    reasoning.end(&[])
}

/// An answer, or how far it has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// Its identifier; nothing can be asked about it later.
    pub id: String,
    /// Always `response`.
    pub object: String,
    /// When it began, in seconds since 1970.
    pub created_at: u64,
    /// When it was complete.
    pub completed_at: Option<u64>,
    /// How far it has come.
    pub status: Status,
    /// Why it failed.
    pub error: Option<ErrorDetail>,
    /// Why it is not complete.
    pub incomplete_details: Option<IncompleteDetails>,
    /// The model, as the request named it.
    pub model: String,
    /// What the model gave.
    pub output: Vec<OutputItem>,
    /// Tokens it took, once it is over.
    pub usage: Option<ResponseUsage>,
    /// What the request asked for.
    #[serde(flatten)]
    pub echoed: Echoed,
}

/// How far something has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// More is to come.
    InProgress,
    /// It is whole.
    Completed,
    /// It ended before it was whole.
    Incomplete,
    /// It failed.
    Failed,
}

/// Why an answer is not complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncompleteDetails {
    /// `max_output_tokens`.
    pub reason: String,
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OutputItem {
    /// What the model says.
    Message {
        /// Its identifier.
        id: String,
        /// How far it has come.
        status: Status,
        /// Always `assistant`.
        role: String,
        /// Its parts.
        content: Vec<OutputPart>,
    },
    /// A function it calls.
    FunctionCall {
        /// Its identifier.
        id: String,
        /// What its result refers to.
        call_id: String,
        /// The function.
        name: String,
        /// The text of a JSON object.
        arguments: String,
        /// How far it has come.
        status: Status,
    },
    /// What it thought first.
    Reasoning {
        /// Its identifier.
        id: String,
        /// Always empty.
        summary: Vec<Value>,
        /// The thoughts.
        content: Vec<OutputPart>,
        /// How far it has come.
        status: Status,
    },
}

/// A part of what the model says or thinks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OutputPart {
    /// Text it says.
    OutputText {
        /// The text.
        text: String,
        /// Always empty.
        annotations: Vec<Value>,
        /// Probabilities of its tokens, when asked for.
        logprobs: Vec<TokenLogprob>,
    },
    /// Text it thinks.
    ReasoningText {
        /// The text.
        text: String,
    },
}

/// Tokens a request took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseUsage {
    /// Tokens of the input.
    pub input_tokens: usize,
    /// More about them.
    pub input_tokens_details: InputTokensDetails,
    /// Tokens of the answer.
    pub output_tokens: usize,
    /// More about them.
    pub output_tokens_details: OutputTokensDetails,
    /// Both.
    pub total_tokens: usize,
}

/// More about the input's tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputTokensDetails {
    /// Those whose computation was shared with an earlier request.
    pub cached_tokens: usize,
    /// Always 0: keeping a prompt costs nothing here.
    pub cache_write_tokens: usize,
}

/// More about the answer's tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputTokensDetails {
    /// Tokens of what the model thought first.
    pub reasoning_tokens: usize,
}

impl ResponseUsage {
    /// Of the tokens, `reasoning` were thought.
    pub fn of(tokens: Tokens, reasoning: usize) -> Self {
        ResponseUsage {
            input_tokens: tokens.prompt,
            input_tokens_details: InputTokensDetails { cached_tokens: tokens.cached, cache_write_tokens: 0 },
            output_tokens: tokens.completion,
            output_tokens_details: OutputTokensDetails { reasoning_tokens: reasoning },
            total_tokens: tokens.prompt + tokens.completion,
        }
    }
}
