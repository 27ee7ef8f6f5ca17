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

mod event;
mod metrics;
mod request;
mod ticket;

pub use event::{Completion, Event, FinishReason, TokenOut, Usage};
pub use metrics::{Histogram, LanguageMetrics};
pub use request::{Constraint, Request, Sampling};
pub use ticket::Ticket;
