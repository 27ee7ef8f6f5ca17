//! Language models: what a scheduler needs of one.

mod decoder;

pub use decoder::{AdapterFiles, Decoder, DecoderInfo, LogitRows, PageId, Segment};
