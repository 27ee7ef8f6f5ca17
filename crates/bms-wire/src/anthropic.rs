//! Anthropic's text-generation protocol: messages, streamed or whole, and counting their tokens.

mod event;
mod failure;
mod request;

pub use event::{BlockDelta, DeltaUsage, Event, MessageEnd};
pub use failure::{ErrorDetail, ErrorEnvelope, error_type};
pub use request::MessagesRequest;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::generation::Tokens;

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Its identifier.
    pub id: String,
    /// Always `message`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Always `assistant`.
    pub role: String,
    /// The model, as the request named it.
    pub model: String,
    /// What the model gave.
    pub content: Vec<Block>,
    /// Why it ended; absent while it has not.
    pub stop_reason: Option<StopReason>,
    /// The stop text it came to.
    pub stop_sequence: Option<String>,
    /// Tokens it took.
    pub usage: Usage,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The model was done.
    EndTurn,
    /// It came to the limit of tokens.
    MaxTokens,
    /// It came to a stop text.
    StopSequence,
    /// It calls functions.
    ToolUse,
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Block {
    /// What the model says.
    Text {
        /// The text.
        text: String,
    },
    /// What it thought first.
    Thinking {
        /// The text.
        thinking: String,
        /// Always empty: thoughts are not signed.
        signature: String,
    },
    /// A function it calls.
    ToolUse {
        /// What its result refers to.
        id: String,
        /// The function.
        name: String,
        /// Its arguments.
        input: Value,
    },
}

/// Tokens a request took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Of the prompt, those that were computed.
    pub input_tokens: usize,
    /// Of the prompt, those whose computation was shared with an earlier request.
    pub cache_read_input_tokens: usize,
    /// Always 0: keeping a prompt costs nothing here.
    pub cache_creation_input_tokens: usize,
    /// Generated.
    pub output_tokens: usize,
}

impl From<Tokens> for Usage {
    fn from(tokens: Tokens) -> Self {
        Usage {
            input_tokens: tokens.prompt.saturating_sub(tokens.cached),
            cache_read_input_tokens: tokens.cached,
            cache_creation_input_tokens: 0,
            output_tokens: tokens.completion,
        }
    }
}

/// Answer of `POST /v1/messages/count_tokens`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCount {
    /// Tokens the prompt has.
    pub input_tokens: usize,
}

#[cfg(test)]
mod tests;
