//! AVX2 with FMA and F16C: two registers.

use std::arch::x86_64::*;

use super::{HALF, LANES, Simd};

/// The proof that the machine has AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// # Safety
    /// The machine has the instruction set: [`crate::Isa::Avx2`] is available.
    #[inline(always)]
    pub(crate) unsafe fn new_unchecked() -> Avx2 {
        Avx2(())
    }
}

/// The lower eight numbers and the upper ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair(__m256, __m256);

/// Operations of the instruction set, which `self` proves to be there.
macro_rules! operations {
    ($( fn $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)? $body:block )+) => { $(
        #[inline(always)]
        fn $name(self, $($arg: $type),*) $(-> $result)? {
            // SAFETY: `self` exists, so the machine has the instructions; arrays have the length of their access, and no
            // access needs more than their alignment.
            unsafe { $body }
        }
    )+ };
}

const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

impl Simd for Avx2 {
    type V = Pair;
    const ACCUMULATORS: usize = 6;
    const ROWS: usize = 6;
    const PARTIAL_SUMS: usize = 1;

    operations! {
        fn splat(x: f32) -> Pair { Pair(_mm256_set1_ps(x), _mm256_set1_ps(x)) }
        fn load(from: &[f32; LANES]) -> Pair {
            Pair(_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(HALF)))
        }
        fn store(to: &mut [f32; LANES], v: Pair) {
            _mm256_storeu_ps(to.as_mut_ptr(), v.0);
            _mm256_storeu_ps(to.as_mut_ptr().add(HALF), v.1)
        }
        fn load_low(from: &[f32; HALF]) -> Pair { Pair(_mm256_loadu_ps(from.as_ptr()), _mm256_setzero_ps()) }
        fn load_f16(from: &[u16; LANES]) -> Pair {
            Pair(
                _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast())),
                _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().add(HALF).cast())),
            )
        }
        fn load_low_f16(from: &[u16; HALF]) -> Pair {
            Pair(_mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast())), _mm256_setzero_ps())
        }
        fn store_f16(to: &mut [u16; LANES], v: Pair) {
            _mm_storeu_si128(to.as_mut_ptr().cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v.0));
            _mm_storeu_si128(to.as_mut_ptr().add(HALF).cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v.1))
        }
        fn f16_to_f32(bits: u16) -> f32 { _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits)))) }
        fn f32_to_f16(x: f32) -> u16 {
            _mm_cvtsi128_si32(_mm_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm_set_ss(x))) as u16
        }
        fn load_i8(from: &[i8; LANES]) -> Pair {
            Pair(
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.as_ptr().cast()))),
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.as_ptr().add(HALF).cast()))),
            )
        }
        fn load_low_i8(from: &[i8; HALF]) -> Pair {
            Pair(
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.as_ptr().cast()))),
                _mm256_setzero_ps(),
            )
        }
        fn prefetch(at: *const u8) { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
        fn add(a: Pair, b: Pair) -> Pair { Pair(_mm256_add_ps(a.0, b.0), _mm256_add_ps(a.1, b.1)) }
        fn sub(a: Pair, b: Pair) -> Pair { Pair(_mm256_sub_ps(a.0, b.0), _mm256_sub_ps(a.1, b.1)) }
        fn mul(a: Pair, b: Pair) -> Pair { Pair(_mm256_mul_ps(a.0, b.0), _mm256_mul_ps(a.1, b.1)) }
        fn div(a: Pair, b: Pair) -> Pair { Pair(_mm256_div_ps(a.0, b.0), _mm256_div_ps(a.1, b.1)) }
        fn fma(a: Pair, b: Pair, c: Pair) -> Pair {
            Pair(_mm256_fmadd_ps(a.0, b.0, c.0), _mm256_fmadd_ps(a.1, b.1, c.1))
        }
        fn max(a: Pair, b: Pair) -> Pair { Pair(_mm256_max_ps(a.0, b.0), _mm256_max_ps(a.1, b.1)) }
        fn min(a: Pair, b: Pair) -> Pair { Pair(_mm256_min_ps(a.0, b.0), _mm256_min_ps(a.1, b.1)) }
        fn abs(a: Pair) -> Pair {
            let sign = _mm256_set1_ps(-0.0);
            Pair(_mm256_andnot_ps(sign, a.0), _mm256_andnot_ps(sign, a.1))
        }
        fn round(a: Pair) -> Pair { Pair(_mm256_round_ps::<NEAREST>(a.0), _mm256_round_ps::<NEAREST>(a.1)) }
        fn scale_by_power(a: Pair, n: Pair) -> Pair {
            let bias = _mm256_set1_epi32(127);
            let power0 = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvtps_epi32(n.0), bias));
            let power1 = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvtps_epi32(n.1), bias));
            Pair(_mm256_mul_ps(a.0, _mm256_castsi256_ps(power0)), _mm256_mul_ps(a.1, _mm256_castsi256_ps(power1)))
        }
        fn if_less(a: Pair, b: Pair, yes: Pair, no: Pair) -> Pair {
            Pair(
                _mm256_blendv_ps(no.0, yes.0, _mm256_cmp_ps::<_CMP_LT_OQ>(a.0, b.0)),
                _mm256_blendv_ps(no.1, yes.1, _mm256_cmp_ps::<_CMP_LT_OQ>(a.1, b.1)),
            )
        }
        fn with_sign(a: Pair, sign: Pair) -> Pair {
            let mask = _mm256_set1_ps(-0.0);
            Pair(
                _mm256_or_ps(_mm256_andnot_ps(mask, a.0), _mm256_and_ps(mask, sign.0)),
                _mm256_or_ps(_mm256_andnot_ps(mask, a.1), _mm256_and_ps(mask, sign.1)),
            )
        }
        fn sum(a: Pair) -> f32 {
            let eight = _mm256_add_ps(a.0, a.1);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
        fn largest(a: Pair) -> f32 {
            let eight = _mm256_max_ps(a.0, a.1);
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
        fn largest_magnitude(a: Pair, b: Pair) -> f32 {
            // As whole numbers magnitudes are in order, and what is no number is larger than all.
            let bits = |x: __m256| _mm256_castps_si256(_mm256_andnot_ps(_mm256_set1_ps(-0.0), x));
            let of_b = _mm256_max_epu32(bits(b.0), bits(b.1));
            let eight = _mm256_max_epu32(_mm256_max_epu32(bits(a.0), bits(a.1)), of_b);
            let four = _mm_max_epu32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256::<1>(eight));
            let two = _mm_max_epu32(four, _mm_unpackhi_epi64(four, four));
            f32::from_bits(_mm_cvtsi128_si32(_mm_max_epu32(two, _mm_shuffle_epi32::<1>(two))) as u32)
        }
        fn to_i8(a: Pair) -> ([i8; LANES], i32) {
            let (low, high) = (_mm256_cvtps_epi32(a.0), _mm256_cvtps_epi32(a.1));
            let quarters = |x: __m256i| (_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
            let ((a, b), (c, d)) = (quarters(low), quarters(high));
            let mut codes = [0; LANES];
            let packed = _mm_packs_epi16(_mm_packs_epi32(a, b), _mm_packs_epi32(c, d));
            _mm_storeu_si128(codes.as_mut_ptr().cast(), packed);
            let four = _mm_add_epi32(_mm_add_epi32(a, b), _mm_add_epi32(c, d));
            let two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
            (codes, _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<1>(two))))
        }
    }
}
