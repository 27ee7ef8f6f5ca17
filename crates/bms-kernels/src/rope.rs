//! Rotary position embedding (<https://arxiv.org/abs/2104.09864>).

use crate::pieces::for_pieces;
use crate::simd::{LANES, Simd, kernel};
use crate::{Isa, Pool};

/// Which two numbers of a head are rotated together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RopeStyle {
    /// Neighbours: `2 i` and `2 i + 1`.
    Interleaved,
    /// From the two halves of what is rotated: `i` and `dims / 2 + i`.
    Halves,
}

/// How positions become angles.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    style: RopeStyle,
    /// Of each pair, radians a position.
    frequencies: Vec<f64>,
    magnitude: f32,
}

impl Rope {
    /// Rotates the first `dims` numbers of each head, pair `i` by `position * base^(-2 i / dims) / factor(i)`.
    ///
    /// Ways of stretching a context are factors: all equal (linear), one for each pair (Llama 3, LongRoPE, YaRN); empty
    /// means none. `magnitude` is what LongRoPE and YaRN multiply the rotated numbers with, else 1.
    ///
    /// # Panics
    /// When `dims` is odd, or there are factors but not one for each pair.
    pub fn new(style: RopeStyle, dims: usize, base: f64, factors: &[f32], magnitude: f32) -> Rope {
        assert!(dims.is_multiple_of(2), "{dims} numbers do not make pairs");
        let pairs = dims / 2;
        assert!(factors.is_empty() || factors.len() == pairs, "{} factors for {pairs} pairs", factors.len());
        let frequency = |i: usize| {
            let factor = factors.get(i).copied().map_or(1.0, f64::from);
            base.powf(-2.0 * i as f64 / dims as f64) / factor
        };
        Rope { style, frequencies: (0..pairs).map(frequency).collect(), magnitude }
    }

    /// Of each pair, radians a position: for whoever checks them or puts back what they were.
    pub fn frequencies_mut(&mut self) -> &mut [f64] {
        &mut self.frequencies
    }

    /// Numbers of a head that are rotated.
    pub fn dims(&self) -> usize {
        2 * self.frequencies.len()
    }
}

/// The rotations of some rows: computed once for a forward pass, used by every layer. The buffer is reused.
#[derive(Clone, Debug)]
pub struct Rotations {
    style: RopeStyle,
    pairs: usize,
    rows: usize,
    /// For each row the cosines of all pairs, then their sines.
    table: Vec<f32>,
}

impl Default for Rotations {
    fn default() -> Rotations {
        Rotations { style: RopeStyle::Halves, pairs: 0, rows: 0, table: Vec::new() }
    }
}

impl Rotations {
    /// Takes the rotations of rows at these positions.
    pub fn set(&mut self, pool: &Pool, rope: &Rope, positions: &[usize]) {
        (self.style, self.pairs, self.rows) = (rope.style, rope.frequencies.len(), positions.len());
        self.table.resize(positions.len() * 2 * self.pairs, 0.0);
        let pairs = self.pairs;
        if pairs == 0 {
            return;
        }
        for_pieces(pool, &mut self.table, 2 * pairs, &|start, table| {
            for (i, row) in table.chunks_exact_mut(2 * pairs).enumerate() {
                let position = positions[start / (2 * pairs) + i] as f64;
                let (cosines, sines) = row.split_at_mut(pairs);
                for ((frequency, cosine), sine) in rope.frequencies.iter().zip(cosines).zip(sines) {
                    let (s, c) = (position * frequency).sin_cos();
                    (*cosine, *sine) = (c as f32 * rope.magnitude, s as f32 * rope.magnitude);
                }
            }
        });
    }

    /// Rows whose rotations are held.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Rotates every head of every row of `x`; `x` holds as many rows as there were positions.
    ///
    /// # Panics
    /// When `x` does not have as many rows, a row is not whole heads, or a head is shorter than what is rotated.
    pub fn apply(&self, pool: &Pool, x: &mut [f32], head_dim: usize) {
        if x.is_empty() {
            return;
        }
        assert!(
            self.rows != 0 && x.len().is_multiple_of(self.rows),
            "{} numbers in {} rows",
            x.len(),
            self.rows
        );
        let width = x.len() / self.rows;
        assert!(
            2 * self.pairs <= head_dim && width.is_multiple_of(head_dim),
            "{} of {head_dim} numbers rotate in rows of {width}",
            2 * self.pairs
        );
        for_pieces(pool, x, width, &|start, x| {
            for (i, row) in x.chunks_exact_mut(width).enumerate() {
                self.apply_row(pool.isa(), start / width + i, row, head_dim);
            }
        });
    }

    /// [`Rotations::apply`] to one row, on the calling thread.
    ///
    /// # Panics
    /// When there is no such row, or a head is shorter than what is rotated.
    pub fn apply_row(&self, isa: Isa, row: usize, x: &mut [f32], head_dim: usize) {
        let (cosines, sines) = self.table[row * 2 * self.pairs..][..2 * self.pairs].split_at(self.pairs);
        match self.style {
            RopeStyle::Interleaved => rotate_neighbours(isa, x, head_dim, cosines, sines),
            RopeStyle::Halves => rotate_halves(isa, x, head_dim, cosines, sines),
        }
    }
}

kernel! {
    fn rotate_neighbours(x: &mut [f32], head_dim: usize, cosines: &[f32], sines: &[f32]) = neighbours;
    fn rotate_halves(x: &mut [f32], head_dim: usize, cosines: &[f32], sines: &[f32]) = halves;
}

#[inline(always)]
fn neighbours<S: Simd>(_: S, x: &mut [f32], head_dim: usize, cosines: &[f32], sines: &[f32]) {
    for head in x.chunks_exact_mut(head_dim) {
        let pairs = head[..2 * cosines.len()].as_chunks_mut::<2>().0;
        for ((pair, cosine), sine) in pairs.iter_mut().zip(cosines).zip(sines) {
            let [a, b] = *pair;
            *pair = [a * cosine - b * sine, a * sine + b * cosine];
        }
    }
}

#[inline(always)]
fn halves<S: Simd>(s: S, x: &mut [f32], head_dim: usize, cosines: &[f32], sines: &[f32]) {
    let pairs = cosines.len();
    let (cosines, cosines_rest) = cosines.as_chunks::<LANES>();
    let (sines, sines_rest) = sines.as_chunks::<LANES>();
    for head in x.chunks_exact_mut(head_dim) {
        let (first, second) = head[..2 * pairs].split_at_mut(pairs);
        let (first, first_rest) = first.as_chunks_mut::<LANES>();
        let (second, second_rest) = second.as_chunks_mut::<LANES>();
        for (((first, second), cosine), sine) in first.iter_mut().zip(second).zip(cosines).zip(sines) {
            let (a, b, cosine, sine) = (s.load(first), s.load(second), s.load(cosine), s.load(sine));
            s.store(first, s.sub(s.mul(a, cosine), s.mul(b, sine)));
            s.store(second, s.fma(a, sine, s.mul(b, cosine)));
        }
        for (((first, second), cosine), sine) in
            first_rest.iter_mut().zip(second_rest).zip(cosines_rest).zip(sines_rest)
        {
            let (a, b) = (*first, *second);
            (*first, *second) = (a * cosine - b * sine, a * sine + b * cosine);
        }
    }
}

#[cfg(test)]
mod tests;
