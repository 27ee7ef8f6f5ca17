//! One task: a tile of query rows and a range of pages, section by section.

use std::ops::Range;

use super::chunk::{Block, ROWS_MAX, Rows, rows_at_once};
use super::codes::{Codes, Strips, View, convert};
use super::kernels::{BLOCK_PAGES, BlockRow, padded};
use super::plan::{Division, Task, pages_of, part_row_len, sections, visible};
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
    /// Of the section that is walked.
    section: Sums,
    /// Of the sections before it.
    before: Sums,
    keys: Vec<[f32; LANES]>,
    values: Vec<[f32; LANES]>,
}

/// For each row, the sum of weighted values, the largest score that it is relative to, and the sum of weights.
#[derive(Debug, Default)]
pub(super) struct Sums {
    out: Vec<f32>,
    largest: Vec<f32>,
    pub(super) totals: Vec<f32>,
    /// Numbers from one row of `out` to the next.
    stride: usize,
}

impl Sums {
    /// Makes this the sums of nothing.
    pub(super) fn clear(&mut self, rows: usize, stride: usize) {
        self.stride = stride;
        for (numbers, len, value) in [
            (&mut self.out, rows * stride, 0.0),
            (&mut self.largest, rows, f32::NEG_INFINITY),
            (&mut self.totals, rows, 0.0),
        ] {
            numbers.clear();
            numbers.resize(len, value);
        }
    }

    pub(super) fn row(&mut self, row: usize) -> (&mut [f32], &mut f32, &mut f32) {
        let out = &mut self.out[row * self.stride..(row + 1) * self.stride];
        (out, &mut self.largest[row], &mut self.totals[row])
    }

    /// Adds another section's sums.
    fn join(&mut self, section: &Sums) {
        for row in 0..section.totals.len() {
            let sums = &section.out[row * section.stride..(row + 1) * section.stride];
            merge::join(self.row(row), (sums, section.largest[row], section.totals[row]));
        }
    }
}

/// Does the task.
pub(super) fn attend<C: Codes>(isa: Isa, work: &Work<'_>, task: &Task, scratch: &mut Scratch) {
    let layout = work.store.layout();
    let rows = task.rows.len() * (work.params.heads / layout.kv_heads);
    let chunks = rows.div_ceil(rows_at_once(isa));
    prepare(work, task, chunks, scratch);
    let all = sections(&task.pages);
    let (rows, stride) = (task.kv_heads.len() * rows, padded(layout.head_dim));
    scratch.before.clear(rows, stride);
    for section in all.clone() {
        scratch.section.clear(rows, stride);
        walk::<C>(isa, work, task, &pages_of(&(section..section + 1), &task.pages), chunks, scratch);
        match task.division {
            Some(division) => leave(work, &work.plan.divisions[division], section, scratch),
            None if all.len() == 1 => merge::write(work, task, &mut scratch.section),
            None => scratch.before.join(&scratch.section),
        }
    }
    match task.division.map(|division| &work.plan.divisions[division]) {
        Some(division) if division.finish_task() => {
            merge::merge(work, task, division, rows, &mut scratch.before);
        }
        None if all.len() != 1 => merge::write(work, task, &mut scratch.before),
        _ => {}
    }
}

/// Brings a section's pages into its sums. Blocks are counted from the sequence's first page, like sections.
fn walk<C: Codes>(
    isa: Isa,
    work: &Work<'_>,
    task: &Task,
    pages: &Range<usize>,
    chunks: usize,
    scratch: &mut Scratch,
) {
    let dim = work.store.layout().head_dim;
    let sequence = &work.sequences[task.sequence];
    let rows = scratch.visible.len();
    let cap = work.params.softcap.map(|cap| cap * std::f32::consts::LOG2_E);
    let mut first = pages.start;
    while first < pages.end {
        let count = (BLOCK_PAGES - first % BLOCK_PAGES).min(pages.end - first);
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
        first += count;
    }
}

/// Leaves a section's sums for the last task of the tile to join.
fn leave(work: &Work<'_>, division: &Division, section: usize, scratch: &mut Scratch) {
    let dim = work.store.layout().head_dim;
    let sums = &mut scratch.section;
    let (rows, len) = (sums.totals.len(), part_row_len(dim));
    let at = division.at + (section - division.sections.start) * rows * len;
    // SAFETY: each section of each division has numbers of its own, and is worked on by one task.
    let results = unsafe { work.parts.part(at, rows * len) };
    for (row, result) in results.chunks_exact_mut(len).enumerate() {
        let (out, largest, total) = sums.row(row);
        result[..dim].copy_from_slice(&out[..dim]);
        result[dim..].copy_from_slice(&[*largest, *total]);
    }
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
    scratch.weights.resize(ROWS_MAX, [[0.0; LANES]; BLOCK_PAGES]);
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
            out: &mut self.section.out[range.start * padded(dim)..range.end * padded(dim)],
            largest: &mut self.section.largest[range.clone()],
            totals: &mut self.section.totals[range],
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
