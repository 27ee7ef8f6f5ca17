//! Language models: what a scheduler needs of one.

mod decoder;
pub mod gguf;

pub use decoder::{AdapterFiles, Decoder, DecoderInfo, LogitRows, PageId, Segment};
