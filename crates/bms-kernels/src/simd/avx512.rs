//! AVX-512: one register.

use std::arch::x86_64::*;

use super::{HALF, LANES, Simd};

/// The proof that the machine has AVX-512 F, BW, VL, DQ and, with AVX2, F16C.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// # Safety
    /// The machine has the instruction set: [`crate::Isa::Avx512`] is available.
    #[inline(always)]
    pub(crate) unsafe fn new_unchecked() -> Avx512 {
        Avx512(())
    }
}

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

impl Simd for Avx512 {
    type V = __m512;
    const ACCUMULATORS: usize = 24;
    const ROWS: usize = 8;
    const PARTIAL_SUMS: usize = 2;

    operations! {
        fn splat(x: f32) -> __m512 { _mm512_set1_ps(x) }
        fn load(from: &[f32; LANES]) -> __m512 { _mm512_loadu_ps(from.as_ptr()) }
        fn store(to: &mut [f32; LANES], v: __m512) { _mm512_storeu_ps(to.as_mut_ptr(), v) }
        fn load_low(from: &[f32; HALF]) -> __m512 { _mm512_zextps256_ps512(_mm256_loadu_ps(from.as_ptr())) }
        fn load_f16(from: &[u16; LANES]) -> __m512 { _mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())) }
        fn load_low_f16(from: &[u16; HALF]) -> __m512 {
            _mm512_zextps256_ps512(_mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast())))
        }
        fn store_f16(to: &mut [u16; LANES], v: __m512) {
            _mm256_storeu_si256(to.as_mut_ptr().cast(), _mm512_cvtps_ph::<NEAREST>(v))
        }
        fn f16_to_f32(bits: u16) -> f32 { _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits)))) }
        fn f32_to_f16(x: f32) -> u16 {
            _mm_cvtsi128_si32(_mm_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm_set_ss(x))) as u16
        }
        fn load_i8(from: &[i8; LANES]) -> __m512 {
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.as_ptr().cast())))
        }
        fn load_low_i8(from: &[i8; HALF]) -> __m512 {
            _mm512_zextps256_ps512(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.as_ptr().cast()))))
        }
        fn prefetch(at: *const u8) { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
        fn add(a: __m512, b: __m512) -> __m512 { _mm512_add_ps(a, b) }
        fn sub(a: __m512, b: __m512) -> __m512 { _mm512_sub_ps(a, b) }
        fn mul(a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
        fn div(a: __m512, b: __m512) -> __m512 { _mm512_div_ps(a, b) }
        fn fma(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmadd_ps(a, b, c) }
        fn max(a: __m512, b: __m512) -> __m512 { _mm512_max_ps(a, b) }
        fn min(a: __m512, b: __m512) -> __m512 { _mm512_min_ps(a, b) }
        fn abs(a: __m512) -> __m512 { _mm512_abs_ps(a) }
        fn round(a: __m512) -> __m512 { _mm512_roundscale_ps::<NEAREST>(a) }
        fn scale_by_power(a: __m512, n: __m512) -> __m512 { _mm512_scalef_ps(a, n) }
        fn if_less(a: __m512, b: __m512, yes: __m512, no: __m512) -> __m512 {
            _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), no, yes)
        }
        fn with_sign(a: __m512, sign: __m512) -> __m512 {
            let mask = _mm512_set1_ps(-0.0);
            _mm512_or_ps(_mm512_andnot_ps(mask, a), _mm512_and_ps(mask, sign))
        }
        fn sum(a: __m512) -> f32 { _mm512_reduce_add_ps(a) }
        fn largest(a: __m512) -> f32 { _mm512_reduce_max_ps(a) }
        fn largest_magnitude(a: __m512, b: __m512) -> f32 {
            // As whole numbers magnitudes are in order, and what is no number is larger than all.
            let (a, b) = (_mm512_castps_si512(_mm512_abs_ps(a)), _mm512_castps_si512(_mm512_abs_ps(b)));
            f32::from_bits(_mm512_reduce_max_epu32(_mm512_max_epu32(a, b)))
        }
        fn to_i8(a: __m512) -> ([i8; LANES], i32) {
            let whole = _mm512_cvtps_epi32(a);
            let mut codes = [0; LANES];
            _mm_storeu_si128(codes.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(whole));
            (codes, _mm512_reduce_add_epi32(whole))
        }
    }
}
