//! Who answers: a model loaded here, or a server.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bms_wire::Result;
use bms_wire::conversation::Message;

/// How answers are drawn.
#[derive(Clone, Debug)]
pub(super) struct Manner {
    pub(super) temperature: f32,
    pub(super) top_p: f32,
    pub(super) top_k: usize,
    pub(super) min_p: f32,
    pub(super) repetition_penalty: f32,
    pub(super) seed: Option<u64>,
    pub(super) max_tokens: Option<usize>,
    pub(super) stop: Vec<String>,
}

/// A piece of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said<'a> {
    /// What the model thinks first.
    Thought(&'a str),
    /// What it says.
    Text(&'a str),
}

/// How an answer went.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// Tokens of the whole conversation before the answer.
    pub(super) prompt_tokens: usize,
    /// Of these, those that did not have to be computed again.
    pub(super) cached_tokens: usize,
    /// Tokens of the answer.
    pub(super) completion_tokens: usize,
    /// `stop`, `length`, or `interrupted`.
    pub(super) finish_reason: String,
    /// Until the first piece.
    pub(super) first_after: Option<Duration>,
    /// Until the end.
    pub(super) took: Duration,
}

/// Somebody to talk to.
pub(super) trait Partner {
    /// What it is called.
    fn name(&self) -> &str;

    /// Answers a conversation piece by piece, until it is done or `stopped`.
    ///
    /// # Errors
    /// What the model or its server says.
    fn answer(
        &mut self,
        messages: &[Message],
        manner: &Manner,
        stopped: &AtomicBool,
        say: &mut dyn FnMut(Said<'_>),
    ) -> Result<Outcome>;
}
