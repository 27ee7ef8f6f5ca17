//! NEON: four registers.

use std::arch::aarch64::*;
use std::arch::asm;

use super::{HALF, LANES, Simd};

/// The proof that the machine has NEON. Conversions of half precision are part of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neon(());

impl Neon {
    /// # Safety
    /// The machine has the instruction set: [`crate::Isa::Neon`] is available.
    #[inline(always)]
    pub(crate) unsafe fn new_unchecked() -> Neon {
        Neon(())
    }
}

/// Four numbers after four.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quad(float32x4_t, float32x4_t, float32x4_t, float32x4_t);

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

/// An operation on each of the four registers.
macro_rules! each {
    (|$($v:ident),+| $body:expr) => {{
        let first = { $(let $v = $v.0;)+ $body };
        let second = { $(let $v = $v.1;)+ $body };
        let third = { $(let $v = $v.2;)+ $body };
        let fourth = { $(let $v = $v.3;)+ $body };
        Quad(first, second, third, fourth)
    }};
}

/// Four numbers of half precision.
#[inline(always)]
unsafe fn wide(halves: uint16x4_t) -> float32x4_t {
    // SAFETY: the caller proves that the machine has the instructions.
    unsafe { vcvt_f32_f16(vreinterpret_f16_u16(halves)) }
}

/// Four numbers in half precision.
#[inline(always)]
unsafe fn narrow(v: float32x4_t) -> uint16x4_t {
    // SAFETY: the caller proves that the machine has the instructions.
    unsafe { vreinterpret_u16_f16(vcvt_f16_f32(v)) }
}

/// Eight integers as numbers.
#[inline(always)]
unsafe fn numbers(bytes: int8x8_t) -> (float32x4_t, float32x4_t) {
    // SAFETY: the caller proves that the machine has the instructions.
    unsafe {
        let words = vmovl_s8(bytes);
        (vcvtq_f32_s32(vmovl_s16(vget_low_s16(words))), vcvtq_f32_s32(vmovl_high_s16(words)))
    }
}

impl Simd for Neon {
    type V = Quad;
    /// Of eight vectors in the 32 registers; the others hold operands.
    const ACCUMULATORS: usize = 6;
    const ROWS: usize = 6;
    const PARTIAL_SUMS: usize = 1;

    operations! {
        fn splat(x: f32) -> Quad { let v = vdupq_n_f32(x); Quad(v, v, v, v) }
        fn load(from: &[f32; LANES]) -> Quad {
            let at = from.as_ptr();
            Quad(vld1q_f32(at), vld1q_f32(at.add(4)), vld1q_f32(at.add(8)), vld1q_f32(at.add(12)))
        }
        fn store(to: &mut [f32; LANES], v: Quad) {
            let at = to.as_mut_ptr();
            vst1q_f32(at, v.0);
            vst1q_f32(at.add(4), v.1);
            vst1q_f32(at.add(8), v.2);
            vst1q_f32(at.add(12), v.3)
        }
        fn load_low(from: &[f32; HALF]) -> Quad {
            let (at, zero) = (from.as_ptr(), vdupq_n_f32(0.0));
            Quad(vld1q_f32(at), vld1q_f32(at.add(4)), zero, zero)
        }
        fn load_f16(from: &[u16; LANES]) -> Quad {
            let at = from.as_ptr();
            let (low, high) = (vld1q_u16(at), vld1q_u16(at.add(HALF)));
            Quad(
                wide(vget_low_u16(low)),
                wide(vget_high_u16(low)),
                wide(vget_low_u16(high)),
                wide(vget_high_u16(high)),
            )
        }
        fn load_low_f16(from: &[u16; HALF]) -> Quad {
            let (low, zero) = (vld1q_u16(from.as_ptr()), vdupq_n_f32(0.0));
            Quad(wide(vget_low_u16(low)), wide(vget_high_u16(low)), zero, zero)
        }
        fn store_f16(to: &mut [u16; LANES], v: Quad) {
            let at = to.as_mut_ptr();
            vst1q_u16(at, vcombine_u16(narrow(v.0), narrow(v.1)));
            vst1q_u16(at.add(HALF), vcombine_u16(narrow(v.2), narrow(v.3)))
        }
        fn f16_to_f32(bits: u16) -> f32 { vgetq_lane_f32::<0>(wide(vdup_n_u16(bits))) }
        fn f32_to_f16(x: f32) -> u16 { vget_lane_u16::<0>(narrow(vdupq_n_f32(x))) }
        fn load_i8(from: &[i8; LANES]) -> Quad {
            let bytes = vld1q_s8(from.as_ptr());
            let ((a, b), (c, d)) = (numbers(vget_low_s8(bytes)), numbers(vget_high_s8(bytes)));
            Quad(a, b, c, d)
        }
        fn load_low_i8(from: &[i8; HALF]) -> Quad {
            let ((a, b), zero) = (numbers(vld1_s8(from.as_ptr())), vdupq_n_f32(0.0));
            Quad(a, b, zero, zero)
        }
        fn prefetch(at: *const u8) {
            // A hint for the second-level cache: it reads nothing and faults at no address, so that is a number here.
            asm!("prfm pldl2keep, [{0}]", in(reg) at as usize, options(nomem, nostack, preserves_flags))
        }
        fn add(a: Quad, b: Quad) -> Quad { each!(|a, b| vaddq_f32(a, b)) }
        fn sub(a: Quad, b: Quad) -> Quad { each!(|a, b| vsubq_f32(a, b)) }
        fn mul(a: Quad, b: Quad) -> Quad { each!(|a, b| vmulq_f32(a, b)) }
        fn div(a: Quad, b: Quad) -> Quad { each!(|a, b| vdivq_f32(a, b)) }
        fn fma(a: Quad, b: Quad, c: Quad) -> Quad { each!(|a, b, c| vfmaq_f32(c, a, b)) }
        // The machine's own maximum of a number and none is none, or the number: not always the second one.
        fn max(a: Quad, b: Quad) -> Quad { each!(|a, b| vbslq_f32(vcgtq_f32(a, b), a, b)) }
        fn min(a: Quad, b: Quad) -> Quad { each!(|a, b| vbslq_f32(vcltq_f32(a, b), a, b)) }
        fn abs(a: Quad) -> Quad { each!(|a| vabsq_f32(a)) }
        fn round(a: Quad) -> Quad { each!(|a| vrndnq_f32(a)) }
        fn scale_by_power(a: Quad, n: Quad) -> Quad {
            let bias = vdupq_n_s32(127);
            each!(|a, n| {
                let power = vshlq_n_s32::<23>(vaddq_s32(vcvtq_s32_f32(n), bias));
                vmulq_f32(a, vreinterpretq_f32_s32(power))
            })
        }
        fn if_less(a: Quad, b: Quad, yes: Quad, no: Quad) -> Quad {
            each!(|a, b, yes, no| vbslq_f32(vcltq_f32(a, b), yes, no))
        }
        fn with_sign(a: Quad, sign: Quad) -> Quad {
            let mask = vdupq_n_u32(0x8000_0000);
            each!(|a, sign| vbslq_f32(mask, sign, a))
        }
        // In the order of the other instruction sets: halves of what is left, four times.
        fn sum(a: Quad) -> f32 {
            let four = vaddq_f32(vaddq_f32(a.0, a.2), vaddq_f32(a.1, a.3));
            vpadds_f32(vadd_f32(vget_low_f32(four), vget_high_f32(four)))
        }
        // Passes over lanes that are no number.
        fn largest(a: Quad) -> f32 { vmaxnmvq_f32(vmaxnmq_f32(vmaxnmq_f32(a.0, a.1), vmaxnmq_f32(a.2, a.3))) }
        fn largest_magnitude(a: Quad, b: Quad) -> f32 {
            // As whole numbers magnitudes are in order, and what is no number is larger than all.
            let bits = |x: float32x4_t| vreinterpretq_u32_f32(vabsq_f32(x));
            let of = |v: Quad| {
                vmaxq_u32(vmaxq_u32(bits(v.0), bits(v.1)), vmaxq_u32(bits(v.2), bits(v.3)))
            };
            f32::from_bits(vmaxvq_u32(vmaxq_u32(of(a), of(b))))
        }
        fn to_i8(a: Quad) -> ([i8; LANES], i32) {
            let (first, second) = (vcvtnq_s32_f32(a.0), vcvtnq_s32_f32(a.1));
            let (third, fourth) = (vcvtnq_s32_f32(a.2), vcvtnq_s32_f32(a.3));
            let low = vcombine_s16(vqmovn_s32(first), vqmovn_s32(second));
            let high = vcombine_s16(vqmovn_s32(third), vqmovn_s32(fourth));
            let mut codes = [0; LANES];
            vst1q_s8(codes.as_mut_ptr(), vcombine_s8(vqmovn_s16(low), vqmovn_s16(high)));
            (codes, vaddvq_s32(vaddq_s32(vaddq_s32(first, second), vaddq_s32(third, fourth))))
        }
    }
}
