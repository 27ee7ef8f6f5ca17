//! SIMD and scalar maths for language models, and the threads it runs on. Knows no models and no files' formats beyond
//! the blocks of quantised weights.
//!
//! ```text
//! Matrix::pack(bytes of a file) ─┐
//!                                ├─▶ matmul ─▶ f32 rows
//! Activations::set(f32 rows) ────┘
//! ```
//!
//! What is fast stands beside what is plain: every kernel has a scalar reference, and the tests run each on every
//! instruction set of the machine ([`Isa::available`]), not only on the best. An operation is written once for an
//! instruction set, chosen at run time by the [`Pool`] it is given.
//!
//! Unsafe code lives here so that the rest of the workspace can forbid it.

mod activations;
mod attention;
mod dequant;
mod format;
mod isa;
mod kv;
mod map;
mod matmul;
mod matrix;
mod pool;
mod quant;
mod simd;
mod split;

pub mod probe;

// Threads and instruction sets.
pub use isa::Isa;
pub use pool::Pool;
pub use split::for_rows;
// Weights and products.
pub use activations::Activations;
pub use dequant::{dequantise_row, dequantise_row_with};
pub use format::Format;
pub use matmul::matmul;
pub use matrix::{Matrix, PackError};
pub use quant::{quantise_row, quantise_row_with};
// Attention.
pub use attention::{AttendParams, AttendSeq, attend};
pub use kv::{HEAD_DIM_MAX, HEAD_DIM_MULTIPLE, KvError, KvKind, KvLayout, KvStore, PAGE_TOKENS, PageId};
// Files.
pub use map::MappedFile;
