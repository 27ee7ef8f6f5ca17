//! Encoders of the BERT family: texts become vectors whose angles tell how alike they are.
//!
//! Sources: <https://arxiv.org/abs/1810.04805> (BERT), <https://arxiv.org/abs/1908.10084> (sentence embeddings).

mod build;
mod pool;
mod weights;

use bms_kernels::{
    Activation, Activations, AttendParams, AttendSeq, KvStore, Matrix, PAGE_TOKENS, PageId, Pool,
    activate_row, add_row, attend, for_rows, layer_norm_row, matmul,
};
use bms_wire::{Code, Error, Result};

pub use pool::{normalise, pooled};

use super::hyper::{Hyper, Pooling};
use super::linear::Linear;
use super::transformer::{grain, room};

/// Rows that are computed together: enough to keep all threads busy, little enough for the caches.
const ROWS_MAX: usize = 512;

/// A layer norm.
#[derive(Debug)]
struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

#[derive(Debug)]
struct Layer {
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    attention_norm: Norm,
    up: Linear,
    down: Linear,
    norm: Norm,
}

/// Buffers kept from one batch to the next.
#[derive(Debug, Default)]
struct Scratch {
    x: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    a: Vec<f32>,
    y: Vec<f32>,
    up: Vec<f32>,
    activations: Activations,
}

/// An encoder that embeds texts.
#[derive(Debug)]
pub struct Embedder {
    hyper: Hyper,
    pool: Pool,
    embedding: Matrix,
    positions: Matrix,
    /// The embedding of the only segment a text has.
    segment: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
    /// Keys and values of the layer at work.
    kv: KvStore,
    pooling: Pooling,
    normalised: bool,
    scratch: Scratch,
    parameters: u64,
    weight_bytes: u64,
}

impl Embedder {
    /// Width of a vector.
    pub fn width(&self) -> usize {
        self.hyper.d_model
    }

    /// Tokens a text may have, special ones included.
    pub fn context(&self) -> usize {
        self.hyper.context
    }

    /// Tokens of the vocabulary.
    pub fn vocab(&self) -> usize {
        self.embedding.rows()
    }

    /// Its hyper-parameters.
    pub fn hyper(&self) -> &Hyper {
        &self.hyper
    }

    /// Weights, counted.
    pub fn parameters(&self) -> u64 {
        self.parameters
    }

    /// Bytes of the weights as they lie in memory.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// One vector for each text, given as tokens with the special ones a text begins and ends with.
    ///
    /// # Errors
    /// [`Code::InvalidInput`] for a text without tokens, with more than [`Embedder::context`], or with one that is not
    /// in the vocabulary.
    pub fn embed<T: AsRef<[u32]>>(&mut self, texts: &[T]) -> Result<Vec<Vec<f32>>> {
        for (index, text) in texts.iter().enumerate() {
            self.check(text.as_ref())
                .map_err(|error| error.while_doing(format_args!("embed text {index}")))?;
        }
        // Texts of like lengths make batches of like work.
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|index| texts[*index].as_ref().len());
        let mut vectors = vec![Vec::new(); texts.len()];
        let mut rest = order.as_slice();
        while !rest.is_empty() {
            let mut rows = 0;
            let fits = rest
                .iter()
                .take_while(|index| {
                    rows += texts[**index].as_ref().len();
                    rows <= ROWS_MAX
                })
                .count()
                .max(1);
            let (now, later) = rest.split_at(fits);
            let batch: Vec<&[u32]> = now.iter().map(|index| texts[*index].as_ref()).collect();
            for (index, vector) in now.iter().zip(self.batch(&batch)) {
                vectors[*index] = vector;
            }
            rest = later;
        }
        Ok(vectors)
    }

    fn check(&self, text: &[u32]) -> Result<()> {
        if text.is_empty() || self.context() < text.len() {
            let message = format!("it has {} tokens, 1 to {} are possible", text.len(), self.context());
            return Err(Error::new(Code::InvalidInput, message));
        }
        match text.iter().find(|token| self.vocab() <= **token as usize) {
            Some(token) => {
                let message = format!("token {token} is not in the vocabulary of {}", self.vocab());
                Err(Error::new(Code::InvalidInput, message))
            }
            None => Ok(()),
        }
    }

    /// The vectors of texts that are computed together.
    fn batch(&mut self, texts: &[&[u32]]) -> Vec<Vec<f32>> {
        let rows = texts.iter().map(|text| text.len()).sum();
        let mut page = 0;
        let pages: Vec<Vec<PageId>> = texts
            .iter()
            .map(|text| {
                let first = page;
                page += text.len().div_ceil(PAGE_TOKENS) as PageId;
                (first..page).collect()
            })
            .collect();
        let mut first_row = 0;
        let mut sequences = Vec::with_capacity(texts.len());
        for (text, pages) in texts.iter().zip(&pages) {
            sequences.push(AttendSeq { pages, start: 0, rows: text.len(), first_row });
            first_row += text.len();
        }
        self.look_up(texts, rows);
        for index in 0..self.layers.len() {
            self.attention(index, rows, &sequences);
            self.feed_forward(index, rows);
        }
        let width = self.width();
        let finish = |sequence: &AttendSeq<'_>| {
            let states = &self.scratch.x[sequence.first_row * width..][..sequence.rows * width];
            let mut vector = pooled(states, width, self.pooling);
            if self.normalised {
                normalise(&mut vector);
            }
            vector
        };
        sequences.iter().map(finish).collect()
    }

    /// Embeddings of tokens, positions and the segment.
    fn look_up(&mut self, texts: &[&[u32]], rows: usize) {
        let Embedder { hyper, pool, embedding, positions, segment, norm, scratch, .. } = self;
        let (d, eps, isa) = (hyper.d_model, hyper.norm_eps, pool.isa());
        let tokens: Vec<(u32, usize)> = texts
            .iter()
            .flat_map(|text| text.iter().enumerate().map(|(position, token)| (*token, position)))
            .collect();
        let (x, y) = (room(&mut scratch.x, rows * d), room(&mut scratch.y, rows * d));
        for_rows(pool, rows, grain(d), [x, y], &|range, [x, y]| {
            let rows = x.chunks_exact_mut(d).zip(y.chunks_exact_mut(d));
            for ((x, y), (token, position)) in rows.zip(&tokens[range]) {
                embedding.row(*token as usize, y);
                positions.row(*position, x);
                add_row(isa, y, x);
                add_row(isa, y, segment);
                layer_norm_row(isa, y, &norm.weight, Some(&norm.bias), eps, x);
            }
        });
    }

    fn attention(&mut self, index: usize, rows: usize, sequences: &[AttendSeq<'_>]) {
        let Embedder { hyper, pool, layers, kv, scratch, .. } = self;
        let (d, layer, isa) = (hyper.d_model, &layers[index], pool.isa());
        let Scratch { x, q, k, v, a, y, activations, .. } = scratch;
        let (q, k, v) = (room(q, rows * d), room(k, rows * d), room(v, rows * d));
        let products =
            &mut [(&layer.q.matrix, &mut *q), (&layer.k.matrix, &mut *k), (&layer.v.matrix, &mut *v)];
        matmul(pool, activations, &x[..rows * d], rows, products);
        for_rows(pool, rows, grain(d), [&mut *q, &mut *k, &mut *v], &|_, [q, k, v]| {
            for (linear, out) in [(&layer.q, q), (&layer.k, k), (&layer.v, v)] {
                if let Some(bias) = &linear.bias {
                    out.chunks_exact_mut(d).for_each(|row| add_row(isa, row, bias));
                }
            }
        });
        kv.write_rows(pool, 0, sequences, k, v);
        let params = AttendParams {
            heads: hyper.heads,
            scale: hyper.attention_scale,
            window: None,
            softcap: None,
            causal: false,
        };
        let (a, y) = (room(a, rows * d), room(y, rows * d));
        attend(pool, kv, 0, sequences, q, a, &params);
        matmul(pool, activations, a, rows, &mut [(&layer.o.matrix, y)]);
        let bias = layer.o.bias.as_deref();
        add_and_norm(pool, hyper, rows, &mut x[..rows * d], y, bias, &layer.attention_norm);
    }

    fn feed_forward(&mut self, index: usize, rows: usize) {
        let Embedder { hyper, pool, layers, scratch, .. } = self;
        let (d, ffn, layer, isa) = (hyper.d_model, hyper.ffn, &layers[index], pool.isa());
        let activation: Activation = hyper.activation;
        let Scratch { x, y, up, activations, .. } = scratch;
        let (up, y) = (room(up, rows * ffn), room(y, rows * d));
        matmul(pool, activations, &x[..rows * d], rows, &mut [(&layer.up.matrix, &mut *up)]);
        for_rows(pool, rows, grain(ffn), [&mut *up], &|_, [up]| {
            for row in up.chunks_exact_mut(ffn) {
                if let Some(bias) = &layer.up.bias {
                    add_row(isa, row, bias);
                }
                activate_row(isa, activation, row);
            }
        });
        matmul(pool, activations, up, rows, &mut [(&layer.down.matrix, &mut *y)]);
        add_and_norm(pool, hyper, rows, &mut x[..rows * d], y, layer.down.bias.as_deref(), &layer.norm);
    }
}

/// `x = norm(x + y + bias)`.
fn add_and_norm(
    pool: &Pool,
    hyper: &Hyper,
    rows: usize,
    x: &mut [f32],
    y: &mut [f32],
    bias: Option<&[f32]>,
    norm: &Norm,
) {
    let (d, eps, isa) = (hyper.d_model, hyper.norm_eps, pool.isa());
    for_rows(pool, rows, grain(d), [x, y], &|_, [x, y]| {
        for (x, y) in x.chunks_exact_mut(d).zip(y.chunks_exact_mut(d)) {
            add_row(isa, y, x);
            if let Some(bias) = bias {
                add_row(isa, y, bias);
            }
            layer_norm_row(isa, y, &norm.weight, Some(&norm.bias), eps, x);
        }
    });
}

#[cfg(test)]
mod tests;
