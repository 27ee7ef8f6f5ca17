//! Functions of whole vectors. Errors are relative and measured by the tests beside `simd.rs`, against 64-bit arithmetic.

use super::Simd;

/// Coefficients of 2^x on [-0.5, 0.5], highest power first (Cephes, `exp2f`).
const EXP2: [f32; 7] = [
    1.535_336_2e-4,
    1.339_887_4e-3,
    9.618_437e-3,
    5.550_332_5e-2,
    2.402_264_8e-1,
    std::f32::consts::LN_2,
    1.0,
];
/// The upper bits of ln 2, few enough that a multiple of a small whole number is exact.
const LN_2_HIGH: f32 = 0.693_359_4;
/// What [`LN_2_HIGH`] is too much.
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// Below this 2^x is taken for zero: the result would not be a normal number.
const EXP2_MIN: f32 = -126.0;

#[inline(always)]
fn polynomial<S: Simd, const N: usize>(s: S, x: S::V, coefficients: [f32; N]) -> S::V {
    let mut y = s.splat(coefficients[0]);
    for &coefficient in &coefficients[1..] {
        y = s.fma(y, x, s.splat(coefficient));
    }
    y
}

/// `y * 2^n` for whole `n` from -126 to 128.
#[inline(always)]
fn scaled<S: Simd>(s: S, y: S::V, n: S::V) -> S::V {
    // In two steps, because 2^128 is not a number.
    let first = s.min(n, s.splat(127.0));
    s.mul(s.scale_by_power(y, first), s.scale_by_power(s.splat(1.0), s.sub(n, first)))
}

/// 2^x for `x <= 0`, within 2e-7 from -126 on; zero below, no number for none. What attention needs.
#[inline(always)]
pub(crate) fn exp2_of_negative<S: Simd>(s: S, x: S::V) -> S::V {
    let inside = s.max(s.splat(EXP2_MIN), x);
    let n = s.round(inside);
    let y = s.scale_by_power(polynomial(s, s.sub(inside, n), EXP2), n);
    s.if_less(x, s.splat(EXP2_MIN), s.splat(0.0), y)
}

/// e^x, within 3e-7 from -87.3 on; zero below, the largest numbers above 88.7, no number for none.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    const MIN: f32 = -87.33;
    let inside = s.max(s.splat(MIN), s.min(s.splat(88.72), x));
    let n = s.round(s.mul(inside, s.splat(std::f32::consts::LOG2_E)));
    let rest = s.fma(n, s.splat(-LN_2_HIGH), inside);
    let rest = s.fma(n, s.splat(-LN_2_LOW), rest);
    // As a power of two, so that one polynomial serves both; the rest is small, and so is what its rounding adds.
    let y = scaled(s, polynomial(s, s.mul(rest, s.splat(std::f32::consts::LOG2_E)), EXP2), n);
    s.if_less(x, s.splat(MIN), s.splat(0.0), y)
}

/// The hyperbolic tangent, within 3e-7 of one, and relatively within 4e-6 near zero.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    let magnitude = s.abs(x);
    // tanh |x| = (1 - e^-2|x|) / (1 + e^-2|x|); near zero the difference would lose its digits, so a series there.
    let e = exp(s, s.mul(magnitude, s.splat(-2.0)));
    let far = s.div(s.sub(s.splat(1.0), e), s.add(s.splat(1.0), e));
    let square = s.mul(x, x);
    let series = polynomial(s, square, [2.186_949e-2, -5.396_825_4e-2, 1.333_333_4e-1, -3.333_333_4e-1, 1.0]);
    let near = s.mul(magnitude, series);
    s.with_sign(s.if_less(magnitude, s.splat(0.25), near, far), x)
}

/// `x / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn silu<S: Simd>(s: S, x: S::V) -> S::V {
    let e = exp(s, s.sub(s.splat(0.0), x));
    s.div(x, s.add(s.splat(1.0), e))
}

/// The Gaussian error linear unit in its usual approximation by the hyperbolic tangent.
#[inline(always)]
pub(crate) fn gelu_tanh<S: Simd>(s: S, x: S::V) -> S::V {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    // (1 + tanh u) / 2 is the logistic function of 2 u, which needs no special case near zero.
    let cubic = s.fma(s.mul(x, x), s.splat(0.044_715), s.splat(1.0));
    let u = s.mul(s.mul(x, s.splat(-2.0 * SQRT_2_OVER_PI)), cubic);
    s.div(x, s.add(s.splat(1.0), exp(s, u)))
}

/// The Gaussian error linear unit, `x * (1 + erf(x / √2)) / 2`, absolutely within 4e-7 · (1 + |x|).
#[inline(always)]
pub(crate) fn gelu<S: Simd>(s: S, x: S::V) -> S::V {
    // Abramowitz and Stegun 7.1.26 for the complement, absolutely within 1.5e-7.
    let z = s.mul(s.abs(x), s.splat(std::f32::consts::FRAC_1_SQRT_2));
    let t = s.div(s.splat(1.0), s.fma(z, s.splat(0.327_591_1), s.splat(1.0)));
    let series = polynomial(s, t, [1.061_405_4, -1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6, 0.0]);
    let complement = s.mul(series, exp(s, s.sub(s.splat(0.0), s.mul(z, z))));
    let erf = s.with_sign(s.sub(s.splat(1.0), complement), x);
    s.mul(s.mul(x, s.splat(0.5)), s.add(s.splat(1.0), erf))
}
