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

mod activation;
mod activations;
#[cfg(target_arch = "x86_64")]
mod ahead;
mod attention;
#[cfg(test)]
mod check;
mod dequant;
mod format;
mod gemm;
mod heap;
mod isa;
mod kv;
mod map;
mod matmul;
mod matrix;
mod norm;
mod pieces;
mod pool;
mod quant;
mod rope;
mod simd;
mod softmax;
mod split;
mod vector;

pub mod probe;

// Threads and instruction sets.
pub use isa::Isa;
pub use pool::Pool;
pub use split::{RowsFn, for_rows};
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
// Rows of numbers.
pub use activation::{Activation, activate, activate_row, gate, gate_row};
pub use gemm::gemm_f32;
pub use norm::{
    layer_norm, layer_norm_row, rms_norm, rms_norm_in_place, rms_norm_row, rms_norm_row_in_place,
};
pub use rope::{Rope, RopeStyle, Rotations};
pub use softmax::{argmax, log_sum_exp, soft_cap, soft_cap_row, softmax, softmax_row};
pub use vector::{add, add_bias, add_row, add_scaled, add_scaled_row, dot, scale, scale_row};
// Files and memory.
pub use heap::trim_heap;
pub use map::MappedFile;
