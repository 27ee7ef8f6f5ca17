//! A few query rows, as many as fit into registers, with a block of pages.

// Loops over registers are unrolled; indices say which register best.
#![allow(clippy::needless_range_loop)]

use std::ops::Range;

use super::codes::{Bytes, Codes, Floats, Halves, Strips, View};
use super::kernels::{BLOCK_PAGES, BlockRow, mix, padded, scores};
use crate::Isa;
use crate::kv::PAGE_TOKENS;
use crate::simd::{LANES, Scalar, Simd, exp2_of_negative, kernel, tanh};

/// Pages of a block, and where they stand in the sequence.
pub(super) struct Block<'a, C: Codes> {
    pub(super) pages: &'a [View<'a, C>],
    /// The place in the sequence of the first page's first token.
    pub(super) token: usize,
    /// Tokens of the sequence.
    pub(super) len: usize,
    /// What the hyperbolic tangent of a score is multiplied with, where scores are capped.
    pub(super) cap: Option<f32>,
}

/// The rows of a chunk and what is known of them so far.
pub(super) struct Rows<'a> {
    /// For each dimension, the rows' numbers.
    pub(super) queries: &'a [f32],
    /// For each row, the tokens it sees.
    pub(super) visible: &'a [Range<usize>],
    pub(super) weights: &'a mut [BlockRow],
    /// Sums of weighted values, relative to `largest`.
    pub(super) out: &'a mut [f32],
    /// The largest score, a power of two.
    pub(super) largest: &'a mut [f32],
    /// The sum of weights, relative to `largest`.
    pub(super) totals: &'a mut [f32],
}

kernel! {
    /// Brings a block of half precision into the rows' results.
    pub(super) fn advance_halves(block: &Block<'_, Halves>, rows: Rows<'_>) = advance::<_, Halves>;
    /// Brings a block of eight bits into the rows' results.
    pub(super) fn advance_bytes(block: &Block<'_, Bytes>, rows: Rows<'_>) = advance::<_, Bytes>;
    /// Brings a block of numbers into the rows' results.
    pub(super) fn advance_floats(block: &Block<'_, Floats>, rows: Rows<'_>) = advance::<_, Floats>;
    /// Brings a block of converted numbers into the rows' results.
    pub(super) fn advance_strips(block: &Block<'_, Strips>, rows: Rows<'_>) = advance::<_, Strips>;
}

/// The most rows of a chunk, on any instruction set.
pub(super) const ROWS_MAX: usize = 8;

/// Rows that an instruction set works on at a time.
pub(super) fn rows_at_once(isa: Isa) -> usize {
    match isa {
        Isa::Scalar => Scalar::ROWS,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => crate::simd::Avx2::ROWS,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Amx => crate::simd::Avx512::ROWS,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon | Isa::NeonDotprod => crate::simd::Neon::ROWS,
        // Those of other architectures.
        _ => Scalar::ROWS,
    }
}

#[inline(always)]
fn advance<S: Simd, C: Codes>(s: S, block: &Block<'_, C>, rows: Rows<'_>) {
    match rows.visible.len() {
        8 if 8 <= S::ROWS => advance_rows::<S, C, 8>(s, block, rows),
        7 if 8 <= S::ROWS => advance_rows::<S, C, 7>(s, block, rows),
        6 if 6 <= S::ROWS => advance_rows::<S, C, 6>(s, block, rows),
        5 if 6 <= S::ROWS => advance_rows::<S, C, 5>(s, block, rows),
        4 if 4 <= S::ROWS => advance_rows::<S, C, 4>(s, block, rows),
        3 if 4 <= S::ROWS => advance_rows::<S, C, 3>(s, block, rows),
        2 => advance_rows::<S, C, 2>(s, block, rows),
        1 => advance_rows::<S, C, 1>(s, block, rows),
        other => unreachable!("{other} rows in a chunk"),
    }
}

#[inline(always)]
fn advance_rows<S: Simd, C: Codes, const R: usize>(s: S, block: &Block<'_, C>, rows: Rows<'_>) {
    // Pages of which some row sees something.
    let from = rows.visible.iter().map(|visible| visible.start).min().unwrap_or(0);
    let to = rows.visible.iter().map(|visible| visible.end).max().unwrap_or(0);
    let first = from.saturating_sub(block.token) / PAGE_TOKENS;
    let end = to.saturating_sub(block.token).div_ceil(PAGE_TOKENS).min(block.pages.len());
    let (Some(weights), true) = (rows.weights.first_chunk_mut::<R>(), first < end) else { return };
    for page in first..end {
        let found = scores::<S, C, R>(s, rows.queries, block.pages[page]);
        for r in 0..R {
            s.store(&mut weights[r][page], found[r]);
        }
    }
    let stride = padded(rows.queries.len() / R);
    for r in 0..R {
        if let Some(cap) = block.cap {
            for scores in &mut weights[r][first..end] {
                let v = s.mul(tanh(s, s.load(scores)), s.splat(cap));
                s.store(scores, v);
            }
        }
        mask(s, &rows.visible[r], block.token, &mut weights[r][first..end], first);
        let kept = weigh(s, &mut weights[r][first..end], &mut rows.largest[r], &mut rows.totals[r]);
        if kept != 1.0 {
            for out in rows.out[r * stride..(r + 1) * stride].as_chunks_mut::<LANES>().0 {
                let v = s.mul(s.load(out), s.splat(kept));
                s.store(out, v);
            }
        }
        for (weights, page) in weights[r][first..end].iter_mut().zip(&block.pages[first..end]) {
            if let Some(scales) = page.value_scales {
                let v = s.mul(s.load(weights), s.load(scales));
                s.store(weights, v);
            }
        }
    }
    // What lies behind the sequence's end may be no number, and no number times zero is none.
    let last_tokens = (block.len - (block.token + (end - 1) * PAGE_TOKENS)).min(PAGE_TOKENS);
    mix::<S, C, R>(s, weights, first, &block.pages[first..end], last_tokens, rows.out);
}

/// Scores of tokens that are not visible become minus infinity.
#[inline(always)]
fn mask<S: Simd>(s: S, visible: &Range<usize>, token: usize, scores: &mut [[f32; LANES]], first: usize) {
    const NUMBERS: [f32; LANES] =
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];
    for (i, scores) in scores.iter_mut().enumerate() {
        let start = token + (first + i) * PAGE_TOKENS;
        if visible.start <= start && start + PAGE_TOKENS <= visible.end {
            continue;
        }
        let from = visible.start.saturating_sub(start).min(PAGE_TOKENS);
        let to = visible.end.saturating_sub(start).min(PAGE_TOKENS);
        let (numbers, nothing) = (s.load(&NUMBERS), s.splat(f32::NEG_INFINITY));
        let v = s.if_less(numbers, s.splat(to as f32), s.load(scores), nothing);
        let v = s.if_less(numbers, s.splat(from as f32), nothing, v);
        s.store(scores, v);
    }
}

/// Turns scores into weights relative to the largest score so far, and gives the factor that brings what was summed
/// before to the same scale.
#[inline(always)]
fn weigh<S: Simd>(s: S, scores: &mut [[f32; LANES]], largest: &mut f32, total: &mut f32) -> f32 {
    let mut most = s.splat(f32::NEG_INFINITY);
    for scores in scores.iter() {
        most = s.max(s.load(scores), most);
    }
    let most = s.largest(most);
    let mut kept = 1.0;
    if *largest < most {
        kept = if *largest == f32::NEG_INFINITY { 0.0 } else { (*largest - most).exp2() };
        *largest = most;
    }
    // Nothing visible yet: all scores are minus infinity, or no numbers, which must not be hidden.
    let shift = s.splat(if *largest == f32::NEG_INFINITY { 0.0 } else { *largest });
    let mut sum = s.splat(0.0);
    for scores in scores.iter_mut() {
        let weights = exp2_of_negative(s, s.sub(s.load(scores), shift));
        sum = s.add(sum, weights);
        s.store(scores, weights);
    }
    *total = *total * kept + s.sum(sum);
    kept
}

/// Blocks are never larger than what a row of weights has room for.
const _: () = assert!(BLOCK_PAGES * LANES == std::mem::size_of::<BlockRow>() / 4);
