//! Small products of plain matrices: low-rank adapters, routers, poolers.

use crate::pieces::for_pieces;
use crate::simd::{LANES, Simd, kernel};
use crate::{Pool, dot};

/// Rows from which on it pays to transpose the weights.
const ROWS_TRANSPOSED_MIN: usize = 4;
/// Columns that are transposed together: with 16 rows of weights they take half of a first-level cache.
const DEPTH: usize = 256;

/// `out[row][i] = x[row] · w[i]` for `rows` rows of `x` and every row of `w`, all of `cols` numbers.
///
/// # Panics
/// When lengths do not fit each other.
pub fn gemm_f32(pool: &Pool, x: &[f32], rows: usize, w: &[f32], cols: usize, out: &mut [f32]) {
    assert!(0 < cols && w.len().is_multiple_of(cols), "{} weights in rows of {cols}", w.len());
    let width = w.len() / cols;
    assert_eq!(x.len(), rows * cols, "numbers of {rows} rows of {cols}");
    assert_eq!(out.len(), rows * width, "results of {rows} rows of {width}");
    if out.is_empty() {
        return;
    }
    if rows < ROWS_TRANSPOSED_MIN {
        for (x, out) in x.chunks_exact(cols).zip(out.chunks_exact_mut(width)) {
            for_pieces(pool, out, 1, &|start, out| {
                for (w, out) in w[start * cols..].chunks_exact(cols).zip(out) {
                    *out = dot(pool.isa(), x, w);
                }
            });
        }
        return;
    }
    for_pieces(pool, out, width, &|start, out| {
        transposed(pool.isa(), &x[start / width * cols..], w, cols, out);
    });
}

kernel! {
    /// The product for as many rows as `out` has.
    fn transposed(x: &[f32], w: &[f32], cols: usize, out: &mut [f32]) = panels;
}

#[inline(always)]
fn panels<S: Simd>(s: S, x: &[f32], w: &[f32], cols: usize, out: &mut [f32]) {
    let width = w.len() / cols;
    let rows = out.len() / width;
    let mut panel = [[0.0; LANES]; DEPTH];
    for column in (0..width).step_by(LANES) {
        let lanes = LANES.min(width - column);
        for from in (0..cols).step_by(DEPTH) {
            let depth = DEPTH.min(cols - from);
            for lane in 0..lanes {
                let weights = &w[(column + lane) * cols + from..][..depth];
                for (place, &weight) in panel.iter_mut().zip(weights) {
                    place[lane] = weight;
                }
            }
            let mut row = 0;
            while row < rows {
                let part = Part {
                    x: &x[row * cols + from..],
                    cols,
                    out: &mut out[row * width + column..],
                    width,
                    lanes,
                };
                row += match rows - row {
                    8.. if 8 <= S::ACCUMULATORS => tile::<S, 8>(s, &panel[..depth], part, from == 0),
                    6.. if 6 <= S::ACCUMULATORS => tile::<S, 6>(s, &panel[..depth], part, from == 0),
                    4.. if 4 <= S::ACCUMULATORS => tile::<S, 4>(s, &panel[..depth], part, from == 0),
                    2.. => tile::<S, 2>(s, &panel[..depth], part, from == 0),
                    _ => tile::<S, 1>(s, &panel[..depth], part, from == 0),
                };
            }
        }
    }
}

/// Rows of numbers and of results, from the tile's first on.
struct Part<'a> {
    x: &'a [f32],
    cols: usize,
    out: &'a mut [f32],
    width: usize,
    lanes: usize,
}

/// `R` rows with 16 rows of weights; gives `R`.
#[inline(always)]
fn tile<S: Simd, const R: usize>(s: S, panel: &[[f32; LANES]], part: Part<'_>, first: bool) -> usize {
    let Part { x, cols, out, width, lanes } = part;
    assert!((R - 1) * cols + panel.len() <= x.len(), "a tile reads its own rows");
    let mut sums = [s.splat(0.0); R];
    for (d, weights) in panel.iter().enumerate() {
        let weights = s.load(weights);
        for (r, sum) in sums.iter_mut().enumerate() {
            // SAFETY: `r < R` and `d < panel.len()`, checked above.
            let x = unsafe { *x.get_unchecked(r * cols + d) };
            *sum = s.fma(s.splat(x), weights, *sum);
        }
    }
    for r in 0..R {
        let out = &mut out[r * width..][..lanes];
        let before = if first { s.splat(0.0) } else { s.load_part(out, 0.0) };
        s.store_part(out, s.add(sums[r], before));
    }
    R
}

#[cfg(test)]
mod tests;
