//! GGUF files, versions 2 and 3: reading without copying a tensor, and writing as a stream.
//!
//! Source: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. A file may come from a
//! stranger, so every count, length, offset and nesting is checked against what the file can hold
//! before anything is allocated; what passes [`GgufFile::parse`] can be read without a panic.

mod cursor;
mod kind;
mod metadata;
mod read;
#[cfg(test)]
mod tests;
mod value;
mod write;

pub use kind::TensorKind;
pub use metadata::Metadata;
pub use read::{GgufFile, TensorInfo};
pub use value::{Array, Value, ValueKind};
pub use write::{Entry, GgufWriter, Pair};

use bms_wire::{Code, Error};

/// The four bytes a file begins with.
pub const MAGIC: [u8; 4] = *b"GGUF";
/// Where tensors begin unless the file says otherwise, in bytes.
pub const ALIGNMENT_DEFAULT: usize = 32;
/// The largest alignment that makes sense: a huge page.
const ALIGNMENT_MAX: usize = 2 << 20;
/// Axes of one tensor.
pub const RANK_MAX: usize = 4;

/// A file that breaks the format.
fn broken(message: impl std::fmt::Display) -> Error {
    Error::new(Code::InvalidBundle, format!("the GGUF file is invalid: {message}"))
}
