//! Plain Rust: what every machine has, and the reference of the others.

use half::f16;

use super::{HALF, LANES, Simd};

/// No instruction set beyond the compiler's baseline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scalar;

type V = [f32; LANES];

#[inline(always)]
fn zip(a: V, b: V, f: impl Fn(f32, f32) -> f32) -> V {
    let mut out = a;
    for i in 0..LANES {
        out[i] = f(a[i], b[i]);
    }
    out
}

#[inline(always)]
fn low<T: Copy>(from: &[T; HALF], f: impl Fn(T) -> f32) -> V {
    let mut out = [0.0; LANES];
    for i in 0..HALF {
        out[i] = f(from[i]);
    }
    out
}

impl Simd for Scalar {
    type V = V;
    const ACCUMULATORS: usize = 2;
    const ROWS: usize = 2;
    const PARTIAL_SUMS: usize = 2;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        [x; LANES]
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> V {
        *from
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; LANES], v: V) {
        *to = v;
    }

    #[inline(always)]
    fn load_low(self, from: &[f32; HALF]) -> V {
        low(from, |x| x)
    }

    #[inline(always)]
    fn load_f16(self, from: &[u16; LANES]) -> V {
        from.map(|bits| f16::from_bits(bits).to_f32())
    }

    #[inline(always)]
    fn load_low_f16(self, from: &[u16; HALF]) -> V {
        low(from, |bits| f16::from_bits(bits).to_f32())
    }

    #[inline(always)]
    fn store_f16(self, to: &mut [u16; LANES], v: V) {
        *to = v.map(|x| f16::from_f32(x).to_bits());
    }

    #[inline(always)]
    fn f16_to_f32(self, bits: u16) -> f32 {
        f16::from_bits(bits).to_f32()
    }

    #[inline(always)]
    fn f32_to_f16(self, x: f32) -> u16 {
        f16::from_f32(x).to_bits()
    }

    #[inline(always)]
    fn load_i8(self, from: &[i8; LANES]) -> V {
        from.map(f32::from)
    }

    #[inline(always)]
    fn load_low_i8(self, from: &[i8; HALF]) -> V {
        low(from, f32::from)
    }

    #[inline(always)]
    fn prefetch(self, _: *const u8) {}

    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a / b)
    }

    #[inline(always)]
    fn fma(self, a: V, b: V, c: V) -> V {
        // `mul_add` would call a library function for want of the instruction.
        self.add(self.mul(a, b), c)
    }

    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        zip(a, b, |a, b| if b < a { a } else { b })
    }

    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        zip(a, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn abs(self, a: V) -> V {
        a.map(f32::abs)
    }

    #[inline(always)]
    fn round(self, a: V) -> V {
        // In [2^23, 2^24) the unit of the last place is one, so that adding 1.5 * 2^23 rounds.
        a.map(|x| x + 12_582_912.0 - 12_582_912.0)
    }

    #[inline(always)]
    fn scale_by_power(self, a: V, n: V) -> V {
        zip(a, n, |a, n| a * f32::from_bits((((n as i32).wrapping_add(127)) as u32) << 23))
    }

    #[inline(always)]
    fn if_less(self, a: V, b: V, yes: V, no: V) -> V {
        let mut out = no;
        for i in 0..LANES {
            out[i] = if a[i] < b[i] { yes[i] } else { no[i] };
        }
        out
    }

    #[inline(always)]
    fn with_sign(self, a: V, sign: V) -> V {
        zip(a, sign, f32::copysign)
    }

    #[inline(always)]
    fn sum(self, a: V) -> f32 {
        let mut sums = a;
        let mut width = HALF;
        while 0 < width {
            for i in 0..width {
                sums[i] += sums[i + width];
            }
            width /= 2;
        }
        sums[0]
    }

    #[inline(always)]
    fn largest_magnitude(self, a: V, b: V) -> f32 {
        // As whole numbers magnitudes are in order, and what is no number is larger than all.
        f32::from_bits(a.iter().chain(&b).fold(0, |most, x| most.max(x.abs().to_bits())))
    }

    #[inline(always)]
    fn to_i8(self, a: V) -> ([i8; LANES], i32) {
        let codes = a.map(|x| x.round_ties_even() as i8);
        (codes, codes.iter().map(|code| i32::from(*code)).sum())
    }

    #[inline(always)]
    fn largest(self, a: V) -> f32 {
        a.iter().fold(f32::NEG_INFINITY, |m, &x| if m < x { x } else { m })
    }
}
