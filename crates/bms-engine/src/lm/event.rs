//! What a caller hears of its request.

use bms_wire::Error;

/// A token with what was asked about it.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenOut {
    /// Its number.
    pub id: u32,
    /// Its bytes, which need not be whole characters.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability, before temperature and filters but after penalties, biases and the
    /// constraint; `None` when not asked for, and of a prompt's first token.
    pub logprob: Option<f32>,
    /// The most probable tokens there, best first, when asked for.
    pub top: Vec<(u32, f32)>,
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended it, or its form is complete.
    Stop,
    /// The text came to this stop string.
    StopString(String),
    /// `max_tokens` or the context is used up.
    Length,
    /// The caller left.
    Cancelled,
    /// The deadline passed.
    Deadline,
}

/// Tokens of one answer, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens in the prompt.
    pub prompt_tokens: usize,
    /// Of these, tokens whose keys and values were there already.
    pub cached_tokens: usize,
    /// Tokens generated, an end token included.
    pub completion_tokens: usize,
}

/// One thing a caller hears. `index` is the answer's number, below [`crate::lm::Request::n`].
#[derive(Debug)]
pub enum Event {
    /// The prompt, when [`crate::lm::Request::echo`] or `prompt_logprobs` asked for it; before everything else, once.
    Prompt {
        /// The prompt's text.
        text: String,
        /// The prompt's tokens.
        tokens: Vec<TokenOut>,
    },
    /// New tokens. Text that a stop string may begin with, or that ends inside a character, is held back until it is
    /// clear; `text` may be empty therefore while `tokens` is not.
    Tokens {
        /// The answer's number.
        index: usize,
        /// Whole characters.
        text: String,
        /// The tokens chosen since the last event.
        tokens: Vec<TokenOut>,
    },
    /// The answer is complete. Nothing follows for this index.
    Done {
        /// The answer's number.
        index: usize,
        /// Why it ended.
        reason: FinishReason,
        /// Its tokens, counted.
        usage: Usage,
    },
    /// The request failed, all its answers. Nothing follows.
    Failed(Error),
}

/// A whole answer, for callers that do not stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// The text.
    pub text: String,
    /// The tokens, an end token included.
    pub tokens: Vec<TokenOut>,
    /// Why it ended.
    pub reason: FinishReason,
    /// Its tokens, counted.
    pub usage: Usage,
}
