//! OpenAI's text-generation protocol: chat completions, completions, embeddings, responses, models.
//!
//! Requests are read field by field into [`Conversation`](crate::conversation::Conversation) and
//! [`Generation`](crate::generation::Generation); answers are plain data. The additions of vLLM that clients
//! send (`top_k`, `min_p`, `guided_json`, `ignore_eos`, …) are understood. What cannot be honoured is refused
//! with the name of the field; what is known to change nothing in the answer is let through.

mod chat;
mod completion;
mod embedding;
mod failure;
mod message;
mod model;
mod options;
mod tool;

pub mod responses;

pub use chat::{
    CallDelta, ChatChoice, ChatChunk, ChatCompletion, ChatRequest, ChunkChoice, Delta, FinishReason,
    FunctionDelta, TokenLogprob, TokenLogprobs, TopLogprob,
};
pub use completion::{Completion, CompletionChoice, CompletionLogprobs, CompletionRequest, Prompt};
pub use embedding::{Embedding, EmbeddingEncoding, EmbeddingRequest, EmbeddingVector, Embeddings};
pub use failure::{ErrorDetail, ErrorEnvelope, error_type};
pub use message::{AnsweredCall, AnsweredFunction, AnsweredMessage};
pub use model::{Model, ModelList};

pub(crate) use chat::conversation;
pub(crate) use options::{checked_schema, reasoning_effort, stops, tokens};
pub(crate) use tool::checked_name;

use serde::{Deserialize, Serialize};

use crate::generation::Tokens;

/// Tokens a request took, as this protocol shows them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens generated.
    #[serde(default)]
    pub completion_tokens: usize,
    /// Both.
    pub total_tokens: usize,
    /// More about the prompt's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens_details: Option<PromptTokensDetails>,
}

/// More about a prompt's tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptTokensDetails {
    /// Those whose computation was shared with an earlier request.
    #[serde(default)]
    pub cached_tokens: usize,
}

impl From<Tokens> for Usage {
    fn from(tokens: Tokens) -> Self {
        Usage {
            prompt_tokens: tokens.prompt,
            completion_tokens: tokens.completion,
            total_tokens: tokens.prompt + tokens.completion,
            prompt_tokens_details: Some(PromptTokensDetails { cached_tokens: tokens.cached }),
        }
    }
}

#[cfg(test)]
mod tests;
