//! Language models: many requests share one decoder, continuously batched. Threads, no async runtime.
//!
//! ```text
//! generate ─▶ checks (caller's thread) ─▶ fair queue ─▶ engine thread: plan, forward, sample ─▶ delivery thread ─▶ sink
//!    └─ full: QueueFull at once              ▲ preempted ──┘ │ full pages
//!                                            └── prefix tree ◀┘
//! ```
//!
//! Each step of the engine thread computes one token of every running sequence and a bounded piece of the prompts that
//! wait, in one pass of the decoder. The keys and values of all sequences lie in pages of one pool; sequences with a
//! common prefix share its pages.

mod answer;
mod audit;
mod cache;
mod compute;
mod constraint;
mod core;
mod cost;
mod draft;
mod embedding;
mod engine;
mod event;
mod metrics;
mod options;
mod pages;
mod plan;
mod prefixes;
mod queue;
mod random;
mod request;
mod said;
mod sample;
mod sequence;
mod speculate;
mod text;
mod ticket;
mod vocabulary;

pub use audit::{AUDIT_SHARE_MAX, Guarding, Repair, WeightSource};
pub use embedding::Pooling;
pub use engine::LanguageEngine;
pub use event::{Completion, Event, FinishReason, TokenOut, Usage};
pub use metrics::{Histogram, LanguageMetrics};
pub use options::LanguageOptions;
pub use random::fresh_seed;
pub use request::{Constraint, Request, Sampling};
pub use said::{Said, SaidToken};
pub use ticket::Ticket;
pub use vocabulary::Vocabulary;

#[cfg(test)]
mod tests;
