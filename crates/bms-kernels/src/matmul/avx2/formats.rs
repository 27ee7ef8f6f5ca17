//! Taking codes and scales out of packed groups. The layouts are those of `crate::matrix`.

use std::arch::x86_64::*;

use super::{Codes, HALF, Scale, Weights};
use crate::matrix::LANES;

/// Bytes of one packed vector of words, sixteen rows.
const VECTOR: usize = 64;
/// Bytes of sixteen half-precision numbers.
const HALVES: usize = 2 * LANES;

/// Eight vectors. Written out, so that each is a value of its own and not a place in memory.
#[inline(always)]
fn each(vector: impl Fn(usize) -> __m256i) -> [__m256i; 8] {
    [vector(0), vector(1), vector(2), vector(3), vector(4), vector(5), vector(6), vector(7)]
}

macro_rules! simd {
    ($( $(#[$meta:meta])* unsafe fn $name:ident $(<const $c:ident: $ct:ty>)? ($($arg:ident: $type:ty),*) -> $out:ty $body:block )+) => { $(
        $(#[$meta])*
        #[inline]
        #[allow(unused_unsafe)]
        #[target_feature(enable = "avx2,fma,f16c")]
        unsafe fn $name $(<const $c: $ct>)? ($($arg: $type),*) -> $out {
            // SAFETY: the caller's promise: the pointers lead into a stored block, the machine has the instructions.
            unsafe { $body }
        }
    )+ };
}

simd! {
    /// Eight half-precision numbers.
    unsafe fn halves(at: *const u8, half: usize) -> __m256 {
        _mm256_cvtph_ps(_mm_loadu_si128(at.add(half * 2 * HALF).cast()))
    }

    unsafe fn vector(at: *const u8, index: usize, half: usize) -> __m256i {
        _mm256_loadu_si256(at.add(index * VECTOR + half * VECTOR / 2).cast())
    }

    /// Codes of formats whose four vectors hold words 0 to 3 in the low, words 4 to 7 in the high half of each byte.
    unsafe fn nibbles(at: *const u8, half: usize) -> [__m256i; 8] {
        let mask = _mm256_set1_epi8(0xF);
        let (a, b, c, d) = (vector(at, 0, half), vector(at, 1, half), vector(at, 2, half), vector(at, 3, half));
        let low = |both: __m256i| _mm256_and_si256(both, mask);
        let high = |both: __m256i| _mm256_and_si256(_mm256_srli_epi16::<4>(both), mask);
        [low(a), low(b), low(c), low(d), high(a), high(b), high(c), high(d)]
    }

    /// The code with a fifth bit where `bits` has all of `bit`.
    unsafe fn fifth(code: __m256i, bits: __m256i, bit: u8) -> __m256i {
        let bit = _mm256_set1_epi8(bit as i8);
        let set = _mm256_cmpeq_epi8(_mm256_and_si256(bits, bit), bit);
        _mm256_or_si256(code, _mm256_and_si256(set, _mm256_set1_epi8(16)))
    }

    /// The same formats with a fifth bit: bit `j` of byte `b` belongs to code `b` of word `j`.
    unsafe fn with_fifth(at: *const u8, bits: *const u8, half: usize) -> [__m256i; 8] {
        let (codes, bits) = (nibbles(at, half), vector(bits, 0, half));
        each(|j| fifth(codes[j], bits, 1 << j))
    }

    /// Codes of the K formats: the low halves of eight vectors, or the high ones.
    unsafe fn half_bytes(at: *const u8, half: usize, high: bool) -> [__m256i; 8] {
        let mask = _mm256_set1_epi8(0xF);
        each(|j| {
            let both = vector(at, j, half);
            _mm256_and_si256(if high { _mm256_srli_epi16::<4>(both) } else { both }, mask)
        })
    }

    /// Eight bytes, one for each row.
    unsafe fn octets(at: *const u8, position: usize, half: usize) -> __m128i {
        _mm_loadl_epi64(at.add(position * LANES + half * HALF).cast())
    }

    /// Scales and minima of block `SUB` of Q4_K and Q5_K.
    unsafe fn k_scale<const SUB: usize>(stored: *const u8, half: usize) -> Scale {
        let packed = stored.add(2 * HALVES);
        let octets = |position: usize| octets(packed, position, half);
        let (scale, min) = if SUB < 4 {
            let six = _mm_set1_epi8(63);
            (_mm_and_si128(octets(SUB), six), _mm_and_si128(octets(SUB + 4), six))
        } else {
            let (four, two) = (_mm_set1_epi8(15), _mm_set1_epi8(0x30));
            let mixed = octets(SUB + 4);
            let top = |position: usize| _mm_and_si128(_mm_srli_epi16::<2>(octets(position)), two);
            (
                _mm_or_si128(_mm_and_si128(mixed, four), top(SUB - 4)),
                _mm_or_si128(_mm_and_si128(_mm_srli_epi16::<4>(mixed), four), top(SUB)),
            )
        };
        let number = |bytes: __m128i| _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
        let min_scale = _mm256_sub_ps(_mm256_setzero_ps(), halves(stored.add(HALVES), half));
        Scale::Min(_mm256_mul_ps(halves(stored, half), number(scale)), _mm256_mul_ps(min_scale, number(min)))
    }

    /// `scale · (code − zero)`.
    unsafe fn centred(stored: *const u8, half: usize, zero: f32) -> Scale {
        let scale = halves(stored, half);
        Scale::Min(scale, _mm256_mul_ps(scale, _mm256_set1_ps(-zero)))
    }
}

macro_rules! weights {
    ($name:ident, $subs:literal, $bytes:literal, $codes:ident, |$stored:ident, $half:ident, $sub:ident| $take:expr, $scale:expr) => {
        #[allow(non_camel_case_types)]
        pub(super) struct $name;

        impl Weights for $name {
            const SUBS: usize = $subs;
            const BYTES: usize = $bytes * LANES;
            const CODES: Codes = Codes::$codes;

            #[inline]
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn codes<const $sub: usize>($stored: *const u8, $half: usize) -> [__m256i; 8] {
                // SAFETY: the caller's promise.
                unsafe { $take }
            }

            #[inline]
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn scale<const $sub: usize>($stored: *const u8, $half: usize) -> Scale {
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
    Four,
    |stored, half, SUB| nibbles(stored.add(HALVES), half),
    centred(stored, half, 8.0)
);
weights!(
    Q4_1,
    1,
    20,
    Four,
    |stored, half, SUB| nibbles(stored.add(2 * HALVES), half),
    Scale::Min(halves(stored, half), halves(stored.add(HALVES), half))
);
weights!(
    Q5_0,
    1,
    22,
    Five,
    |stored, half, SUB| with_fifth(stored.add(HALVES + VECTOR), stored.add(HALVES), half),
    centred(stored, half, 16.0)
);
weights!(
    Q5_1,
    1,
    24,
    Five,
    |stored, half, SUB| with_fifth(stored.add(2 * HALVES + VECTOR), stored.add(2 * HALVES), half),
    Scale::Min(halves(stored, half), halves(stored.add(HALVES), half))
);
weights!(
    Q8_0,
    1,
    34,
    SignedEight,
    |stored, half, SUB| {
        let flip = _mm256_set1_epi8(-128);
        each(|j| _mm256_xor_si256(vector(stored.add(HALVES), j, half), flip))
    },
    Scale::Plain(halves(stored, half))
);
weights!(
    Q4_K,
    8,
    144,
    Four,
    |stored, half, SUB| half_bytes(stored.add(256 + SUB / 2 * 8 * VECTOR), half, SUB % 2 == 1),
    k_scale::<SUB>(stored, half)
);
weights!(
    Q5_K,
    8,
    176,
    Five,
    |stored, half, SUB| {
        let codes = half_bytes(stored.add(768 + SUB / 2 * 8 * VECTOR), half, SUB % 2 == 1);
        each(|j| fifth(codes[j], vector(stored.add(256), j, half), 1 << SUB))
    },
    k_scale::<SUB>(stored, half)
);
weights!(
    Q6_K,
    8,
    210,
    SignedSix,
    |stored, half, SUB| {
        let (part, quarter) = (SUB / 4, SUB % 4);
        let codes =
            half_bytes(stored.add(800 + part * 24 * VECTOR + quarter % 2 * 8 * VECTOR), half, 2 <= quarter);
        let (mask, zero) = (_mm256_set1_epi8(0x30), _mm256_set1_epi8(32));
        each(|j| {
            let high = vector(stored.add(288 + part * 24 * VECTOR), j, half);
            let moved = match quarter {
                0 => _mm256_slli_epi16::<4>(high),
                1 => _mm256_slli_epi16::<2>(high),
                2 => high,
                _ => _mm256_srli_epi16::<2>(high),
            };
            _mm256_sub_epi8(_mm256_or_si256(codes[j], _mm256_and_si256(moved, mask)), zero)
        })
    },
    {
        let number = |position: usize| {
            let scale = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(octets(stored.add(HALVES), position, half)));
            _mm256_mul_ps(halves(stored, half), scale)
        };
        Scale::Halves(number(2 * SUB), number(2 * SUB + 1))
    }
);
