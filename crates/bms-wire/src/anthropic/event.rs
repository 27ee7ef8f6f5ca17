//! The events of a streamed message.

use serde::{Deserialize, Serialize};

use super::{Block, ErrorDetail, Message, StopReason};

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The answer begins.
    MessageStart {
        /// The answer, empty.
        message: Message,
    },
    /// Nothing: the connection is alive.
    Ping,
    /// A part begins.
    ContentBlockStart {
        /// Which.
        index: usize,
        /// The part, empty.
        content_block: Block,
    },
    /// More of a part.
    ContentBlockDelta {
        /// Which.
        index: usize,
        /// What is added.
        delta: BlockDelta,
    },
    /// A part is whole.
    ContentBlockStop {
        /// Which.
        index: usize,
    },
    /// The answer has ended.
    MessageDelta {
        /// How.
        delta: MessageEnd,
        /// Tokens it took.
        usage: DeltaUsage,
    },
    /// No more events.
    MessageStop,
    /// The answer failed.
    Error {
        /// Why.
        error: ErrorDetail,
    },
}

impl Event {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Event::MessageStart { .. } => "message_start",
            Event::Ping => "ping",
            Event::ContentBlockStart { .. } => "content_block_start",
            Event::ContentBlockDelta { .. } => "content_block_delta",
            Event::ContentBlockStop { .. } => "content_block_stop",
            Event::MessageDelta { .. } => "message_delta",
            Event::MessageStop => "message_stop",
            Event::Error { .. } => "error",
        }
    }
}

/// What is added to a part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(clippy::enum_variant_names, reason = "the names are the protocol's")]
pub enum BlockDelta {
    /// More text.
    TextDelta {
        /// The text.
        text: String,
    },
    /// More of what the model thinks.
    ThinkingDelta {
        /// The text.
        thinking: String,
    },
    /// More text of a call's arguments.
    InputJsonDelta {
        /// The text.
        partial_json: String,
    },
}

/// How an answer ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageEnd {
    /// Why.
    pub stop_reason: Option<StopReason>,
    /// The stop text it came to.
    pub stop_sequence: Option<String>,
}

/// Tokens an answer took, said at its end.
pub type DeltaUsage = super::Usage;
