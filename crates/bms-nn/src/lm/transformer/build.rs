//! Makes a transformer out of the tensors of a file.

use bms_kernels::Matrix;
use bms_wire::{Code, Error, Result};

use super::{Dense, FeedForward, Layer, Model, Norms};
use crate::lm::hyper::{Arch, Hyper};
use crate::lm::linear::{Linear, Loader};
use crate::lm::moe::Mixture;

/// Loads all weights. The pool comes with the loader and goes into the model beside them.
pub(super) fn model(loader: &Loader<'_>, hyper: Hyper) -> Result<Model> {
    let d = hyper.d_model;
    let vocab = vocabulary(loader, &hyper)?;
    // The largest first: each is in memory twice while it is packed, which costs least while there is little else.
    let embedding = loader.matrix("token_embd.weight", vocab, d)?;
    let output = output(loader, &hyper, vocab)?;
    let mut layers = Vec::new();
    for index in 0..hyper.layers {
        layers.push(layer(loader, &hyper, index)?);
    }
    let norm = loader.vector("output_norm.weight", d)?;
    loader.weights.finish()?;
    Ok(Model { hyper, vocab, embedding, layers, norm, output })
}

/// Tokens the embedding has.
pub(in crate::lm) fn vocabulary(loader: &Loader<'_>, hyper: &Hyper) -> Result<usize> {
    let missing = || Error::new(Code::InvalidBundle, "the tensor `token_embd.weight` is missing");
    let shape = loader.weights.shape("token_embd.weight").ok_or_else(missing)?;
    match (hyper.vocab, shape.first()) {
        (Some(vocab), _) => Ok(vocab),
        (None, Some(rows)) => Ok(*rows),
        (None, None) => Err(missing()),
    }
}

/// The output matrix, `None` when it is the embedding.
fn output(loader: &Loader<'_>, hyper: &Hyper, vocab: usize) -> Result<Option<Linear>> {
    match (hyper.tied, loader.weights.has("output.weight")) {
        (Some(true), _) => {
            loader.weights.pass_over("output.weight");
            Ok(None)
        }
        (None, false) => Ok(None),
        (_, _) => loader.linear("output", vocab, hyper.d_model).map(Some),
    }
}

fn layer(loader: &Loader<'_>, hyper: &Hyper, index: usize) -> Result<Layer> {
    let stem = |name: &str| format!("blk.{index}.{name}");
    let (d, head) = (hyper.d_model, hyper.head_dim);
    let (q_rows, kv_rows) = (hyper.heads * head, hyper.kv_heads * head);
    let [q, k, v] = match loader.weights.has(&stem("attn_qkv.weight")) {
        true => loader.fused(&stem("attn_qkv"), [q_rows, kv_rows, kv_rows], d)?,
        false => [
            loader.linear(&stem("attn_q"), q_rows, d)?,
            loader.linear(&stem("attn_k"), kv_rows, d)?,
            loader.linear(&stem("attn_v"), kv_rows, d)?,
        ],
    };
    if matches!(hyper.arch, Arch::Qwen2 | Arch::Qwen2Moe) && q.bias.is_none() {
        return Err(Error::new(
            Code::InvalidBundle,
            format!("the tensor `{}` is missing", stem("attn_q.bias")),
        ));
    }
    let vector = |name: &str, len: usize, has: bool| has.then(|| loader.vector(&stem(name), len)).transpose();
    let sandwich = matches!(hyper.arch, Arch::Gemma2 | Arch::Gemma3);
    let heads = matches!(hyper.arch, Arch::Qwen3 | Arch::Qwen3Moe | Arch::Gemma3);
    let norms = Norms {
        attention: loader.vector(&stem("attn_norm.weight"), d)?,
        query: vector("attn_q_norm.weight", head, heads)?,
        key: vector("attn_k_norm.weight", head, heads)?,
        after_attention: vector("post_attention_norm.weight", d, sandwich)?,
        feed_forward: loader.vector(&stem("ffn_norm.weight"), d)?,
        after_feed_forward: vector("post_ffw_norm.weight", d, sandwich)?,
    };
    let o = loader.linear(&stem("attn_output"), d, q_rows)?;
    let feed_forward = match &hyper.experts {
        Some(experts) if hyper.has_experts(index) => {
            FeedForward::Mixture(Mixture::load(loader, index, d, experts)?)
        }
        _ => FeedForward::Dense(dense(loader, hyper, index)?),
    };
    let window = hyper.window_of(index);
    let local = window.is_some() && hyper.window.as_ref().is_some_and(|window| window.rope.is_some());
    Ok(Layer { q, k, v, o, norms, feed_forward, window, rope: usize::from(local) })
}

fn dense(loader: &Loader<'_>, hyper: &Hyper, index: usize) -> Result<Dense> {
    let stem = |name: &str| format!("blk.{index}.{name}");
    let (d, ffn) = (hyper.d_model, hyper.ffn);
    let fused = hyper.arch == Arch::Phi3 && !loader.weights.has(&stem("ffn_gate.weight"));
    let [gate, up] = match fused {
        true => loader.fused(&stem("ffn_up"), [ffn, ffn], d)?,
        false => [loader.linear(&stem("ffn_gate"), ffn, d)?, loader.linear(&stem("ffn_up"), ffn, d)?],
    };
    Ok(Dense { gate, up, down: loader.linear(&stem("ffn_down"), d, ffn)? })
}

impl Model {
    /// The output matrix.
    pub(super) fn output_matrix(&self) -> &Matrix {
        self.output.as_ref().map_or(&self.embedding, |output| &output.matrix)
    }
}
