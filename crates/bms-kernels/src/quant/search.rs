//! The searches for scales of least weighted square error.

use crate::simd::{LANES, Simd};

/// Magnitudes below this are taken for zero; their scales would not be numbers.
pub(super) const MAGNITUDE_MIN: f32 = 1e-15;

/// The nearest whole number, halves to even. Meaningless, but defined, from 2^22 on and for what is no number.
#[inline(always)]
pub(super) fn nearest(value: f32) -> i32 {
    // In [2^23, 2^24) the unit of the last place is one, so that adding 1.5 * 2^23 rounds.
    ((value + 12_582_912.0).to_bits() & 0x007f_ffff) as i32 - 0x0040_0000
}

/// How finely [`ranged`] looks: codes up to `code_max`, and `steps + 1` trial scales from `first` on.
#[derive(Clone, Copy)]
pub(super) struct Trials {
    pub(super) code_max: i32,
    pub(super) first: f32,
    pub(super) step: f32,
    pub(super) steps: usize,
}

/// Values of a group in vectors. Products are not fused with sums, so that all instruction sets find the same.
type Vectors<V> = [V; 2];

/// The scale and the minimum (negated, never negative) with which codes from zero fit the values best:
/// `value ≈ scale * code - minimum`. Each trial takes codes for one scale, then the scale and the minimum of least
/// error for these codes.
#[inline(always)]
pub(super) fn ranged<S: Simd>(s: S, values: &[f32; 32], weights: &[f32; 32], trials: Trials) -> (f32, f32) {
    let (mut min, mut max) = (values[0], values[0]);
    for &value in values {
        min = if value < min { value } else { min };
        max = if max < value { value } else { max };
    }
    min = if 0.0 < min { 0.0 } else { min };
    if max == min {
        return (0.0, -min);
    }
    let (x, w) = (vectors(s, values), vectors(s, weights));
    let wx = [s.mul(w[0], x[0]), s.mul(w[1], x[1])];
    let (sum_w, sum_x) = (s.sum(s.add(w[0], w[1])), s.sum(s.add(wx[0], wx[1])));
    let (code_max, lowest) = (trials.code_max as f32, min);
    let mut scale = 1.0 / (code_max / (max - lowest));
    let codes = take_codes(s, x, code_max / (max - lowest), lowest, code_max);
    let mut best = error(s, x, w, codes, scale, min);
    for step in 0..=trials.steps {
        let inverse = (trials.first + trials.step * step as f32 + code_max) / (max - lowest);
        let codes = take_codes(s, x, inverse, lowest, code_max);
        let wl = [s.mul(w[0], codes[0]), s.mul(w[1], codes[1])];
        let sum_l = s.sum(s.add(wl[0], wl[1]));
        let sum_l2 = s.sum(s.add(s.mul(wl[0], codes[0]), s.mul(wl[1], codes[1])));
        let sum_xl = s.sum(s.add(s.mul(wl[0], x[0]), s.mul(wl[1], x[1])));
        let determinant = sum_w * sum_l2 - sum_l * sum_l;
        if determinant <= 0.0 || determinant.is_nan() {
            continue;
        }
        let mut trial_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
        let mut trial_min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
        if 0.0 < trial_min {
            trial_min = 0.0;
            trial_scale = sum_xl / sum_l2;
        }
        let trial = error(s, x, w, codes, trial_scale, trial_min);
        if trial < best {
            (best, scale, min) = (trial, trial_scale, trial_min);
        }
    }
    (scale, -min)
}

#[inline(always)]
fn vectors<S: Simd>(s: S, numbers: &[f32; 32]) -> Vectors<S::V> {
    let (halves, _) = numbers.as_chunks::<LANES>();
    [s.load(&halves[0]), s.load(&halves[1])]
}

/// Whole numbers from `from` to `to`; what is no number becomes one of these.
#[inline(always)]
fn whole<S: Simd>(s: S, x: S::V, from: f32, to: f32) -> S::V {
    // Cut first: rounding holds for moderate numbers only.
    s.round(s.min(s.max(x, s.splat(from)), s.splat(to)))
}

#[inline(always)]
fn take_codes<S: Simd>(s: S, x: Vectors<S::V>, inverse: f32, min: f32, code_max: f32) -> Vectors<S::V> {
    let (inverse, min) = (s.splat(inverse), s.splat(min));
    [
        whole(s, s.mul(inverse, s.sub(x[0], min)), 0.0, code_max),
        whole(s, s.mul(inverse, s.sub(x[1], min)), 0.0, code_max),
    ]
}

#[inline(always)]
fn error<S: Simd>(
    s: S,
    x: Vectors<S::V>,
    w: Vectors<S::V>,
    codes: Vectors<S::V>,
    scale: f32,
    min: f32,
) -> f32 {
    let (scale, min) = (s.splat(scale), s.splat(min));
    let mut errors = x;
    for i in 0..2 {
        let difference = s.sub(s.add(s.mul(scale, codes[i]), min), x[i]);
        errors[i] = s.mul(s.mul(w[i], difference), difference);
    }
    s.sum(s.add(errors[0], errors[1]))
}

/// The scale with which codes from `-half` to `half - 1` fit the values best, each weighted by its square. The
/// extreme value gives the sign.
#[inline(always)]
pub(super) fn symmetric<S: Simd>(s: S, values: &[f32; LANES], half: i32) -> f32 {
    let mut extreme = 0.0_f32;
    for &value in values {
        if extreme.abs() < value.abs() {
            extreme = value;
        }
    }
    if extreme.abs() < MAGNITUDE_MIN {
        return 0.0;
    }
    let (x, half) = (s.load(values), half as f32);
    let (mut scale, mut best) = fit(s, x, -half / extreme, half).unwrap_or((0.0, 0.0));
    for step in -9..=9 {
        if step == 0 {
            continue;
        }
        let inverse = -(half + 0.1 * step as f32) / extreme;
        if let Some((trial_scale, trial)) = fit(s, x, inverse, half)
            && best < trial
        {
            (scale, best) = (trial_scale, trial);
        }
    }
    scale
}

/// The best scale for the codes that `inverse` gives, and by how much it lessens the error; nothing when all codes
/// are zero.
#[inline(always)]
fn fit<S: Simd>(s: S, x: S::V, inverse: f32, half: f32) -> Option<(f32, f32)> {
    let codes = whole(s, s.mul(s.splat(inverse), x), -half, half - 1.0);
    let weighted = s.mul(s.mul(x, x), codes);
    let (sum_xl, sum_l2) = (s.sum(s.mul(weighted, x)), s.sum(s.mul(weighted, codes)));
    match 0.0 < sum_l2 {
        true => Some((sum_xl / sum_l2, sum_xl / sum_l2 * sum_xl)),
        false => None,
    }
}
