//! Sums and products of plain rows.

use crate::Pool;
use crate::pieces::for_pieces;
use crate::simd::{LANES, Simd, kernel};

/// `x += y`, number by number.
///
/// # Panics
/// When the two differ in length.
pub fn add(pool: &Pool, x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "as many numbers in both");
    for_pieces(pool, x, 1, &|start, x| add_row(pool.isa(), x, &y[start..start + x.len()]));
}

/// `x += factor * y`, number by number.
///
/// # Panics
/// When the two differ in length.
pub fn add_scaled(pool: &Pool, x: &mut [f32], factor: f32, y: &[f32]) {
    assert_eq!(x.len(), y.len(), "as many numbers in both");
    for_pieces(pool, x, 1, &|start, x| add_scaled_row(pool.isa(), x, factor, &y[start..start + x.len()]));
}

/// Adds `bias` to every row.
///
/// # Panics
/// When `x` is not whole rows of the bias' length.
pub fn add_bias(pool: &Pool, x: &mut [f32], bias: &[f32]) {
    for_pieces(pool, x, bias.len(), &|_, x| {
        x.chunks_exact_mut(bias.len()).for_each(|row| add_row(pool.isa(), row, bias));
    });
}

/// `x *= factor`, number by number.
pub fn scale(pool: &Pool, x: &mut [f32], factor: f32) {
    for_pieces(pool, x, 1, &|_, x| scale_row(pool.isa(), x, factor));
}

kernel! {
    /// [`add`] on the calling thread.
    ///
    /// # Panics
    /// When the two differ in length.
    pub fn add_row(x: &mut [f32], y: &[f32]) = add_of;
    /// [`add_scaled`] on the calling thread.
    ///
    /// # Panics
    /// When the two differ in length.
    pub fn add_scaled_row(x: &mut [f32], factor: f32, y: &[f32]) = add_scaled_of;
    /// [`scale`] on the calling thread.
    pub fn scale_row(x: &mut [f32], factor: f32) = scale_of;
    /// The sum of the products of numbers at equal places.
    ///
    /// # Panics
    /// When the two differ in length.
    pub fn dot(x: &[f32], y: &[f32]) -> f32 = dot_of;
}

#[inline(always)]
fn add_of<S: Simd>(_: S, x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "as many numbers in both");
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

#[inline(always)]
fn add_scaled_of<S: Simd>(_: S, x: &mut [f32], factor: f32, y: &[f32]) {
    assert_eq!(x.len(), y.len(), "as many numbers in both");
    for (x, y) in x.iter_mut().zip(y) {
        *x += factor * y;
    }
}

#[inline(always)]
fn scale_of<S: Simd>(_: S, x: &mut [f32], factor: f32) {
    for x in x {
        *x *= factor;
    }
}

#[inline(always)]
fn dot_of<S: Simd>(s: S, x: &[f32], y: &[f32]) -> f32 {
    assert_eq!(x.len(), y.len(), "as many numbers in both");
    let (x, x_rest) = x.as_chunks::<LANES>();
    let (y, y_rest) = y.as_chunks::<LANES>();
    let mut sums = [s.splat(0.0); 4];
    let (x_quads, x_singles) = x.as_chunks::<4>();
    let (y_quads, y_singles) = y.as_chunks::<4>();
    for (x, y) in x_quads.iter().zip(y_quads) {
        for i in 0..4 {
            sums[i] = s.fma(s.load(&x[i]), s.load(&y[i]), sums[i]);
        }
    }
    for (x, y) in x_singles.iter().zip(y_singles) {
        sums[0] = s.fma(s.load(x), s.load(y), sums[0]);
    }
    sums[1] = s.fma(s.load_part(x_rest, 0.0), s.load_part(y_rest, 0.0), sums[1]);
    s.sum(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])))
}

#[cfg(test)]
mod tests;
