//! Softmax and what else one wants to know of a row of scores.

use crate::Pool;
use crate::pieces::for_pieces;
use crate::simd::{LANES, Simd, exp, kernel, tanh};

/// Turns each row of `cols` scores into probabilities that sum to one.
///
/// # Panics
/// When `x` is not whole rows.
pub fn softmax(pool: &Pool, x: &mut [f32], cols: usize) {
    for_pieces(pool, x, cols, &|_, x| {
        x.chunks_exact_mut(cols).for_each(|row| softmax_row(pool.isa(), row));
    });
}

/// `x = cap * tanh(x / cap)` for every number: large scores are bent to at most `cap`.
pub fn soft_cap(pool: &Pool, x: &mut [f32], cap: f32) {
    for_pieces(pool, x, 1, &|_, x| soft_cap_row(pool.isa(), x, cap));
}

kernel! {
    /// [`softmax`] of one row. Scores of minus infinity have probability zero, unless all are.
    pub fn softmax_row(x: &mut [f32]) = softmax_of;
    /// [`soft_cap`] on the calling thread.
    pub fn soft_cap_row(x: &mut [f32], cap: f32) = soft_cap_of;
    /// The logarithm of the sum of e to the power of each score: what a score is less to be a log-probability. Minus
    /// infinity when there are none.
    pub fn log_sum_exp(x: &[f32]) -> f32 = log_sum_exp_of;
    /// The place of the largest score, the first of equal ones; nothing when there is none that is a number.
    pub fn argmax(x: &[f32]) -> Option<usize> = argmax_of;
}

#[inline(always)]
fn largest<S: Simd>(s: S, x: &[f32]) -> f32 {
    let (vectors, rest) = x.as_chunks::<LANES>();
    let mut most = [s.splat(f32::NEG_INFINITY); 4];
    let (quads, singles) = vectors.as_chunks::<4>();
    for quad in quads {
        for i in 0..4 {
            most[i] = s.max(s.load(&quad[i]), most[i]);
        }
    }
    for single in singles {
        most[0] = s.max(s.load(single), most[0]);
    }
    most[1] = s.max(s.load_part(rest, f32::NEG_INFINITY), most[1]);
    s.largest(s.max(s.max(most[0], most[1]), s.max(most[2], most[3])))
}

#[inline(always)]
fn softmax_of<S: Simd>(s: S, x: &mut [f32]) {
    let most = s.splat(largest(s, x));
    let mut total = s.splat(0.0);
    let (vectors, rest) = x.as_chunks_mut::<LANES>();
    for x in vectors.iter_mut() {
        let e = exp(s, s.sub(s.load(x), most));
        total = s.add(total, e);
        s.store(x, e);
    }
    let last = exp(s, s.sub(s.load_part(rest, f32::NEG_INFINITY), most));
    let scale = s.splat(1.0 / s.sum(s.add(total, last)));
    s.store_part(rest, s.mul(last, scale));
    for x in vectors {
        let v = s.mul(s.load(x), scale);
        s.store(x, v);
    }
}

#[inline(always)]
fn soft_cap_of<S: Simd>(s: S, x: &mut [f32], cap: f32) {
    let (cap_lanes, inverse) = (s.splat(cap), s.splat(1.0 / cap));
    let (vectors, rest) = x.as_chunks_mut::<LANES>();
    for x in vectors {
        let v = s.mul(tanh(s, s.mul(s.load(x), inverse)), cap_lanes);
        s.store(x, v);
    }
    let last = s.mul(tanh(s, s.mul(s.load_part(rest, 0.0), inverse)), cap_lanes);
    s.store_part(rest, last);
}

#[inline(always)]
fn log_sum_exp_of<S: Simd>(s: S, x: &[f32]) -> f32 {
    let most = largest(s, x);
    if most == f32::NEG_INFINITY {
        return most;
    }
    let shift = s.splat(most);
    let mut total = s.splat(0.0);
    let (vectors, rest) = x.as_chunks::<LANES>();
    for x in vectors {
        total = s.add(total, exp(s, s.sub(s.load(x), shift)));
    }
    total = s.add(total, exp(s, s.sub(s.load_part(rest, f32::NEG_INFINITY), shift)));
    most + s.sum(total).ln()
}

/// Scores that are searched for the largest together, and once more for its place.
const BLOCK: usize = 64 * LANES;

#[inline(always)]
fn argmax_of<S: Simd>(s: S, x: &[f32]) -> Option<usize> {
    let (mut most, mut block) = (f32::NEG_INFINITY, None);
    for (i, scores) in x.chunks(BLOCK).enumerate() {
        let found = largest(s, scores);
        if most < found || block.is_none() && scores.contains(&found) {
            (most, block) = (found, Some(i));
        }
    }
    let start = block? * BLOCK;
    x[start..].iter().position(|&score| score == most).map(|i| start + i)
}

#[cfg(test)]
mod tests;
