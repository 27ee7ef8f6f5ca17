//! The forward pass of decoder-only transformers, for many sequences at once.
//!
//! ```text
//! embed ─▶ norm ─▶ q k v ─▶ bias, norm, rotate ─▶ cache ─▶ attend ─▶ o ─▶ add, norm ─▶ feed forward ─▶ add, norm ─▶ …
//! ```
//!
//! Families differ in numbers ([`Hyper`]) and in which weights there are, not in code. Matrices that read the same
//! activations are multiplied in one go; what lies between products is one pass over the rows. In the last layer only
//! the rows whose logits are wanted go on once their keys and values are stored.

mod batch;
mod build;
mod layer;
mod weights;

use bms_kernels::{
    Activations, KvError, KvKind, KvLayout, KvStore, Matrix, PAGE_TOKENS, Pool, Rope, Rotations,
};
use bms_wire::{Code, Error, Result};

use super::decoder::{AdapterFiles, Decoder, DecoderInfo, PageId, Segment};
use super::guard::Weight;
use super::hyper::Hyper;
use super::linear::{Linear, Source};
use super::lora::{self, Adapter};
use super::moe::{Mixture, MixtureScratch};
pub(super) use batch::Span;
use batch::Want;
pub(super) use build::vocabulary;
pub(super) use layer::grain;

/// Norms of a block.
#[derive(Debug)]
struct Norms {
    attention: Vec<f32>,
    query: Option<Vec<f32>>,
    key: Option<Vec<f32>>,
    after_attention: Option<Vec<f32>>,
    feed_forward: Vec<f32>,
    after_feed_forward: Option<Vec<f32>>,
}

/// An ordinary feed-forward network: `down (activation(gate x) · up x)`.
#[derive(Debug)]
pub(super) struct Dense {
    pub(super) gate: Linear,
    pub(super) up: Linear,
    pub(super) down: Linear,
}

#[derive(Debug)]
enum FeedForward {
    Dense(Dense),
    Mixture(Mixture),
}

#[derive(Debug)]
struct Layer {
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    norms: Norms,
    feed_forward: FeedForward,
    window: Option<usize>,
    /// Which of the rotary embeddings.
    rope: usize,
}

/// The weights.
#[derive(Debug)]
struct Model {
    hyper: Hyper,
    vocab: usize,
    embedding: Matrix,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    output: Option<Linear>,
}

/// Buffers of a pass, kept from one to the next.
#[derive(Debug, Default)]
struct Scratch {
    /// The residual stream.
    x: Vec<f32>,
    /// What the next product reads.
    h: Vec<f32>,
    /// Queries; later the gate of the feed-forward network.
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    /// What attention gives; later what the gate is multiplied with.
    a: Vec<f32>,
    /// What the last product of a half block gives.
    y: Vec<f32>,
    activations: Activations,
    positions: Vec<usize>,
    rotations: [Rotations; 2],
    mixture: MixtureScratch,
    adapter: lora::AdapterScratch,
}

/// The first `len` numbers of a buffer, which grows when it must.
pub(super) fn room(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// A decoder-only transformer with its KV cache.
#[derive(Debug)]
pub struct Transformer {
    model: Model,
    pool: Pool,
    kv: KvStore,
    ropes: Vec<Rope>,
    adapters: Vec<Option<Adapter>>,
    scratch: Scratch,
    info: DecoderInfo,
}

/// How a transformer is set up beside its weights.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pub(super) kind: KvKind,
    /// Positions a sequence may have; `None` for those it was trained for, or as many as the cache has room for.
    pub(super) context: Option<usize>,
    /// Bytes of the cache.
    pub(super) kv_bytes: u64,
}

impl Transformer {
    /// Loads the weights.
    pub(super) fn load(source: Source<'_>, pool: Pool, hyper: Hyper, setup: Setup) -> Result<Transformer> {
        let loader = source.loader(&pool);
        let model = build::model(&loader, hyper)?;
        let (parameters, weight_bytes) = (loader.parameters.get(), loader.bytes.get());
        let partial = loader.is_partial();
        let hyper = &model.hyper;
        let layout = KvLayout { kv_heads: hyper.kv_heads, head_dim: hyper.head_dim, kind: setup.kind };
        let fit = pages(hyper, layout, setup.kv_bytes);
        let context = setup.context.unwrap_or(hyper.context.min(fit.saturating_mul(PAGE_TOKENS)));
        if !(1..=hyper.context).contains(&context) {
            return Err(Error::new(
                Code::InvalidInput,
                format!("a context of {context} tokens is asked for, the model has 1 to {}", hyper.context),
            ));
        }
        let pages = match partial {
            true => 1,
            false => fit.max(context.div_ceil(PAGE_TOKENS)).min(PageId::MAX as usize),
        };
        let kv = KvStore::new(hyper.layers, pages, layout).map_err(no_cache)?;
        let local = hyper.window.as_ref().and_then(|window| window.rope.as_ref());
        let ropes = hyper.rope.iter().chain(local).map(|rope| rope.computed(context)).collect();
        let info = DecoderInfo {
            name: hyper.name.clone().unwrap_or_default(),
            arch: hyper.arch.as_str().to_owned(),
            vocab: model.vocab,
            context,
            layers: hyper.layers,
            d_model: hyper.d_model,
            pages: kv.pages(),
            page_tokens: PAGE_TOKENS,
            kv_bytes_per_token: kv.bytes_per_token(),
            parameters,
            weight_bytes,
        };
        Ok(Transformer { model, pool, kv, ropes, adapters: Vec::new(), scratch: Scratch::default(), info })
    }

    /// Its hyper-parameters.
    pub fn hyper(&self) -> &Hyper {
        &self.model.hyper
    }

    fn pass(&mut self, batch: &[Segment<'_>], want: Want, out: &mut Vec<f32>) -> Result<()> {
        batch::check(batch, &self.info, &self.adapters)?;
        layer::Pass::new(self, batch, want).run(out);
        Ok(())
    }
}

/// Pages that fit into so many bytes, at least one.
fn pages(hyper: &Hyper, layout: KvLayout, bytes: u64) -> usize {
    let page = layout.page_bytes().and_then(|bytes| bytes.checked_mul(hyper.layers)).unwrap_or(usize::MAX);
    (usize::try_from(bytes).unwrap_or(usize::MAX) / page.max(1)).max(1)
}

fn no_cache(error: KvError) -> Error {
    let code = match error {
        KvError::Shape(_) => Code::UnsupportedModel,
        _ => Code::Internal,
    };
    Error::new(code, error.to_string()).because(error)
}

impl Decoder for Transformer {
    fn info(&self) -> &DecoderInfo {
        &self.info
    }

    fn forward(&mut self, batch: &[Segment<'_>], logits: &mut Vec<f32>) -> Result<()> {
        self.pass(batch, Want::Logits, logits)
    }

    fn hidden(&mut self, batch: &[Segment<'_>], states: &mut Vec<f32>) -> Result<()> {
        self.pass(batch, Want::States, states)
    }

    fn copy_page(&mut self, from: PageId, to: PageId) {
        self.kv.copy_page(from, to);
    }

    fn add_adapter(&mut self, files: &AdapterFiles<'_>) -> Result<usize> {
        let adapter = Adapter::load(&self.pool, &self.model.hyper, self.model.vocab, files)?;
        match self.adapters.iter().position(Option::is_none) {
            Some(free) => {
                self.adapters[free] = Some(adapter);
                Ok(free)
            }
            None => {
                self.adapters.push(Some(adapter));
                Ok(self.adapters.len() - 1)
            }
        }
    }

    fn weights_mut(&mut self) -> Vec<&mut [u8]> {
        self.weights().into_iter().map(Weight::into_bytes).collect()
    }

    fn remove_adapter(&mut self, adapter: usize) {
        if let Some(place) = self.adapters.get_mut(adapter) {
            *place = None;
        }
    }
}
