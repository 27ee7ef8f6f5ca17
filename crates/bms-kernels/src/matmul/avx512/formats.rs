//! Taking codes and scales out of packed groups. The layouts are those of `crate::matrix`.

use std::arch::x86_64::*;

use super::{Kind, Scale, Weights};
use crate::matrix::LANES;

/// Bytes of one vector.
const VECTOR: usize = 64;
/// Bytes of sixteen half-precision numbers.
const HALVES: usize = 2 * LANES;

/// Eight vectors. Written out, so that each is a value of its own and not a place in memory.
#[inline(always)]
fn each(vector: impl Fn(usize) -> __m512i) -> [__m512i; 8] {
    [vector(0), vector(1), vector(2), vector(3), vector(4), vector(5), vector(6), vector(7)]
}

macro_rules! simd {
    ($( $(#[$meta:meta])* unsafe fn $name:ident $(<const $c:ident: $ct:ty>)? ($($arg:ident: $type:ty),*) -> $out:ty $body:block )+) => { $(
        $(#[$meta])*
        #[inline]
        #[allow(unused_unsafe)]
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
        unsafe fn $name $(<const $c: $ct>)? ($($arg: $type),*) -> $out {
            // SAFETY: the caller's promise: the pointers lead into a stored block, the machine has the instructions.
            unsafe { $body }
        }
    )+ };
}

simd! {
    /// Sixteen half-precision numbers.
    unsafe fn halves(at: *const u8) -> __m512 {
        _mm512_cvtph_ps(_mm256_loadu_si256(at.cast()))
    }

    unsafe fn vector(at: *const u8, index: usize) -> __m512i {
        _mm512_loadu_si512(at.add(index * VECTOR).cast())
    }

    /// Codes of formats whose four vectors hold words 0 to 3 in the low, words 4 to 7 in the high half of each byte.
    unsafe fn nibbles(at: *const u8) -> [__m512i; 8] {
        let mask = _mm512_set1_epi8(0xF);
        let (a, b, c, d) = (vector(at, 0), vector(at, 1), vector(at, 2), vector(at, 3));
        let low = |both: __m512i| _mm512_and_si512(both, mask);
        let high = |both: __m512i| _mm512_and_si512(_mm512_srli_epi16::<4>(both), mask);
        [low(a), low(b), low(c), low(d), high(a), high(b), high(c), high(d)]
    }

    /// The same with a fifth bit: bit `j` of byte `b` belongs to code `b` of word `j`.
    unsafe fn with_fifth(codes: [__m512i; 8], bits: __m512i) -> [__m512i; 8] {
        let sixteen = _mm512_set1_epi8(16);
        each(|j| {
            let set = _mm512_test_epi8_mask(bits, _mm512_set1_epi8((1u8 << j) as i8));
            _mm512_mask_add_epi8(codes[j], set, codes[j], sixteen)
        })
    }

    /// Codes of the K formats: the low halves of eight vectors, or the high ones.
    unsafe fn half_bytes(at: *const u8, high: bool) -> [__m512i; 8] {
        let mask = _mm512_set1_epi8(0xF);
        each(|j| {
            let both = vector(at, j);
            _mm512_and_si512(if high { _mm512_srli_epi16::<4>(both) } else { both }, mask)
        })
    }

    /// Sixteen bytes, one for each row.
    unsafe fn octets(at: *const u8, position: usize) -> __m128i {
        _mm_loadu_si128(at.add(position * LANES).cast())
    }

    /// Scales and minima of block `SUB` of Q4_K and Q5_K, without those of the stored block.
    unsafe fn k_scale<const SUB: usize>(stored: *const u8) -> Scale {
        let packed = stored.add(2 * HALVES);
        let (scale, min) = if SUB < 4 {
            let six = _mm_set1_epi8(63);
            (_mm_and_si128(octets(packed, SUB), six), _mm_and_si128(octets(packed, SUB + 4), six))
        } else {
            let (four, two) = (_mm_set1_epi8(15), _mm_set1_epi8(0x30));
            let mixed = octets(packed, SUB + 4);
            let top = |position: usize| _mm_and_si128(_mm_srli_epi16::<2>(octets(packed, position)), two);
            (
                _mm_or_si128(_mm_and_si128(mixed, four), top(SUB - 4)),
                _mm_or_si128(_mm_and_si128(_mm_srli_epi16::<4>(mixed), four), top(SUB)),
            )
        };
        Scale::Min(number(_mm512_cvtepu8_epi32(scale)), number(_mm512_cvtepu8_epi32(min)))
    }

    /// What the scales and the minima of a stored block of Q4_K or Q5_K are multiplied with.
    unsafe fn k_outer(stored: *const u8) -> (__m512, __m512) {
        (halves(stored), _mm512_sub_ps(_mm512_setzero_ps(), halves(stored.add(HALVES))))
    }

    unsafe fn number(integers: __m512i) -> __m512 {
        _mm512_cvtepi32_ps(integers)
    }
}

macro_rules! weights {
    ($name:ident, $subs:literal, $bytes:literal, $kind:expr, |$stored:ident, $sub:ident| $codes:expr, $scale:expr $(, $outer:expr)?) => {
        #[allow(non_camel_case_types)]
        pub(in crate::matmul) struct $name;

        impl Weights for $name {
            const SUBS: usize = $subs;
            const BYTES: usize = $bytes * LANES;
            const KIND: Kind = $kind;

            #[inline]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
            unsafe fn codes<const $sub: usize>($stored: *const u8) -> [__m512i; 8] {
                // SAFETY: the caller's promise.
                unsafe { $codes }
            }

            #[inline]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
            unsafe fn scale<const $sub: usize>($stored: *const u8) -> Scale {
                // SAFETY: the caller's promise.
                unsafe { $scale }
            }

            $(
                #[inline]
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
                unsafe fn outer($stored: *const u8) -> (__m512, __m512) {
                    // SAFETY: the caller's promise.
                    unsafe { $outer }
                }
            )?
        }
    };
}

weights!(
    Q4_0,
    1,
    18,
    Kind::Centred { zero: 8 },
    |stored, SUB| nibbles(stored.add(HALVES)),
    Scale::Centred(halves(stored), 2)
);
weights!(
    Q4_1,
    1,
    20,
    Kind::Min,
    |stored, SUB| nibbles(stored.add(2 * HALVES)),
    Scale::Min(halves(stored), halves(stored.add(HALVES)))
);
weights!(
    Q5_0,
    1,
    22,
    Kind::Centred { zero: 16 },
    |stored, SUB| with_fifth(nibbles(stored.add(HALVES + VECTOR)), vector(stored.add(HALVES), 0)),
    Scale::Centred(halves(stored), 3)
);
weights!(
    Q5_1,
    1,
    24,
    Kind::Min,
    |stored, SUB| with_fifth(nibbles(stored.add(2 * HALVES + VECTOR)), vector(stored.add(2 * HALVES), 0)),
    Scale::Min(halves(stored), halves(stored.add(HALVES)))
);
weights!(
    Q8_0,
    1,
    34,
    Kind::Centred { zero: 128 },
    |stored, SUB| each(|j| vector(stored.add(HALVES), j)),
    Scale::Centred(halves(stored), 4)
);
weights!(
    Q4_K,
    8,
    144,
    Kind::Min,
    |stored, SUB| {
        // The codes of odd blocks stay where they are, as sixteenfold ones.
        let mask = _mm512_set1_epi8(if SUB % 2 == 1 { 0xF0_u8 as i8 } else { 0xF });
        each(|j| _mm512_and_si512(vector(stored.add(256 + SUB / 2 * 8 * VECTOR), j), mask))
    },
    match (k_scale::<SUB>(stored), SUB % 2) {
        (Scale::Min(scale, min), 1) => Scale::Min(_mm512_mul_ps(scale, _mm512_set1_ps(1.0 / 16.0)), min),
        (scale, _) => scale,
    },
    k_outer(stored)
);
weights!(
    Q5_K,
    8,
    176,
    Kind::Min,
    |stored, SUB| {
        let codes = half_bytes(stored.add(768 + SUB / 2 * 8 * VECTOR), SUB % 2 == 1);
        let (bit, sixteen) = (_mm512_set1_epi8((1u8 << SUB) as i8), _mm512_set1_epi8(16));
        each(|j| {
            let set = _mm512_test_epi8_mask(vector(stored.add(256), j), bit);
            _mm512_mask_add_epi8(codes[j], set, codes[j], sixteen)
        })
    },
    k_scale::<SUB>(stored),
    k_outer(stored)
);
weights!(
    Q6_K,
    8,
    210,
    Kind::Halves,
    |stored, SUB| {
        let (half, quarter) = (SUB / 4, SUB % 4);
        let codes = half_bytes(stored.add(800 + half * 24 * VECTOR + quarter % 2 * 8 * VECTOR), 2 <= quarter);
        let high = stored.add(288 + half * 24 * VECTOR);
        let mask = _mm512_set1_epi8(0x30);
        each(|j| {
            let high = vector(high, j);
            let moved = match quarter {
                0 => _mm512_slli_epi16::<4>(high),
                1 => _mm512_slli_epi16::<2>(high),
                2 => high,
                _ => _mm512_srli_epi16::<2>(high),
            };
            _mm512_or_si512(codes[j], _mm512_and_si512(moved, mask))
        })
    },
    {
        let at = |position: usize| number(_mm512_cvtepi8_epi32(octets(stored.add(HALVES), position)));
        Scale::Halves(at(2 * SUB), at(2 * SUB + 1))
    },
    (halves(stored), _mm512_setzero_ps())
);
