//! The events of a streamed response.

use serde::{Deserialize, Serialize};

use super::{OutputItem, OutputPart, Response};
use crate::openai::TokenLogprob;

/// An event with its place in the stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamEvent {
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
    /// Counts the events of one stream from 0.
    pub sequence_number: u64,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Event {
    /// The request was taken.
    #[serde(rename = "response.created")]
    Created {
        /// The answer, empty.
        response: Box<Response>,
    },
    /// It is being answered.
    #[serde(rename = "response.in_progress")]
    InProgress {
        /// The answer, empty.
        response: Box<Response>,
    },
    /// An item begins.
    #[serde(rename = "response.output_item.added")]
    ItemAdded {
        /// Which.
        output_index: usize,
        /// The item, empty.
        item: OutputItem,
    },
    /// A part of an item begins.
    #[serde(rename = "response.content_part.added")]
    PartAdded {
        /// The item.
        item_id: String,
        /// Which item.
        output_index: usize,
        /// Which part.
        content_index: usize,
        /// The part, empty.
        part: OutputPart,
    },
    /// More text.
    #[serde(rename = "response.output_text.delta")]
    TextDelta {
        /// The item.
        item_id: String,
        /// Which item.
        output_index: usize,
        /// Which part.
        content_index: usize,
        /// The text.
        delta: String,
        /// Probabilities of its tokens, when asked for.
        logprobs: Vec<TokenLogprob>,
    },
    /// The text is whole.
    #[serde(rename = "response.output_text.done")]
    TextDone {
        /// The item.
        item_id: String,
        /// Which item.
        output_index: usize,
        /// Which part.
        content_index: usize,
        /// The text.
        text: String,
        /// Probabilities of its tokens, when asked for.
        logprobs: Vec<TokenLogprob>,
    },
    /// More of what the model thinks.
    #[serde(rename = "response.reasoning_text.delta")]
    ReasoningDelta {
        /// The item.
        item_id: String,
        /// Which item.
        output_index: usize,
        /// Which part.
        content_index: usize,
        /// The text.
        delta: String,
    },
    /// What the model thought is whole.
    #[serde(rename = "response.reasoning_text.done")]
    ReasoningDone {
        /// The item.
        item_id: String,
        /// Which item.
        output_index: usize,
        /// Which part.
        content_index: usize,
        /// The text.
        text: String,
    },
    /// A part is whole.
    #[serde(rename = "response.content_part.done")]
    PartDone {
        /// The item.
        item_id: String,
        /// Which item.
        output_index: usize,
        /// Which part.
        content_index: usize,
        /// The part.
        part: OutputPart,
    },
    /// More of a call's arguments.
    #[serde(rename = "response.function_call_arguments.delta")]
    ArgumentsDelta {
        /// The item.
        item_id: String,
        /// Which item.
        output_index: usize,
        /// The text.
        delta: String,
    },
    /// A call's arguments are whole.
    #[serde(rename = "response.function_call_arguments.done")]
    ArgumentsDone {
        /// The item.
        item_id: String,
        /// Which item.
        output_index: usize,
        /// The function.
        name: String,
        /// The text of a JSON object.
        arguments: String,
    },
    /// An item is whole.
    #[serde(rename = "response.output_item.done")]
    ItemDone {
        /// Which.
        output_index: usize,
        /// The item.
        item: OutputItem,
    },
    /// The answer is complete.
    #[serde(rename = "response.completed")]
    Completed {
        /// The answer.
        response: Box<Response>,
    },
    /// The answer ended before it was complete.
    #[serde(rename = "response.incomplete")]
    Incomplete {
        /// The answer.
        response: Box<Response>,
    },
    /// The answer failed.
    #[serde(rename = "response.failed")]
    Failed {
        /// The answer, as far as it came.
        response: Box<Response>,
    },
}

impl Event {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Created { .. } => "response.created",
            Event::InProgress { .. } => "response.in_progress",
            Event::ItemAdded { .. } => "response.output_item.added",
            Event::PartAdded { .. } => "response.content_part.added",
            Event::TextDelta { .. } => "response.output_text.delta",
            Event::TextDone { .. } => "response.output_text.done",
            Event::ReasoningDelta { .. } => "response.reasoning_text.delta",
            Event::ReasoningDone { .. } => "response.reasoning_text.done",
            Event::PartDone { .. } => "response.content_part.done",
            Event::ArgumentsDelta { .. } => "response.function_call_arguments.delta",
            Event::ArgumentsDone { .. } => "response.function_call_arguments.done",
            Event::ItemDone { .. } => "response.output_item.done",
            Event::Completed { .. } => "response.completed",
            Event::Incomplete { .. } => "response.incomplete",
            Event::Failed { .. } => "response.failed",
        }
    }
}
