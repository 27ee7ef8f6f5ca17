//! Language models and what computes them.
//!
//! [`load()`] turns the files of a model into a [`Transformer`], which continues texts, or an [`Embedder`]. A scheduler
//! needs of a model only what [`Decoder`] says.

pub mod convert;
mod decoder;
mod embedder;
pub mod gguf;
mod guard;
pub mod hf;
mod hyper;
mod linear;
mod load;
mod lora;
mod moe;
pub mod names;
mod template;
mod tokenizer;
mod transformer;
mod weights;

// What a scheduler needs.
pub use decoder::{AdapterFiles, Decoder, DecoderInfo, LogitRows, PageId, Segment};
pub use template::{ChatTemplate, TemplateFiles, TemplateOrigin};
pub use tokenizer::{TokenKind, Tokenizer, TokenizerFiles};
// Weights, checked while they are in use.
pub use guard::{Checked, Damage, WeightGuard, weight_part};
// Models.
pub use embedder::{Embedder, normalise, pooled};
pub use hyper::{Activation, Arch, Experts, Hyper, Pooling, Rope, RopeStyle, Scaling, Window};
pub use load::{LoadOptions, ModelFiles, Network, load};
pub use transformer::Transformer;
