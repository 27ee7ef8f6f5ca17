//! Feed-forward networks made of experts, of which each token uses a few.
//!
//! Rows are grouped by expert, so that an expert's weights are read once for all rows that use it. A single row, as in
//! decoding one sequence, multiplies with the first matrices of all its experts in one go.

use bms_kernels::{Activation, Activations, Matrix, Pool, add_scaled_row, for_rows, gate_row, matmul};
use bms_wire::Result;

use super::guard::Weight;
use super::hyper::Experts;
use super::linear::Loader;
use super::transformer::{grain, room};

/// `down (activation(gate x) · up x)`, without biases.
#[derive(Debug)]
struct Expert {
    gate: Matrix,
    up: Matrix,
    down: Matrix,
}

/// The expert every row uses, weighted by a sigmoid.
#[derive(Debug)]
struct Shared {
    expert: Expert,
    weight: Vec<f32>,
}

/// A mixture of experts.
#[derive(Debug)]
pub(super) struct Mixture {
    router: Matrix,
    experts: Vec<Expert>,
    shared: Option<Shared>,
    used: usize,
    normalised: bool,
    scale: f32,
}

/// A row's use of an expert.
#[derive(Clone, Copy, Debug)]
struct Pick {
    expert: usize,
    row: usize,
    weight: f32,
}

/// Buffers kept from one call to the next.
#[derive(Debug, Default)]
pub(super) struct MixtureScratch {
    scores: Vec<f32>,
    order: Vec<usize>,
    picks: Vec<Pick>,
    x: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    y: Vec<f32>,
}

/// What products are computed with.
pub(super) struct Work<'a> {
    pub(super) pool: &'a Pool,
    pub(super) activations: &'a mut Activations,
    pub(super) activation: Activation,
}

impl Mixture {
    /// Loads the experts of layer `layer`.
    pub(super) fn load(loader: &Loader<'_>, layer: usize, d: usize, spec: &Experts) -> Result<Mixture> {
        let stem = |name: &str| format!("blk.{layer}.{name}");
        let (gates, ups, downs) = (
            stack(loader, layer, "ffn_gate", spec.count, spec.ffn, d)?,
            stack(loader, layer, "ffn_up", spec.count, spec.ffn, d)?,
            stack(loader, layer, "ffn_down", spec.count, d, spec.ffn)?,
        );
        let experts = gates
            .into_iter()
            .zip(ups)
            .zip(downs)
            .map(|((gate, up), down)| Expert { gate, up, down })
            .collect();
        let shared = match spec.shared_ffn {
            0 => None,
            ffn => Some(Shared {
                expert: Expert {
                    gate: loader.matrix(&stem("ffn_gate_shexp.weight"), ffn, d)?,
                    up: loader.matrix(&stem("ffn_up_shexp.weight"), ffn, d)?,
                    down: loader.matrix(&stem("ffn_down_shexp.weight"), d, ffn)?,
                },
                weight: loader.vector(&stem("ffn_gate_inp_shexp.weight"), d)?,
            }),
        };
        Ok(Mixture {
            router: loader.plain_matrix(&stem("ffn_gate_inp.weight"), spec.count, d)?,
            experts,
            shared,
            used: spec.used,
            normalised: spec.normalised,
            scale: spec.scale,
        })
    }

    /// Every weight: matrices in the order in which [`Mixture::load`] makes them.
    pub(super) fn weights<'a>(&'a mut self, all: &mut Vec<Weight<'a>>) {
        let Mixture { router, experts, shared, used: _, normalised: _, scale: _ } = self;
        let (mut gates, mut ups, mut downs) = (Vec::new(), Vec::new(), Vec::new());
        for Expert { gate, up, down } in experts {
            gates.push(Weight::Matrix(gate));
            ups.push(Weight::Matrix(up));
            downs.push(Weight::Matrix(down));
        }
        all.extend(gates.into_iter().chain(ups).chain(downs));
        if let Some(Shared { expert: Expert { gate, up, down }, weight }) = shared {
            all.extend([gate, up, down].map(Weight::Matrix));
            all.push(Weight::numbers(weight));
        }
        all.push(Weight::Matrix(router));
    }

    /// Computes `rows` rows of `h` into `out`.
    pub(super) fn forward(
        &self,
        work: &mut Work<'_>,
        scratch: &mut MixtureScratch,
        h: &[f32],
        rows: usize,
        out: &mut [f32],
    ) {
        let (d, pool) = (self.router.cols(), work.pool);
        let scores = room(&mut scratch.scores, rows * self.experts.len());
        matmul(pool, work.activations, h, rows, &mut [(&self.router, scores)]);
        self.choose(rows, scratch);
        out.fill(0.0);
        let picks = std::mem::take(&mut scratch.picks);
        match rows {
            1 => self.one_row(work, scratch, h, &picks, out),
            _ => {
                for group in picks.chunk_by(|a, b| a.expert == b.expert) {
                    let x = room(&mut scratch.x, group.len() * d);
                    for (x, pick) in x.chunks_exact_mut(d).zip(group) {
                        x.copy_from_slice(&h[pick.row * d..(pick.row + 1) * d]);
                    }
                    let MixtureScratch { x, gate, up, y, .. } = scratch;
                    let x = &x[..group.len() * d];
                    let y = room(y, group.len() * d);
                    let expert = &self.experts[group[0].expert];
                    expert.forward(work, x, group.len(), (gate, up), y);
                    for (y, pick) in y.chunks_exact(d).zip(group) {
                        let out = &mut out[pick.row * d..(pick.row + 1) * d];
                        add_scaled_row(pool.isa(), out, pick.weight, y);
                    }
                }
            }
        }
        scratch.picks = picks;
        if let Some(shared) = &self.shared {
            let MixtureScratch { gate, up, y, .. } = scratch;
            let y = room(y, rows * d);
            shared.expert.forward(work, h, rows, (gate, up), y);
            let rows = h.chunks_exact(d).zip(y.chunks_exact(d)).zip(out.chunks_exact_mut(d));
            for ((h, y), out) in rows {
                let weight = 1.0 / (1.0 + (-bms_kernels::dot(pool.isa(), h, &shared.weight)).exp());
                add_scaled_row(pool.isa(), out, weight, y);
            }
        }
    }

    /// Chooses the experts of every row by the softmax of its scores; the picks come out expert by expert.
    fn choose(&self, rows: usize, scratch: &mut MixtureScratch) {
        let MixtureScratch { scores, order, picks, .. } = scratch;
        let count = self.experts.len();
        picks.clear();
        for (row, scores) in scores[..rows * count].chunks_exact_mut(count).enumerate() {
            let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            scores.iter_mut().for_each(|score| *score = (*score - most).exp());
            let sum: f32 = scores.iter().sum();
            order.clear();
            order.extend(0..count);
            order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
            let chosen = &order[..self.used];
            let sum = match self.normalised {
                true => chosen.iter().map(|expert| scores[*expert]).sum(),
                false => sum,
            };
            picks.extend(chosen.iter().map(|expert| Pick {
                expert: *expert,
                row,
                weight: scores[*expert] / sum * self.scale,
            }));
        }
        picks.sort_unstable_by_key(|pick| (pick.expert, pick.row));
    }

    fn one_row(
        &self,
        work: &mut Work<'_>,
        scratch: &mut MixtureScratch,
        h: &[f32],
        picks: &[Pick],
        out: &mut [f32],
    ) {
        let Work { pool, activations, activation } = work;
        let ffn = self.experts[0].up.rows();
        let MixtureScratch { gate, up, y, .. } = scratch;
        let (gate, up) = (room(gate, picks.len() * ffn), room(up, picks.len() * ffn));
        let mut products = Vec::with_capacity(2 * picks.len());
        for ((pick, gate), up) in picks.iter().zip(gate.chunks_exact_mut(ffn)).zip(up.chunks_exact_mut(ffn)) {
            let expert = &self.experts[pick.expert];
            products.push((&expert.gate, gate));
            products.push((&expert.up, up));
        }
        matmul(pool, activations, h, 1, &mut products);
        gate_row(pool.isa(), *activation, gate, up);
        for (pick, gate) in picks.iter().zip(gate.chunks_exact(ffn)) {
            let y = room(y, h.len());
            matmul(pool, activations, gate, 1, &mut [(&self.experts[pick.expert].down, y)]);
            add_scaled_row(pool.isa(), out, pick.weight, y);
        }
    }
}

impl Expert {
    fn forward(
        &self,
        work: &mut Work<'_>,
        x: &[f32],
        rows: usize,
        (gate, up): (&mut Vec<f32>, &mut Vec<f32>),
        y: &mut [f32],
    ) {
        let Work { pool, activations, activation } = work;
        let ffn = self.up.rows();
        let (gate, up) = (room(gate, rows * ffn), room(up, rows * ffn));
        matmul(pool, activations, x, rows, &mut [(&self.gate, gate), (&self.up, up)]);
        for_rows(pool, rows, grain(ffn), [gate, up], &|_, [gate, up]| {
            gate_row(pool.isa(), *activation, gate, up);
        });
        matmul(pool, activations, &gate[..rows * ffn], rows, &mut [(&self.down, y)]);
    }
}

/// The matrices of all experts: one tensor with all of them, or one for each.
fn stack(
    loader: &Loader<'_>,
    layer: usize,
    part: &str,
    count: usize,
    rows: usize,
    cols: usize,
) -> Result<Vec<Matrix>> {
    let name = format!("blk.{layer}.{part}_exps.weight");
    if !loader.weights.has(&name) && loader.weights.has(&format!("blk.{layer}.{part}.0.weight")) {
        return (0..count)
            .map(|expert| loader.matrix(&format!("blk.{layer}.{part}.{expert}.weight"), rows, cols))
            .collect();
    }
    let view = loader.weights.stack(&name, count, rows, cols)?;
    (0..count).map(|expert| loader.pack(&name, view.part(expert * rows, rows))).collect()
}
