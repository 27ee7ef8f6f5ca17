//! Taking codes and scales out of packed groups. The layouts are those of `crate::matrix`.

use std::arch::aarch64::*;

use super::{QUARTER, Scale, Weights};
use crate::matrix::LANES;

/// Bytes of the words of sixteen rows.
const VECTOR: usize = 64;
/// Bytes of sixteen half-precision numbers.
const HALVES: usize = 2 * LANES;

/// Eight vectors. Written out, so that each is a value of its own and not a place in memory.
#[inline(always)]
fn each(vector: impl Fn(usize) -> uint8x16_t) -> [uint8x16_t; 8] {
    [vector(0), vector(1), vector(2), vector(3), vector(4), vector(5), vector(6), vector(7)]
}

macro_rules! simd {
    ($( $(#[$meta:meta])* unsafe fn $name:ident $(<const $c:ident: $ct:ty>)? ($($arg:ident: $type:ty),*) -> $out:ty $body:block )+) => { $(
        $(#[$meta])*
        #[inline(always)]
        unsafe fn $name $(<const $c: $ct>)? ($($arg: $type),*) -> $out {
            // SAFETY: the caller's promise: the pointers lead into a stored block, the machine has NEON.
            unsafe { $body }
        }
    )+ };
}

simd! {
    /// Four half-precision numbers.
    unsafe fn halves(at: *const u8, quarter: usize) -> float32x4_t {
        vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(at.add(quarter * 2 * QUARTER).cast())))
    }

    unsafe fn vector(at: *const u8, index: usize, quarter: usize) -> uint8x16_t {
        vld1q_u8(at.add(index * VECTOR + quarter * VECTOR / 4))
    }

    unsafe fn low(both: uint8x16_t) -> uint8x16_t {
        vandq_u8(both, vdupq_n_u8(0xF))
    }

    unsafe fn high(both: uint8x16_t) -> uint8x16_t {
        vshrq_n_u8::<4>(both)
    }

    /// Codes of formats whose four vectors hold words 0 to 3 in the low, words 4 to 7 in the high half of each byte.
    unsafe fn nibbles(at: *const u8, quarter: usize) -> [uint8x16_t; 8] {
        let (a, b, c, d) =
            (vector(at, 0, quarter), vector(at, 1, quarter), vector(at, 2, quarter), vector(at, 3, quarter));
        [low(a), low(b), low(c), low(d), high(a), high(b), high(c), high(d)]
    }

    /// The code with the bits of `mask` out of `bits`, which are moved to the left, or with less than zero to the right.
    unsafe fn with_bits(code: uint8x16_t, bits: uint8x16_t, left: i8, mask: u8) -> uint8x16_t {
        vbslq_u8(vdupq_n_u8(mask), vshlq_u8(bits, vdupq_n_s8(left)), code)
    }

    /// The same formats with a fifth bit: bit `j` of byte `b` belongs to code `b` of word `j`.
    unsafe fn with_fifth(at: *const u8, bits: *const u8, quarter: usize) -> [uint8x16_t; 8] {
        let (codes, bits) = (nibbles(at, quarter), vector(bits, 0, quarter));
        each(|j| with_bits(codes[j], bits, 4 - j as i8, 16))
    }

    /// Codes of the K formats: the low halves of eight vectors, or the high ones.
    unsafe fn half_bytes(at: *const u8, quarter: usize, upper: bool) -> [uint8x16_t; 8] {
        each(|j| {
            let both = vector(at, j, quarter);
            if upper { high(both) } else { low(both) }
        })
    }

    /// Four bytes, one for each row.
    unsafe fn octets(at: *const u8, position: usize, quarter: usize) -> uint8x8_t {
        let four = at.add(position * LANES + quarter * QUARTER).cast::<u32>().read_unaligned();
        vreinterpret_u8_u32(vdup_n_u32(four))
    }

    /// The first four bytes as numbers.
    unsafe fn number(octets: uint8x8_t) -> float32x4_t {
        vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(octets))))
    }

    /// The first four bytes as numbers with a sign.
    unsafe fn signed_number(octets: uint8x8_t) -> float32x4_t {
        vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(octets)))))
    }

    /// Scales and minima of block `SUB` of Q4_K and Q5_K.
    unsafe fn k_scale<const SUB: usize>(stored: *const u8, quarter: usize) -> Scale {
        let packed = stored.add(2 * HALVES);
        let (scale, min) = if SUB < 4 {
            let six = vdup_n_u8(63);
            (vand_u8(octets(packed, SUB, quarter), six), vand_u8(octets(packed, SUB + 4, quarter), six))
        } else {
            let mixed = octets(packed, SUB + 4, quarter);
            let (low, high) = (octets(packed, SUB - 4, quarter), octets(packed, SUB, quarter));
            // The upper two bits of one below the four of the other: shifted, and those four inserted.
            let four = vdup_n_u8(15);
            (
                vbsl_u8(four, mixed, vshr_n_u8::<2>(vbic_u8(low, vdup_n_u8(63)))),
                vbsl_u8(four, vshr_n_u8::<4>(mixed), vshr_n_u8::<2>(vbic_u8(high, vdup_n_u8(63)))),
            )
        };
        let min_scale = vnegq_f32(halves(stored.add(HALVES), quarter));
        Scale::Min(vmulq_f32(halves(stored, quarter), number(scale)), vmulq_f32(min_scale, number(min)))
    }

    /// As codes with a sign, which those below 128 are already.
    unsafe fn signed(codes: [uint8x16_t; 8]) -> [int8x16_t; 8] {
        let s = |j: usize| vreinterpretq_s8_u8(codes[j]);
        [s(0), s(1), s(2), s(3), s(4), s(5), s(6), s(7)]
    }
}

macro_rules! weights {
    ($name:ident, $subs:literal, $bytes:literal, $words:literal, |$stored:ident, $quarter:ident, $sub:ident| $codes:expr, $scale:expr) => {
        #[allow(non_camel_case_types)]
        pub(super) struct $name;

        impl Weights for $name {
            const SUBS: usize = $subs;
            const BYTES: usize = $bytes * LANES;
            const HALVES: bool = $bytes == 210;
            const WORDS: usize = $words;

            #[inline(always)]
            unsafe fn codes<const $sub: usize>($stored: *const u8, $quarter: usize) -> [int8x16_t; 8] {
                // SAFETY: the caller's promise.
                unsafe { signed($codes) }
            }

            #[inline(always)]
            unsafe fn scale<const $sub: usize>($stored: *const u8, $quarter: usize) -> Scale {
                // SAFETY: the caller's promise.
                unsafe { $scale }
            }
        }
    };
}

weights!(
    Q4_0,
    1,
    18,
    8,
    |stored, quarter, SUB| nibbles(stored.add(HALVES), quarter),
    Scale::Centred(halves(stored, quarter), 2)
);
weights!(
    Q4_1,
    1,
    20,
    8,
    |stored, quarter, SUB| nibbles(stored.add(2 * HALVES), quarter),
    Scale::Min(halves(stored, quarter), halves(stored.add(HALVES), quarter))
);
weights!(
    Q5_0,
    1,
    22,
    8,
    |stored, quarter, SUB| with_fifth(stored.add(HALVES + VECTOR), stored.add(HALVES), quarter),
    Scale::Centred(halves(stored, quarter), 3)
);
weights!(
    Q5_1,
    1,
    24,
    8,
    |stored, quarter, SUB| with_fifth(stored.add(2 * HALVES + VECTOR), stored.add(2 * HALVES), quarter),
    Scale::Min(halves(stored, quarter), halves(stored.add(HALVES), quarter))
);
weights!(
    Q8_0,
    1,
    34,
    2,
    |stored, quarter, SUB| {
        // Offset by 128 where they lie; with a sign here.
        let flip = vdupq_n_u8(128);
        each(|j| veorq_u8(vector(stored.add(HALVES), j, quarter), flip))
    },
    Scale::Plain(halves(stored, quarter))
);
weights!(
    Q4_K,
    8,
    144,
    8,
    |stored, quarter, SUB| half_bytes(stored.add(256 + SUB / 2 * 8 * VECTOR), quarter, SUB % 2 == 1),
    k_scale::<SUB>(stored, quarter)
);
weights!(
    Q5_K,
    8,
    176,
    8,
    |stored, quarter, SUB| {
        let codes = half_bytes(stored.add(768 + SUB / 2 * 8 * VECTOR), quarter, SUB % 2 == 1);
        each(|j| with_bits(codes[j], vector(stored.add(256), j, quarter), 4 - SUB as i8, 16))
    },
    k_scale::<SUB>(stored, quarter)
);
weights!(
    Q6_K,
    8,
    210,
    4,
    |stored, quarter, SUB| {
        let (part, fourth) = (SUB / 4, SUB % 4);
        let from = stored.add(800 + part * 24 * VECTOR + fourth % 2 * 8 * VECTOR);
        let codes = half_bytes(from, quarter, 2 <= fourth);
        let upper = stored.add(288 + part * 24 * VECTOR);
        each(|j| with_bits(codes[j], vector(upper, j, quarter), 4 - 2 * fourth as i8, 0x30))
    },
    {
        let at = |position: usize| {
            let scale = signed_number(octets(stored.add(HALVES), position, quarter));
            vmulq_f32(halves(stored, quarter), scale)
        };
        Scale::Halves(at(2 * SUB), at(2 * SUB + 1))
    }
);
