//! The two products of attention, for the few query rows that fit into registers.
//!
//! Sums are added up in the same order for any number of rows: what a row attends to is the same to the last bit
//! whether it is computed alone, as a token that is generated, or beside others, as part of a prompt or draft.
//! Rounded activations would make a token out of a last bit.

// Loops over registers are unrolled; indices say which register best.
#![allow(clippy::needless_range_loop)]

use super::codes::{Codes, View};
use crate::kv::PAGE_TOKENS;
use crate::simd::{HALF, LANES, Simd};

/// Pages that are walked together.
pub(super) const BLOCK_PAGES: usize = 4;

/// Dimensions that are walked together; every head has a multiple of them.
const STEP: usize = 4;
/// Bytes that memory is read in.
const CACHE_LINE: usize = 64;

/// A query row's scores, then weights, for the tokens of a block.
pub(super) type BlockRow = [[f32; LANES]; BLOCK_PAGES];

/// Scores of `R` rows with a page's tokens. `queries` holds, for each dimension, the rows' numbers.
#[inline(always)]
pub(super) fn scores<S: Simd, C: Codes, const R: usize>(
    s: S,
    queries: &[f32],
    page: View<'_, C>,
) -> [S::V; R] {
    let mut scores = match S::PARTIAL_SUMS {
        1 => partial_scores::<S, C, R, 1>(s, queries, page),
        _ => partial_scores::<S, C, R, 2>(s, queries, page),
    };
    if let Some(scales) = page.key_scales {
        if let Some((keys, values)) = page.ahead {
            // The scales behind the codes.
            let codes = page.keys.len() * LANES * size_of::<C::Code>();
            s.prefetch(keys.wrapping_add(codes));
            s.prefetch(values.wrapping_add(codes));
        }
        let scales = s.load(scales);
        for score in &mut scores {
            *score = s.mul(*score, scales);
        }
    }
    scores
}

/// Scores as `U` sums, over every `U`th dimension each.
#[inline(always)]
fn partial_scores<S: Simd, C: Codes, const R: usize, const U: usize>(
    s: S,
    queries: &[f32],
    page: View<'_, C>,
) -> [S::V; R] {
    let mut sums = [[s.splat(0.0); R]; U];
    let steps = queries.as_chunks::<R>().0.as_chunks::<STEP>().0.iter().zip(page.keys.as_chunks::<STEP>().0);
    for (step, (queries, keys)) in steps.enumerate() {
        if let Some((ahead, _)) = page.ahead {
            // As many bytes ahead as are read here.
            let bytes = STEP * LANES * size_of::<C::Code>();
            for at in (step * bytes..(step + 1) * bytes).step_by(CACHE_LINE) {
                s.prefetch(ahead.wrapping_add(at));
            }
        }
        for u in 0..STEP {
            let keys = C::load(s, &keys[u]);
            for r in 0..R {
                sums[u % U][r] = s.fma(s.splat(queries[u][r]), keys, sums[u % U][r]);
            }
        }
    }
    let mut total = sums[0];
    for partial in &sums[1..] {
        for r in 0..R {
            total[r] = s.add(total[r], partial[r]);
        }
    }
    total
}

/// Adds to `R` rows of `out`, each `stride` numbers apart, the values of the pages' tokens times the rows' weights.
/// The last page has only `last_tokens` tokens.
#[inline(always)]
pub(super) fn mix<S: Simd, C: Codes, const R: usize>(
    s: S,
    weights: &[BlockRow; R],
    first_page: usize,
    pages: &[View<'_, C>],
    last_tokens: usize,
    out: &mut [f32],
) {
    let Some(dim) = pages.first().map(|page| page.values.len() / PAGE_TOKENS) else { return };
    assert!(first_page + pages.len() <= BLOCK_PAGES && last_tokens <= PAGE_TOKENS, "pages lie in the block");
    assert!(pages.iter().all(|page| page.values.len() == PAGE_TOKENS * dim), "pages are whole");
    assert_eq!(out.len(), R * padded(dim), "a row of results for each of the weights");
    let work = Mix { weights, first_page, pages, last_tokens, dim };
    let mut column = 0;
    if 4 * R <= S::ACCUMULATORS || R == 1 {
        while column + 4 * LANES <= dim {
            work.columns::<S, 4>(s, column, out);
            column += 4 * LANES;
        }
    }
    // Three rows with two vectors each and their operands take one register more than there are sixteen.
    if 2 * R <= S::ACCUMULATORS && (R != 3 || 12 <= S::ACCUMULATORS) {
        while column + 2 * LANES <= dim {
            work.columns::<S, 2>(s, column, out);
            column += 2 * LANES;
        }
    }
    while column + LANES <= dim {
        work.columns::<S, 1>(s, column, out);
        column += LANES;
    }
    if column < dim {
        work.half_column::<S>(s, column, out);
    }
}

/// The numbers that a row of results of `dim` takes: whole vectors.
pub(super) fn padded(dim: usize) -> usize {
    dim.next_multiple_of(LANES)
}

struct Mix<'a, C: Codes, const R: usize> {
    weights: &'a [BlockRow; R],
    first_page: usize,
    pages: &'a [View<'a, C>],
    last_tokens: usize,
    dim: usize,
}

impl<C: Codes, const R: usize> Mix<'_, C, R> {
    /// `K` vectors of columns, from `column` on; they lie within `dim`.
    #[inline(always)]
    fn columns<S: Simd, const K: usize>(&self, s: S, column: usize, out: &mut [f32]) {
        let stride = padded(self.dim);
        assert!(column + K * LANES <= self.dim, "columns lie within a row");
        let mut sums = [[s.splat(0.0); K]; R];
        for r in 0..R {
            for k in 0..K {
                sums[r][k] = s.load(vector(out, r * stride + column + k * LANES));
            }
        }
        for (i, page) in self.pages.iter().enumerate() {
            let tokens = if i + 1 == self.pages.len() { self.last_tokens } else { PAGE_TOKENS };
            for t in 0..tokens {
                self.token(s, page, i, t, column, &mut sums);
            }
        }
        for r in 0..R {
            for k in 0..K {
                s.store(vector_mut(out, r * stride + column + k * LANES), sums[r][k]);
            }
        }
    }

    /// One token's part of the sums.
    #[inline(always)]
    fn token<S: Simd, const K: usize>(
        &self,
        s: S,
        page: &View<'_, C>,
        index: usize,
        t: usize,
        column: usize,
        sums: &mut [[S::V; K]; R],
    ) {
        let size = size_of::<C::Code>();
        if let (Some((_, ahead)), true) = (page.ahead, (column * size).is_multiple_of(CACHE_LINE)) {
            let at = t * self.dim + column;
            for line in (0..K * LANES * size).step_by(CACHE_LINE) {
                s.prefetch(ahead.wrapping_add(at * size + line));
            }
        }
        for k in 0..K {
            let at = match C::STRIPS {
                true => (column + k * LANES) * PAGE_TOKENS + t * LANES,
                false => t * self.dim + column + k * LANES,
            };
            // SAFETY: `mix` checked that a page has 16 rows of `dim`, `columns` that the columns lie in `dim`, and `t < 16`;
            // a strip is 16 columns of these rows.
            let codes = unsafe { &*page.values.as_ptr().add(at).cast::<[C::Code; LANES]>() };
            let values = C::load(s, codes);
            for r in 0..R {
                let weights = self.weights[r].as_flattened();
                // SAFETY: `mix` checked that the pages lie in the block.
                let weight = unsafe { *weights.get_unchecked((self.first_page + index) * LANES + t) };
                sums[r][k] = s.fma(s.splat(weight), values, sums[r][k]);
            }
        }
    }

    /// The last eight columns of a dimension that is no multiple of sixteen.
    #[inline(always)]
    fn half_column<S: Simd>(&self, s: S, column: usize, out: &mut [f32]) {
        let stride = padded(self.dim);
        let mut sums = [s.splat(0.0); R];
        for r in 0..R {
            sums[r] = s.load(vector(out, r * stride + column));
        }
        for (i, page) in self.pages.iter().enumerate() {
            let tokens = if i + 1 == self.pages.len() { self.last_tokens } else { PAGE_TOKENS };
            for (t, row) in page.values.chunks_exact(self.dim).enumerate().take(tokens) {
                let Some(codes) = row[column..].first_chunk::<HALF>() else { continue };
                let values = C::load_low(s, codes);
                for r in 0..R {
                    sums[r] = s.fma(s.splat(self.weights[r][self.first_page + i][t]), values, sums[r]);
                }
            }
        }
        for r in 0..R {
            s.store(vector_mut(out, r * stride + column), sums[r]);
        }
    }
}

#[inline(always)]
fn vector(numbers: &[f32], at: usize) -> &[f32; LANES] {
    numbers[at..].first_chunk().unwrap_or(&[0.0; LANES])
}

#[inline(always)]
fn vector_mut(numbers: &mut [f32], at: usize) -> &mut [f32; LANES] {
    match numbers[at..].first_chunk_mut() {
        Some(vector) => vector,
        None => unreachable!("rows of results are whole vectors"),
    }
}
