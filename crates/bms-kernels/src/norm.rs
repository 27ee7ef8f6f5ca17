//! Normalisation of rows.

use crate::Pool;
use crate::pieces::for_pieces;
use crate::simd::{LANES, Simd, kernel};

/// Divides each row by the root of its mean square (<https://arxiv.org/abs/1910.07467>) and multiplies it with
/// `weight`, whose length is a row's.
///
/// # Panics
/// When `x` and `out` differ in length or are not whole rows.
pub fn rms_norm(pool: &Pool, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "as many results as numbers");
    let cols = weight.len();
    for_pieces(pool, out, cols, &|start, out| {
        for (i, out) in out.chunks_exact_mut(cols).enumerate() {
            let at = start + i * cols;
            rms_norm_row(pool.isa(), &x[at..at + cols], weight, epsilon, out);
        }
    });
}

/// [`rms_norm`] in place; the norm of queries and keys has a row for each head.
///
/// # Panics
/// When `x` is not whole rows.
pub fn rms_norm_in_place(pool: &Pool, x: &mut [f32], weight: &[f32], epsilon: f32) {
    for_pieces(pool, x, weight.len(), &|_, x| {
        for row in x.chunks_exact_mut(weight.len()) {
            rms_norm_row_in_place(pool.isa(), row, weight, epsilon);
        }
    });
}

/// Shifts each row to mean zero, scales it to variance one (<https://arxiv.org/abs/1607.06450>), multiplies it with
/// `weight` and adds `bias`, if there is one.
///
/// # Panics
/// When `x` and `out`, or `weight` and `bias`, differ in length, or `x` is not whole rows.
pub fn layer_norm(
    pool: &Pool,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    epsilon: f32,
    out: &mut [f32],
) {
    assert_eq!(x.len(), out.len(), "as many results as numbers");
    let cols = weight.len();
    for_pieces(pool, out, cols, &|start, out| {
        for (i, out) in out.chunks_exact_mut(cols).enumerate() {
            let at = start + i * cols;
            layer_norm_row(pool.isa(), &x[at..at + cols], weight, bias, epsilon, out);
        }
    });
}

kernel! {
    /// [`rms_norm`] of one row.
    ///
    /// # Panics
    /// When lengths differ.
    pub fn rms_norm_row(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) = rms_row;
    /// [`rms_norm_in_place`] of one row.
    ///
    /// # Panics
    /// When lengths differ.
    pub fn rms_norm_row_in_place(x: &mut [f32], weight: &[f32], epsilon: f32) = rms_row_in_place;
    /// [`layer_norm`] of one row.
    ///
    /// # Panics
    /// When lengths differ.
    pub fn layer_norm_row(
        x: &[f32], weight: &[f32], bias: Option<&[f32]>, epsilon: f32, out: &mut [f32]
    ) = layer_row;
}

/// Sums of a row: of the numbers less `shift`, and of the squares of that.
#[inline(always)]
fn sums<S: Simd>(s: S, x: &[f32], shift: f32) -> (f32, f32) {
    let shift_lanes = s.splat(shift);
    let (mut first, mut second) = ([s.splat(0.0); 4], [s.splat(0.0); 4]);
    let (vectors, rest) = x.as_chunks::<LANES>();
    let (quads, singles) = vectors.as_chunks::<4>();
    for quad in quads {
        for i in 0..4 {
            let v = s.sub(s.load(&quad[i]), shift_lanes);
            first[i] = s.add(first[i], v);
            second[i] = s.fma(v, v, second[i]);
        }
    }
    for single in singles {
        let v = s.sub(s.load(single), shift_lanes);
        first[0] = s.add(first[0], v);
        second[0] = s.fma(v, v, second[0]);
    }
    let v = s.sub(s.load_part(rest, shift), shift_lanes);
    first[1] = s.add(first[1], v);
    second[1] = s.fma(v, v, second[1]);
    let total = |v: [S::V; 4]| s.sum(s.add(s.add(v[0], v[1]), s.add(v[2], v[3])));
    (total(first), total(second))
}

#[inline(always)]
fn rms_scale<S: Simd>(s: S, x: &[f32], epsilon: f32) -> f32 {
    let (_, squares) = sums(s, x, 0.0);
    1.0 / (squares / x.len() as f32 + epsilon).sqrt()
}

#[inline(always)]
fn rms_row<S: Simd>(s: S, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    assert!(x.len() == weight.len() && x.len() == out.len(), "a row is as long as the weight");
    let scale = s.splat(rms_scale(s, x, epsilon));
    let (x, x_rest) = x.as_chunks::<LANES>();
    let (weight, weight_rest) = weight.as_chunks::<LANES>();
    let (out, out_rest) = out.as_chunks_mut::<LANES>();
    for ((x, weight), out) in x.iter().zip(weight).zip(out) {
        s.store(out, s.mul(s.mul(s.load(x), scale), s.load(weight)));
    }
    let last = s.mul(s.mul(s.load_part(x_rest, 0.0), scale), s.load_part(weight_rest, 0.0));
    s.store_part(out_rest, last);
}

#[inline(always)]
fn rms_row_in_place<S: Simd>(s: S, x: &mut [f32], weight: &[f32], epsilon: f32) {
    assert_eq!(x.len(), weight.len(), "a row is as long as the weight");
    let scale = s.splat(rms_scale(s, x, epsilon));
    let (x, x_rest) = x.as_chunks_mut::<LANES>();
    let (weight, weight_rest) = weight.as_chunks::<LANES>();
    for (x, weight) in x.iter_mut().zip(weight) {
        let v = s.mul(s.mul(s.load(x), scale), s.load(weight));
        s.store(x, v);
    }
    let last = s.mul(s.mul(s.load_part(x_rest, 0.0), scale), s.load_part(weight_rest, 0.0));
    s.store_part(x_rest, last);
}

#[inline(always)]
fn layer_row<S: Simd>(s: S, x: &[f32], weight: &[f32], bias: Option<&[f32]>, epsilon: f32, out: &mut [f32]) {
    assert!(x.len() == weight.len() && x.len() == out.len(), "a row is as long as the weight");
    assert!(bias.is_none_or(|bias| bias.len() == x.len()), "a row is as long as the bias");
    let count = x.len() as f32;
    let mean = sums(s, x, 0.0).0 / count;
    // Around the mean, so that a large mean does not drown the variance; what is left of the mean is taken out, too.
    let (left, squares) = sums(s, x, mean);
    let variance = squares / count - (left / count) * (left / count);
    let scale = s.splat(1.0 / (variance.max(0.0) + epsilon).sqrt());
    let shift = s.splat(mean + left / count);
    for at in (0..x.len()).step_by(LANES) {
        let end = (at + LANES).min(x.len());
        let part = |row: &[f32]| match row[at..end].first_chunk::<LANES>() {
            Some(whole) => s.load(whole),
            None => s.load_part(&row[at..end], 0.0),
        };
        let bias = bias.map_or(s.splat(0.0), part);
        let v = s.fma(s.mul(s.sub(part(x), shift), scale), part(weight), bias);
        match out[at..end].first_chunk_mut::<LANES>() {
            Some(whole) => s.store(whole, v),
            None => s.store_part(&mut out[at..end], v),
        }
    }
}

#[cfg(test)]
mod tests;
