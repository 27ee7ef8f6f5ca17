//! Low-rank adapters: `y = W x + s · B (A x)` (<https://arxiv.org/abs/2106.09685>), for some rows of a batch.

mod read;

use bms_kernels::{Activations, Format, Matrix, Pool, add_scaled_row, matmul};
use bms_wire::{Code, Error, Result};

use super::decoder::AdapterFiles;
use super::hyper::{Arch, Hyper, RopeStyle};
use super::names::permuted_row;
use super::transformer::{Span, room};
use read::{Factors, Order};

/// The matrices of a block an adapter can add to, and the output matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Q,
    K,
    V,
    O,
    Gate,
    Up,
    Down,
    Output,
}

const SLOTS: usize = 8;

/// What is added to one matrix.
#[derive(Debug)]
struct Pair {
    /// `rank × columns`.
    a: Matrix,
    /// `rows × rank`.
    b: Matrix,
    scale: f32,
}

/// An adapter of one model.
#[derive(Debug)]
pub(super) struct Adapter {
    /// For each layer; the output matrix belongs to an extra one.
    layers: Vec<[Option<Pair>; SLOTS]>,
}

/// Buffers kept from one call to the next.
#[derive(Debug, Default)]
pub(super) struct AdapterScratch {
    activations: Activations,
    low: Vec<f32>,
    high: Vec<f32>,
}

/// The adapters at work in one place of a batch.
#[derive(Clone, Copy)]
pub(super) struct Adapting<'a> {
    pub(super) pool: &'a Pool,
    pub(super) adapters: &'a [Option<Adapter>],
    /// Which rows use which.
    pub(super) spans: &'a [Span],
    /// The layer; `None` for the output matrix.
    pub(super) layer: Option<usize>,
}

impl Adapting<'_> {
    /// Adds to `out = W x` what the rows' adapters add to `W`.
    pub(super) fn add(&self, slot: Slot, x: &[f32], out: &mut [f32], scratch: &mut AdapterScratch) {
        for span in self.spans {
            let Some(adapter) = self.adapters.get(span.adapter).and_then(Option::as_ref) else { continue };
            let place = self.layer.unwrap_or(adapter.layers.len() - 1);
            let Some(pair) = &adapter.layers[place][slot as usize] else { continue };
            let (cols, rank, rows) = (pair.a.cols(), pair.a.rows(), pair.b.rows());
            let x = &x[span.first * cols..(span.first + span.rows) * cols];
            let out = &mut out[span.first * rows..(span.first + span.rows) * rows];
            let AdapterScratch { activations, low, high } = scratch;
            let (low, high) = (room(low, span.rows * rank), room(high, span.rows * rows));
            matmul(self.pool, activations, x, span.rows, &mut [(&pair.a, low)]);
            matmul(self.pool, activations, low, span.rows, &mut [(&pair.b, high)]);
            add_scaled_row(self.pool.isa(), out, pair.scale, high);
        }
    }
}

/// Files that are no adapter of the model.
fn invalid(message: impl std::fmt::Display) -> Error {
    Error::new(Code::InvalidInput, format!("the adapter is invalid: {message}"))
}

/// An adapter with something that is not computed here.
fn unsupported(message: impl std::fmt::Display) -> Error {
    Error::new(Code::UnsupportedModel, format!("the adapter is not supported: {message}"))
}

impl Adapter {
    /// Reads the files of an adapter for this model.
    pub(super) fn load(
        pool: &Pool,
        hyper: &Hyper,
        vocab: usize,
        files: &AdapterFiles<'_>,
    ) -> Result<Adapter> {
        let factors = read::read(hyper.arch, files)?;
        if factors.is_empty() {
            return Err(invalid("it has no matrices"));
        }
        let mut layers: Vec<[Option<Pair>; SLOTS]> = Vec::new();
        layers.resize_with(hyper.layers + 1, Default::default);
        for factor in &factors {
            let Target { layer, slots } = Target::of(hyper, vocab, &factor.target)?;
            let rows: usize = slots.iter().map(|(_, rows)| rows).sum();
            let cols = match slots.first() {
                Some((Slot::O, _)) => hyper.heads * hyper.head_dim,
                Some((Slot::Down, _)) => hyper.ffn,
                _ => hyper.d_model,
            };
            if (factor.a.cols, factor.b.rows) != (cols, rows) || factor.a.rows != factor.b.cols {
                return Err(invalid(format_args!(
                    "`{}` is {} × {} times {} × {}, the model needs {rows} × r times r × {cols}",
                    factor.target, factor.b.rows, factor.b.cols, factor.a.rows, factor.a.cols
                )));
            }
            if !(factor.a.is_finite() && factor.b.is_finite() && factor.scale.is_finite()) {
                return Err(invalid(format_args!("`{}` holds an infinite or missing number", factor.target)));
            }
            let mut first = 0;
            for (slot, rows) in slots {
                let place = &mut layers[layer.unwrap_or(hyper.layers)][slot as usize];
                if place.is_some() {
                    return Err(invalid(format_args!("`{}` is given twice", factor.target)));
                }
                *place = Some(pair(pool, hyper, factor, slot, first, rows)?);
                first += rows;
            }
        }
        Ok(Adapter { layers })
    }
}

/// What a tensor of the model's file holds.
struct Target {
    /// `None` for the output matrix.
    layer: Option<usize>,
    /// Matrices and their rows, one below the other.
    slots: Vec<(Slot, usize)>,
}

impl Target {
    fn of(hyper: &Hyper, vocab: usize, target: &str) -> Result<Target> {
        let unknown = || unsupported(format_args!("it adds to `{target}`"));
        let (d, ffn) = (hyper.d_model, hyper.ffn);
        let (q, kv) = (hyper.heads * hyper.head_dim, hyper.kv_heads * hyper.head_dim);
        if target == "output.weight" {
            return Ok(Target { layer: None, slots: vec![(Slot::Output, vocab)] });
        }
        let (layer, module) =
            target.strip_prefix("blk.").and_then(|rest| rest.split_once('.')).ok_or_else(unknown)?;
        let layer: usize = layer.parse().map_err(|_| unknown())?;
        if hyper.layers <= layer {
            return Err(invalid(format_args!("it adds to layer {layer} of {}", hyper.layers)));
        }
        let dense = !hyper.has_experts(layer);
        let slots = match module {
            "attn_q.weight" => vec![(Slot::Q, q)],
            "attn_k.weight" => vec![(Slot::K, kv)],
            "attn_v.weight" => vec![(Slot::V, kv)],
            "attn_qkv.weight" => vec![(Slot::Q, q), (Slot::K, kv), (Slot::V, kv)],
            "attn_output.weight" => vec![(Slot::O, d)],
            "ffn_gate.weight" if dense => vec![(Slot::Gate, ffn)],
            "ffn_up.weight" if dense && hyper.arch == Arch::Phi3 => vec![(Slot::Gate, ffn), (Slot::Up, ffn)],
            "ffn_up.weight" if dense => vec![(Slot::Up, ffn)],
            "ffn_down.weight" if dense => vec![(Slot::Down, d)],
            _ => return Err(unknown()),
        };
        Ok(Target { layer: Some(layer), slots })
    }
}

/// The factors of one matrix: all of A, and its rows of B in the order the model has them.
fn pair(
    pool: &Pool,
    hyper: &Hyper,
    factor: &Factors<'_>,
    slot: Slot,
    first: usize,
    rows: usize,
) -> Result<Pair> {
    let pack = |format: Format, rows: usize, cols: usize, bytes: &[u8]| {
        Matrix::pack(pool, format, rows, cols, bytes)
            .map_err(|error| invalid(format_args!("`{}`: {error}", factor.target)))
    };
    let b = factor.b.part(first, rows);
    let style = hyper.rope.as_ref().map(|rope| rope.style);
    let turned = matches!(slot, Slot::Q | Slot::K) && hyper.arch == Arch::Llama;
    let row_bytes = b.bytes.len() / rows.max(1);
    let reordered = match (factor.order, style) {
        (Order::Folder, Some(RopeStyle::Interleaved)) if turned => {
            let row = |row: usize| &b.bytes[permuted_row(row, hyper.head_dim) * row_bytes..][..row_bytes];
            Some((0..rows).flat_map(row).copied().collect::<Vec<u8>>())
        }
        (Order::File, Some(RopeStyle::Halves)) if turned => {
            let mut bytes = vec![0; b.bytes.len()];
            for row in 0..rows {
                bytes[permuted_row(row, hyper.head_dim) * row_bytes..][..row_bytes]
                    .copy_from_slice(&b.bytes[row * row_bytes..][..row_bytes]);
            }
            Some(bytes)
        }
        _ => None,
    };
    Ok(Pair {
        a: pack(factor.a.format, factor.a.rows, factor.a.cols, factor.a.bytes)?,
        b: pack(b.format, b.rows, b.cols, reordered.as_deref().unwrap_or(b.bytes))?,
        scale: factor.scale,
    })
}
