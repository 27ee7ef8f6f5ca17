//! The contract between a scheduler and a decoder: whose tokens, at which positions, in which pages.
//!
//! A decoder owns the weights and the pages of the KV cache. It knows no requests: the caller decides which pages
//! belong to which sequence, shares them between sequences, and copies them when their contents part.

use bms_wire::{Code, Error, Result};

/// A page of the KV cache, all layers of it.
pub type PageId = u32;

/// Which positions of a segment the logits are wanted of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogitRows {
    /// None: the segment only fills the cache.
    None,
    /// The last one.
    Last,
    /// Every one, in order.
    All,
}

/// Neighbouring tokens of one sequence.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// The tokens to compute; at least one.
    pub tokens: &'a [u32],
    /// The position of the first one: so many tokens of the sequence are in the cache already.
    pub start: usize,
    /// The sequence's pages from position zero, enough for `start + tokens.len()` positions. Position `p` lies in
    /// slot `p % page_tokens` of `pages[p / page_tokens]`. The decoder writes positions from `start` on, and reads
    /// those before.
    pub pages: &'a [PageId],
    /// Whose logits are wanted.
    pub logits: LogitRows,
    /// The adapter, as [`Decoder::add_adapter`] numbered it.
    pub adapter: Option<usize>,
}

/// What a decoder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecoderInfo {
    /// Model name, as its file says.
    pub name: String,
    /// Architecture, as GGUF names it: `llama`, `qwen2`, …
    pub arch: String,
    /// Rows of logits.
    pub vocab: usize,
    /// Positions a sequence may have.
    pub context: usize,
    /// Transformer blocks.
    pub layers: usize,
    /// Width of a hidden state.
    pub d_model: usize,
    /// Pages of the KV cache.
    pub pages: usize,
    /// Positions in a page.
    pub page_tokens: usize,
    /// Bytes one position takes in the cache, all layers.
    pub kv_bytes_per_token: usize,
    /// Weights, counted.
    pub parameters: u64,
    /// Bytes of the weights as they lie in memory.
    pub weight_bytes: u64,
}

/// The files of a LoRA adapter.
#[derive(Clone, Copy, Debug)]
pub struct AdapterFiles<'a> {
    /// A GGUF adapter, or the `adapter_model.safetensors` of a PEFT folder.
    pub weights: &'a [u8],
    /// The `adapter_config.json` of a PEFT folder; a GGUF adapter has none.
    pub config: Option<&'a [u8]>,
}

/// A model that continues token sequences.
pub trait Decoder: Send {
    /// What it is.
    fn info(&self) -> &DecoderInfo;

    /// Computes all segments in one pass and appends the wanted logits to `logits`: rows of [`DecoderInfo::vocab`]
    /// values in the order of the segments. Segments of one batch never write one page, and none reads what another
    /// of the same batch writes.
    ///
    /// # Errors
    /// [`Code::Internal`] when the pass failed; the pages it would have written hold nothing of value then.
    fn forward(&mut self, batch: &[Segment<'_>], logits: &mut Vec<f32>) -> Result<()>;

    /// As [`Decoder::forward`], but appends the final hidden states of every token: rows of
    /// [`DecoderInfo::d_model`] values, after the last norm. `logits` of the segments is ignored.
    ///
    /// # Errors
    /// As [`Decoder::forward`]; [`Code::UnsupportedModel`] when the model gives none.
    fn hidden(&mut self, batch: &[Segment<'_>], states: &mut Vec<f32>) -> Result<()> {
        let _ = (batch, states);
        Err(Error::new(Code::UnsupportedModel, "this model gives no embeddings"))
    }

    /// Copies one page to another, all layers.
    fn copy_page(&mut self, from: PageId, to: PageId);

    /// Loads an adapter and numbers it. Numbers of removed adapters may be given again.
    ///
    /// # Errors
    /// [`Code::InvalidInput`] when the files are no adapter of this model; [`Code::UnsupportedModel`] when the model
    /// takes none.
    fn add_adapter(&mut self, files: &AdapterFiles<'_>) -> Result<usize> {
        let _ = files;
        Err(Error::new(Code::UnsupportedModel, "this model takes no adapters"))
    }

    /// The bytes of every weight in memory, in an order and with lengths that never change while it lives: for whoever
    /// checks that they are what was loaded, and puts back what is not. Adapters are not among them. A decoder that shows
    /// none cannot be guarded.
    fn weights_mut(&mut self) -> Vec<&mut [u8]> {
        Vec::new()
    }

    /// Unloads an adapter. No segment names it afterwards.
    fn remove_adapter(&mut self, adapter: usize) {
        let _ = adapter;
    }
}
