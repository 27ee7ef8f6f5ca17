//! Verified bundle → preprocess → batch → run → postprocess. Threads, no async runtime.
//!
//! ```text
//! submit ─▶ checks, preprocess (caller's thread) ─▶ queue ─▶ batcher thread: join rows, run, split ─▶ reply
//!    └─ full: QueueFull at once
//! ```
//!
//! [`lm`] is the same for language models, which answer token by token.
//!
//! [`Engine::load`] takes a [`bms_bundle::Verified`], which only a trust policy can make: a bundle that has
//! not passed the gate cannot be loaded, by type.

mod answer;
mod batch;
mod engine;
mod independence;
mod input;
mod parts;
mod post;
mod present;
mod priority;
mod progress;
mod runs;
mod statistics;

pub mod fit;
pub mod lm;
pub mod oip;

pub use answer::{Answer, Classification};
pub use engine::{Description, Engine, EngineOptions};
pub use input::Input;
pub use present::drawn;
pub use priority::Priority;
pub use progress::Progress;
