//! One pass through all layers.

use bms_kernels::{
    AttendParams, AttendSeq, KvStore, Pool, Rope, add_row, attend, for_rows, gate_row, matmul, rms_norm_row,
    rms_norm_row_in_place, scale_row,
};

use super::batch::{self, Span, Want};
use super::{Dense, FeedForward, Layer, Model, Scratch, Transformer, room};
use crate::lm::decoder::Segment;
use crate::lm::lora::{Adapter, Adapting, Slot};
use crate::lm::moe::Work;

/// Numbers a thread must have to do between products so that starting it pays.
const GRAIN: usize = 8192;

/// Rows of `width` numbers that are worth a thread.
pub(in crate::lm) fn grain(width: usize) -> usize {
    GRAIN.div_ceil(width.max(1))
}

/// A pass: the transformer in its parts, and the rows that are left.
pub(super) struct Pass<'a> {
    model: &'a Model,
    pool: &'a Pool,
    kv: &'a mut KvStore,
    ropes: &'a [Rope],
    adapters: &'a [Option<Adapter>],
    s: &'a mut Scratch,
    batch: &'a [Segment<'a>],
    want: Want,
    rows: usize,
    spans: Vec<Span>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(whole: &'a mut Transformer, batch: &'a [Segment<'a>], want: Want) -> Pass<'a> {
        let Transformer { model, pool, kv, ropes, adapters, scratch, .. } = whole;
        let rows = batch.iter().map(|segment| segment.tokens.len()).sum();
        let spans = batch::spans(batch, |segment| segment.tokens.len());
        Pass { model, pool, kv, ropes, adapters, s: scratch, batch, want, rows, spans }
    }

    /// Computes everything and appends what is wanted to `out`.
    pub(super) fn run(mut self, out: &mut Vec<f32>) {
        if self.rows == 0 {
            return;
        }
        self.embed();
        let mut sequences = batch::sequences(self.batch, |segment| segment.tokens.len());
        let model = self.model;
        for (index, layer) in model.layers.iter().enumerate() {
            self.keys_and_values(index, layer, &sequences);
            if index + 1 == model.layers.len() {
                sequences = self.keep_wanted();
                if self.rows == 0 {
                    return;
                }
            }
            self.attention(index, layer, &sequences);
            let next = model.layers.get(index + 1).map_or(&model.norm, |next| &next.norms.attention);
            self.feed_forward(index, layer, next);
        }
        match self.want {
            Want::States => out.extend_from_slice(&self.s.h[..self.rows * model.hyper.d_model]),
            Want::Logits => self.logits(out),
        }
    }

    /// Looks the tokens up, and makes ready what the first layer reads.
    fn embed(&mut self) {
        let (model, isa) = (self.model, self.pool.isa());
        let hyper = &model.hyper;
        let d = hyper.d_model;
        let tokens: Vec<u32> = self.batch.iter().flat_map(|segment| segment.tokens).copied().collect();
        self.s.positions.clear();
        for segment in self.batch {
            self.s.positions.extend(segment.start..segment.start + segment.tokens.len());
        }
        for (rotations, rope) in self.s.rotations.iter_mut().zip(self.ropes) {
            rotations.set(self.pool, rope, &self.s.positions);
        }
        let norm: &[f32] = model.layers.first().map_or(&model.norm, |layer| &layer.norms.attention);
        let (x, h) = (room(&mut self.s.x, self.rows * d), room(&mut self.s.h, self.rows * d));
        for_rows(self.pool, self.rows, grain(d), [x, h], &|range, [x, h]| {
            let rows = x.chunks_exact_mut(d).zip(h.chunks_exact_mut(d));
            for ((x, h), token) in rows.zip(&tokens[range]) {
                model.embedding.row(*token as usize, x);
                if hyper.embedding_scale != 1.0 {
                    scale_row(isa, x, hyper.embedding_scale);
                }
                rms_norm_row(isa, x, norm, hyper.norm_eps, h);
            }
        });
    }

    /// Queries, keys and values of all rows; the latter two go into the cache.
    fn keys_and_values(&mut self, index: usize, layer: &Layer, sequences: &[AttendSeq<'_>]) {
        let (hyper, rows, pool) = (&self.model.hyper, self.rows, self.pool);
        let (q_width, kv_width) = (hyper.heads * hyper.head_dim, hyper.kv_heads * hyper.head_dim);
        let adapting = Adapting { pool, adapters: self.adapters, spans: &self.spans, layer: Some(index) };
        let Scratch { h, q, k, v, activations, rotations, adapter, .. } = &mut *self.s;
        let h = &h[..rows * hyper.d_model];
        let q = room(q, rows * q_width);
        let (k, v) = (room(k, rows * kv_width), room(v, rows * kv_width));
        matmul(
            pool,
            activations,
            h,
            rows,
            &mut [(&layer.q.matrix, q), (&layer.k.matrix, k), (&layer.v.matrix, v)],
        );
        for (slot, out) in [(Slot::Q, &mut *q), (Slot::K, &mut *k), (Slot::V, &mut *v)] {
            adapting.add(slot, h, out, adapter);
        }
        let rotations = &rotations[layer.rope];
        let (isa, eps) = (pool.isa(), hyper.norm_eps);
        let head = hyper.head_dim;
        let finish = |row: usize, x: &mut [f32], bias: &Option<Vec<f32>>, norm: &Option<Vec<f32>>| {
            if let Some(bias) = bias {
                add_row(isa, x, bias);
            }
            if let Some(norm) = norm {
                x.chunks_exact_mut(head).for_each(|x| rms_norm_row_in_place(isa, x, norm, eps));
            }
            rotations.apply_row(isa, row, x, head);
        };
        for_rows(pool, rows, grain(q_width + kv_width), [q, k, v], &|range, [q, k, v]| {
            for (at, row) in range.enumerate() {
                finish(row, part(q, at, q_width), &layer.q.bias, &layer.norms.query);
                finish(row, part(k, at, kv_width), &layer.k.bias, &layer.norms.key);
                if let Some(bias) = &layer.v.bias {
                    add_row(isa, part(v, at, kv_width), bias);
                }
            }
        });
        self.kv.write_rows(pool, index, sequences, &k[..rows * kv_width], &v[..rows * kv_width]);
    }

    /// Drops the rows of which nothing is wanted; what is left moves together.
    fn keep_wanted(&mut self) -> Vec<AttendSeq<'a>> {
        let (hyper, want) = (&self.model.hyper, self.want);
        let (d, q_width) = (hyper.d_model, hyper.heads * hyper.head_dim);
        let (mut from, mut to) = (0, 0);
        for segment in self.batch {
            let (all, kept) = (segment.tokens.len(), batch::wanted(segment, want));
            let rows = from + all - kept..from + all;
            self.s.x.copy_within(rows.start * d..rows.end * d, to * d);
            self.s.q.copy_within(rows.start * q_width..rows.end * q_width, to * q_width);
            from += all;
            to += kept;
        }
        self.rows = to;
        self.spans = batch::spans(self.batch, |segment| batch::wanted(segment, want));
        batch::sequences(self.batch, |segment| batch::wanted(segment, want))
    }

    /// Attention and its projection, added to the stream; leaves what the feed-forward network reads.
    fn attention(&mut self, index: usize, layer: &Layer, sequences: &[AttendSeq<'_>]) {
        let (hyper, rows, pool) = (&self.model.hyper, self.rows, self.pool);
        let (d, q_width) = (hyper.d_model, hyper.heads * hyper.head_dim);
        let adapting = Adapting { pool, adapters: self.adapters, spans: &self.spans, layer: Some(index) };
        let Scratch { q, a, y, activations, adapter, .. } = &mut *self.s;
        let (q, a, y) = (&q[..rows * q_width], room(a, rows * q_width), room(y, rows * d));
        let params = AttendParams {
            heads: hyper.heads,
            scale: hyper.attention_scale,
            window: layer.window,
            softcap: hyper.attention_softcap,
            causal: true,
        };
        attend(pool, self.kv, index, sequences, q, a, &params);
        matmul(pool, activations, a, rows, &mut [(&layer.o.matrix, y)]);
        adapting.add(Slot::O, a, y, adapter);
        let after = layer.norms.after_attention.as_deref();
        self.add_and_norm(layer.o.bias.as_deref(), after, &layer.norms.feed_forward);
    }

    /// Adds `y` to the stream and leaves the norm of that in `h`, in one go over the rows.
    fn add_and_norm(&mut self, bias: Option<&[f32]>, after: Option<&[f32]>, norm: &[f32]) {
        let (hyper, rows, isa) = (&self.model.hyper, self.rows, self.pool.isa());
        let (d, eps) = (hyper.d_model, hyper.norm_eps);
        let Scratch { x, h, y, .. } = &mut *self.s;
        let buffers = [&mut x[..rows * d], &mut h[..rows * d], &mut y[..rows * d]];
        for_rows(self.pool, rows, grain(d), buffers, &|range, [x, h, y]| {
            for at in 0..range.len() {
                let (x, h, y) = (part(x, at, d), part(h, at, d), part(y, at, d));
                if let Some(bias) = bias {
                    add_row(isa, y, bias);
                }
                if let Some(after) = after {
                    rms_norm_row_in_place(isa, y, after, eps);
                }
                add_row(isa, x, y);
                rms_norm_row(isa, x, norm, eps, h);
            }
        });
    }

    /// The feed-forward network, added to the stream; leaves what the next layer or the output reads.
    fn feed_forward(&mut self, index: usize, layer: &Layer, next: &[f32]) {
        let rows = self.rows;
        let bias = match &layer.feed_forward {
            FeedForward::Dense(dense) => {
                self.dense(index, dense);
                dense.down.bias.as_deref()
            }
            FeedForward::Mixture(mixture) => {
                let d = self.model.hyper.d_model;
                let Scratch { h, y, activations, mixture: scratch, .. } = &mut *self.s;
                let (h, y) = (&h[..rows * d], room(y, rows * d));
                let activation = self.model.hyper.activation;
                mixture.forward(&mut Work { pool: self.pool, activations, activation }, scratch, h, rows, y);
                None
            }
        };
        self.add_and_norm(bias, layer.norms.after_feed_forward.as_deref(), next);
    }

    fn dense(&mut self, index: usize, dense: &Dense) {
        let (hyper, rows, pool) = (&self.model.hyper, self.rows, self.pool);
        let (d, ffn) = (hyper.d_model, dense.up.matrix.rows());
        let adapting = Adapting { pool, adapters: self.adapters, spans: &self.spans, layer: Some(index) };
        let Scratch { h, y, q, a, activations, adapter, .. } = &mut *self.s;
        let (h, y) = (&h[..rows * d], room(y, rows * d));
        let (gate, up) = (room(q, rows * ffn), room(a, rows * ffn));
        matmul(pool, activations, h, rows, &mut [(&dense.gate.matrix, gate), (&dense.up.matrix, up)]);
        for (slot, out) in [(Slot::Gate, &mut *gate), (Slot::Up, &mut *up)] {
            adapting.add(slot, h, out, adapter);
        }
        let (isa, activation) = (pool.isa(), hyper.activation);
        for_rows(pool, rows, grain(ffn), [gate, up], &|_, [gate, up]| {
            if let Some(bias) = &dense.gate.bias {
                gate.chunks_exact_mut(ffn).for_each(|row| add_row(isa, row, bias));
            }
            if let Some(bias) = &dense.up.bias {
                up.chunks_exact_mut(ffn).for_each(|row| add_row(isa, row, bias));
            }
            gate_row(isa, activation, gate, up);
        });
        let gate = &gate[..rows * ffn];
        matmul(pool, activations, gate, rows, &mut [(&dense.down.matrix, y)]);
        adapting.add(Slot::Down, gate, y, adapter);
    }

    /// The logits of the rows that are left.
    fn logits(&mut self, out: &mut Vec<f32>) {
        let (model, rows, pool) = (self.model, self.rows, self.pool);
        let adapting = Adapting { pool, adapters: self.adapters, spans: &self.spans, layer: None };
        let Scratch { h, activations, adapter, .. } = &mut *self.s;
        let h = &h[..rows * model.hyper.d_model];
        let first = out.len();
        out.resize(first + rows * model.vocab, 0.0);
        let out = &mut out[first..];
        matmul(pool, activations, h, rows, &mut [(model.output_matrix(), out)]);
        adapting.add(Slot::Output, h, out, adapter);
        let bias = model.output.as_ref().and_then(|output| output.bias.as_deref());
        let (isa, cap) = (pool.isa(), model.hyper.logit_softcap);
        if bias.is_none() && cap.is_none() {
            return;
        }
        for_rows(pool, rows, 1, [out], &|_, [out]| {
            for row in out.chunks_exact_mut(model.vocab) {
                if let Some(bias) = bias {
                    add_row(isa, row, bias);
                }
                if let Some(cap) = cap {
                    row.iter_mut().for_each(|logit| *logit = cap * (*logit / cap).tanh());
                }
            }
        });
    }
}

/// Row `at` of rows of `width` numbers.
fn part(rows: &mut [f32], at: usize, width: usize) -> &mut [f32] {
    &mut rows[at * width..(at + 1) * width]
}
