//! One task: a tile of query rows and a range of pages.

use std::ops::Range;

use super::chunk::{Block, ROWS_MAX, Rows, rows_at_once};
use super::codes::{Codes, Strips, View, convert};
use super::kernels::{BLOCK_PAGES, BlockRow, padded};
use super::plan::{Task, part_row_len, visible};
use super::{Work, merge};
use crate::Isa;
use crate::kv::PAGE_TOKENS;
use crate::simd::LANES;

/// Chunks of rows from which on a page is converted once for all of them.
const CONVERT_CHUNKS_MIN: usize = 3;

/// Buffers of a task, reused by the thread's next one.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Chunk by chunk: for each dimension, the rows' numbers.
    queries: Vec<f32>,
    visible: Vec<Range<usize>>,
    weights: Vec<BlockRow>,
    out: Vec<f32>,
    largest: Vec<f32>,
    totals: Vec<f32>,
    keys: Vec<[f32; LANES]>,
    values: Vec<[f32; LANES]>,
}

/// Does the task.
pub(super) fn attend<C: Codes>(isa: Isa, work: &Work<'_>, task: &Task, scratch: &mut Scratch) {
    let layout = work.store.layout();
    let dim = layout.head_dim;
    let sequence = &work.sequences[task.sequence];
    let rows = task.rows.len() * (work.params.heads / layout.kv_heads);
    let chunks = rows.div_ceil(rows_at_once(isa));
    prepare(work, task, chunks, scratch);
    let cap = work.params.softcap.map(|cap| cap * std::f32::consts::LOG2_E);
    for first in task.pages.clone().step_by(BLOCK_PAGES) {
        let count = BLOCK_PAGES.min(task.pages.end - first);
        let (ids, later) = sequence.pages[first..task.pages.end].split_at(count);
        let (token, len) = (first * PAGE_TOKENS, sequence.len());
        for (index, kv_head) in task.kv_heads.clone().enumerate() {
            let mut pages = [View::<C>::empty(); BLOCK_PAGES];
            for (i, view) in pages[..count].iter_mut().enumerate() {
                // After this head of the page the next one is read, after the last the first of the next block.
                let (ahead_page, ahead_head) = match kv_head + 1 < task.kv_heads.end {
                    true => (ids[i], kv_head + 1),
                    false => (later.get(i).copied().unwrap_or(ids[i]), task.kv_heads.start),
                };
                *view = View::new(
                    work.store.head(work.layer, ids[i], kv_head),
                    work.store.head(work.layer, ahead_page, ahead_head),
                );
            }
            let pages = &pages[..count];
            let (state, keys, values) = scratch.of_head(index, rows, dim);
            if chunks < CONVERT_CHUNKS_MIN {
                each_chunk(isa, &Block { pages, token, len, cap }, dim, chunks, state);
                continue;
            }
            let mut converted = [View::<Strips>::empty(); BLOCK_PAGES];
            let places = keys.chunks_exact_mut(dim).zip(values.chunks_exact_mut(padded(dim)));
            for ((view, page), (keys, values)) in converted.iter_mut().zip(pages).zip(places) {
                *view = convert(isa, *page, keys, values);
            }
            each_chunk(isa, &Block { pages: &converted[..count], token, len, cap }, dim, chunks, state);
        }
    }
    finish(work, task, scratch);
}

/// Rows of a chunk, when `rows` are divided into chunks that differ by one row at most.
fn chunk_rows(rows: usize, chunks: usize, chunk: usize) -> Range<usize> {
    rows * chunk / chunks..rows * (chunk + 1) / chunks
}

/// Brings queries into the order of the chunks and clears the results.
fn prepare(work: &Work<'_>, task: &Task, chunks: usize, scratch: &mut Scratch) {
    let layout = work.store.layout();
    let (dim, params) = (layout.head_dim, work.params);
    let sequence = &work.sequences[task.sequence];
    let group = params.heads / layout.kv_heads;
    let rows = task.rows.len() * group;
    // Weights are powers of two, which are the quickest; a cap needs the plain score.
    let scale = match params.softcap {
        Some(cap) => params.scale / cap,
        None => params.scale * std::f32::consts::LOG2_E,
    };
    scratch.queries.resize(task.kv_heads.len() * rows * dim, 0.0);
    scratch.visible.clear();
    for row in 0..rows {
        let position = sequence.start + task.rows.start + row / group;
        scratch.visible.push(visible(params, position, sequence.len()));
    }
    for (kv_head, packed) in task.kv_heads.clone().zip(scratch.queries.chunks_exact_mut(rows * dim)) {
        for chunk in 0..chunks {
            let range = chunk_rows(rows, chunks, chunk);
            let packed = &mut packed[range.start * dim..range.end * dim];
            for (r, row) in range.clone().enumerate() {
                let token = sequence.first_row + task.rows.start + row / group;
                let at = (token * params.heads + kv_head * group + row % group) * dim;
                let places = packed.iter_mut().skip(r).step_by(range.len());
                for (place, &query) in places.zip(&work.queries[at..at + dim]) {
                    *place = query * scale;
                }
            }
        }
    }
    let rows = task.kv_heads.len() * rows;
    scratch.weights.resize(ROWS_MAX, [[0.0; LANES]; BLOCK_PAGES]);
    for (numbers, len, value) in [
        (&mut scratch.out, rows * padded(dim), 0.0),
        (&mut scratch.largest, rows, f32::NEG_INFINITY),
        (&mut scratch.totals, rows, 0.0),
    ] {
        numbers.clear();
        numbers.resize(len, value);
    }
    if CONVERT_CHUNKS_MIN <= chunks {
        scratch.keys.resize(BLOCK_PAGES * dim, [0.0; LANES]);
        scratch.values.resize(BLOCK_PAGES * padded(dim), [0.0; LANES]);
    }
}

impl Scratch {
    /// The state of a head's rows, and places for converted keys and values.
    fn of_head(
        &mut self,
        index: usize,
        rows: usize,
        dim: usize,
    ) -> (State<'_>, &mut [[f32; LANES]], &mut [[f32; LANES]]) {
        let range = index * rows..(index + 1) * rows;
        let state = State {
            queries: &self.queries[range.start * dim..range.end * dim],
            visible: &self.visible,
            weights: &mut self.weights,
            out: &mut self.out[range.start * padded(dim)..range.end * padded(dim)],
            largest: &mut self.largest[range.clone()],
            totals: &mut self.totals[range],
        };
        (state, &mut self.keys, &mut self.values)
    }
}

/// What the chunks of a head are cut from.
struct State<'a> {
    queries: &'a [f32],
    visible: &'a [Range<usize>],
    weights: &'a mut [BlockRow],
    out: &'a mut [f32],
    largest: &'a mut [f32],
    totals: &'a mut [f32],
}

fn each_chunk<C: Codes>(isa: Isa, block: &Block<'_, C>, dim: usize, chunks: usize, state: State<'_>) {
    let stride = padded(dim);
    for chunk in 0..chunks {
        let range = chunk_rows(state.visible.len(), chunks, chunk);
        let rows = Rows {
            queries: &state.queries[range.start * dim..range.end * dim],
            visible: &state.visible[range.clone()],
            weights: state.weights,
            out: &mut state.out[range.start * stride..range.end * stride],
            largest: &mut state.largest[range.clone()],
            totals: &mut state.totals[range],
        };
        C::advance(isa, block, rows);
    }
}

/// Writes the results, or leaves them for the last part of the tile to merge.
fn finish(work: &Work<'_>, task: &Task, scratch: &mut Scratch) {
    let dim = work.store.layout().head_dim;
    let stride = padded(dim);
    let Some((division, part)) = task.part else {
        for (row, (sums, total)) in scratch.out.chunks_exact(stride).zip(&scratch.totals).enumerate() {
            let scale = merge::reciprocal(*total);
            for (out, sum) in merge::result(work, task, row).iter_mut().zip(sums) {
                *out = sum * scale;
            }
        }
        return;
    };
    let division = &work.plan.divisions[division];
    let (rows, len) = (scratch.totals.len(), part_row_len(dim));
    // SAFETY: each part of each division has numbers of its own, and is worked on by one task.
    let results = unsafe { work.parts.part(division.at + part * rows * len, rows * len) };
    for (row, result) in results.chunks_exact_mut(len).enumerate() {
        result[..dim].copy_from_slice(&scratch.out[row * stride..row * stride + dim]);
        result[dim..].copy_from_slice(&[scratch.largest[row], scratch.totals[row]]);
    }
    if division.finish_part() {
        merge::merge(work, task, division, rows);
    }
}
