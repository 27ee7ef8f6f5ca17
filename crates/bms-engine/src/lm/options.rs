//! How a language model is served.

use std::time::Duration;

use bms_wire::limits;

use crate::lm::Pooling;
use crate::lm::core::Bounds;

/// Prompt tokens in one step, at the very least: a page of the cache.
const CHUNK_MIN: usize = 16;

/// How a language model is loaded and scheduled.
#[derive(Clone, Debug)]
pub struct LanguageOptions {
    /// Threads of the decoder.
    pub threads: usize,
    /// Positions a sequence may have, at most what the model was made for; `None` is that.
    pub context: Option<usize>,
    /// Bytes of the cache of keys and values; `None` is enough for the context, or a share of the machine's memory.
    pub kv_bytes: Option<u64>,
    /// Whether keys and values are kept in eight bits instead of sixteen.
    pub kv_q8: bool,
    /// Answers computed at once, at most [`limits::SEQUENCES_MAX`].
    pub sequences_max: usize,
    /// Requests that may wait; one more is refused with `QueueFull`. At most [`limits::GENERATE_QUEUE_MAX`].
    pub queue_max: usize,
    /// How long the time between two tokens of an answer should be at most when prompts arrive: prompts are cut into
    /// pieces that fit into it.
    pub inter_token_target: Duration,
    /// Prompt tokens in one step while answers run, at least; 16 or more.
    pub chunk_min: usize,
    /// Prompt tokens in one step, at most.
    pub chunk_max: usize,
    /// Whether prompt lookup drafts tokens where it pays. Answers are the same without.
    pub speculate: bool,
    /// How embeddings are made of hidden states.
    pub pooling: Pooling,
}

impl Default for LanguageOptions {
    fn default() -> Self {
        LanguageOptions {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            context: None,
            kv_bytes: None,
            kv_q8: false,
            sequences_max: 64,
            queue_max: limits::GENERATE_QUEUE_MAX,
            inter_token_target: Duration::from_millis(80),
            chunk_min: 32,
            chunk_max: 512,
            speculate: true,
            pooling: Pooling::default(),
        }
    }
}

impl LanguageOptions {
    pub(crate) fn bounds(&self) -> Bounds {
        // Less than a page would never get a prompt done beside running answers.
        let chunk_max = self.chunk_max.max(CHUNK_MIN);
        Bounds {
            sequences_max: self.sequences_max.clamp(1, limits::SEQUENCES_MAX),
            step_target: self.inter_token_target,
            chunk_min: self.chunk_min.clamp(CHUNK_MIN, chunk_max),
            chunk_max,
            speculate: self.speculate,
            threads: self.threads.max(1),
        }
    }
}
