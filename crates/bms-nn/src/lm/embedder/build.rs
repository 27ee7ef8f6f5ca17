//! Makes an encoder out of the tensors of a file.

use bms_kernels::{KvKind, KvLayout, KvStore, PAGE_TOKENS, Pool};
use bms_wire::{Code, Error, Result};

use super::{Embedder, Layer, Norm, ROWS_MAX, Scratch};
use crate::lm::hyper::{Hyper, Pooling};
use crate::lm::linear::{Loader, Source};
use crate::lm::transformer::vocabulary;

impl Embedder {
    /// Loads the weights.
    pub(in crate::lm) fn load(
        source: Source<'_>,
        pool: Pool,
        hyper: Hyper,
        normalised: bool,
    ) -> Result<Embedder> {
        let loader = source.loader(&pool);
        let d = hyper.d_model;
        let vocab = vocabulary(&loader, &hyper)?;
        let embedding = loader.matrix("token_embd.weight", vocab, d)?;
        let positions = loader.matrix("position_embd.weight", hyper.context, d)?;
        let segment = segment(&loader, d)?;
        let norm = norm(&loader, "token_embd_norm", d)?;
        let layers = (0..hyper.layers).map(|index| layer(&loader, &hyper, index)).collect::<Result<_>>()?;
        loader.weights.finish()?;
        let layout = KvLayout { kv_heads: hyper.heads, head_dim: hyper.head_dim, kind: KvKind::F32 };
        // Every text of a batch may leave a page unfilled.
        let pages = match loader.is_partial() {
            true => 1,
            false => ROWS_MAX + hyper.context.div_ceil(PAGE_TOKENS),
        };
        let kv = KvStore::new(1, pages, layout)
            .map_err(|error| Error::new(Code::UnsupportedModel, error.to_string()).because(error))?;
        let (parameters, weight_bytes) = (loader.parameters.get(), loader.bytes.get());
        let pooling = hyper.pooling.unwrap_or(Pooling::Mean);
        let scratch = Scratch::default();
        Ok(Embedder {
            hyper,
            pool,
            embedding,
            positions,
            segment,
            norm,
            layers,
            kv,
            pooling,
            normalised,
            scratch,
            parameters,
            weight_bytes,
        })
    }
}

/// The embedding of the first kind of segment. Files of one kind may hold it as a vector.
fn segment(loader: &Loader<'_>, d: usize) -> Result<Vec<f32>> {
    let kinds = match loader.weights.shape("token_types.weight") {
        Some([kinds, _]) => *kinds,
        _ => 1,
    };
    let matrix = loader.passing_matrix("token_types.weight", kinds, d)?;
    let mut row = vec![0.0; d];
    matrix.row(0, &mut row);
    Ok(row)
}

fn norm(loader: &Loader<'_>, stem: &str, len: usize) -> Result<Norm> {
    Ok(Norm {
        weight: loader.vector(&format!("{stem}.weight"), len)?,
        bias: loader.vector(&format!("{stem}.bias"), len)?,
    })
}

fn layer(loader: &Loader<'_>, hyper: &Hyper, index: usize) -> Result<Layer> {
    let stem = |name: &str| format!("blk.{index}.{name}");
    let (d, ffn) = (hyper.d_model, hyper.ffn);
    let [q, k, v] = match loader.weights.has(&stem("attn_qkv.weight")) {
        true => loader.fused(&stem("attn_qkv"), [d, d, d], d)?,
        false => [
            loader.linear(&stem("attn_q"), d, d)?,
            loader.linear(&stem("attn_k"), d, d)?,
            loader.linear(&stem("attn_v"), d, d)?,
        ],
    };
    Ok(Layer {
        q,
        k,
        v,
        o: loader.linear(&stem("attn_output"), d, d)?,
        attention_norm: norm(loader, &stem("attn_output_norm"), d)?,
        up: loader.linear(&stem("ffn_up"), ffn, d)?,
        down: loader.linear(&stem("ffn_down"), d, ffn)?,
        norm: norm(loader, &stem("layer_output_norm"), d)?,
    })
}
