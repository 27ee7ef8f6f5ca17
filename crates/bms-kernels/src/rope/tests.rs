use super::*;
use crate::check::{Tolerance, assert_close, guarded, pools, random};

/// The table and the products are rounded to 32 bits.
const TOLERANCE: Tolerance = Tolerance { absolute: 4e-7, relative: 4e-7 };

/// By the definition: a multiplication of complex numbers.
fn exact(rope: &Rope, positions: &[usize], x: &[f32], head_dim: usize) -> Vec<f64> {
    let mut out: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    let width = x.len() / positions.len();
    for (row, &position) in out.chunks_exact_mut(width).zip(positions) {
        for head in row.chunks_exact_mut(head_dim) {
            let pairs = rope.dims() / 2;
            for i in 0..pairs {
                let (a, b) = match rope.style {
                    RopeStyle::Interleaved => (2 * i, 2 * i + 1),
                    RopeStyle::Halves => (i, pairs + i),
                };
                let angle = position as f64 * rope.frequencies[i];
                let magnitude = f64::from(rope.magnitude);
                let (cosine, sine) = (angle.cos() * magnitude, angle.sin() * magnitude);
                (head[a], head[b]) = (head[a] * cosine - head[b] * sine, head[a] * sine + head[b] * cosine);
            }
        }
    }
    out
}

#[test]
fn pairs_are_turned_by_their_angle() {
    for pool in pools() {
        for style in [RopeStyle::Interleaved, RopeStyle::Halves] {
            for (head_dim, dims) in [(64, 64), (80, 32), (96, 96), (128, 128), (24, 24), (10, 6), (8, 0)] {
                let rope = Rope::new(style, dims, 10_000.0, &[], 1.25);
                let positions: Vec<usize> =
                    (0..37).map(|i| if i % 5 == 0 { 131_071 - i } else { i }).collect();
                let mut rotations = Rotations::default();
                rotations.set(&pool, &rope, &positions);
                assert_eq!(rotations.rows(), 37);
                let x = random(1, 37 * 5 * head_dim);
                let found = guarded(&x, |x| rotations.apply(&pool, x, head_dim));
                let context = format!("{style:?} {dims} of {head_dim} on {}", pool.isa());
                assert_close(&found, &exact(&rope, &positions, &x, head_dim), TOLERANCE, context);
            }
        }
    }
}

#[test]
fn factors_slow_the_turning() {
    let plain = Rope::new(RopeStyle::Halves, 4, 100.0, &[], 1.0);
    assert_eq!(plain.frequencies, [1.0, 0.1]);
    let stretched = Rope::new(RopeStyle::Halves, 4, 100.0, &[1.0, 8.0], 1.0);
    assert_eq!(stretched.frequencies, [1.0, 0.1 / 8.0]);
}

#[test]
fn a_buffer_of_rotations_is_used_again_for_fewer_rows() {
    let pool = &pools()[0];
    let rope = Rope::new(RopeStyle::Halves, 8, 100.0, &[], 1.0);
    let mut rotations = Rotations::default();
    rotations.set(pool, &rope, &[5; 40]);
    rotations.set(pool, &rope, &[0]);
    let x = random(1, 16);
    assert_eq!(guarded(&x, |x| rotations.apply(pool, x, 8)), x);
}

#[test]
#[should_panic(expected = "8 of 4 numbers rotate")]
fn a_head_too_small_is_refused() {
    let pool = &pools()[0];
    let mut rotations = Rotations::default();
    rotations.set(pool, &Rope::new(RopeStyle::Halves, 8, 100.0, &[], 1.0), &[1]);
    rotations.apply(pool, &mut [0.0; 8], 4);
}

#[test]
#[should_panic(expected = "3 factors for 4 pairs")]
fn factors_that_do_not_fit_are_refused() {
    Rope::new(RopeStyle::Halves, 8, 100.0, &[1.0; 3], 1.0);
}
