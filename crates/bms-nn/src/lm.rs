//! Language models: what a scheduler needs of one.

mod decoder;
pub mod gguf;
mod tokenizer;

pub use decoder::{AdapterFiles, Decoder, DecoderInfo, LogitRows, PageId, Segment};
pub use tokenizer::{TokenKind, Tokenizer, TokenizerFiles};
