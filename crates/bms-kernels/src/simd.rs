//! One vector of sixteen numbers, on every instruction set.
//!
//! A kernel is written once, over [`Simd`], as functions that are always inlined; [`kernel!`] compiles it for every
//! instruction set and calls the one it is told. The value of type [`Simd`] is the proof that the machine has the
//! instruction set, which is why the operations are safe.

mod math;
mod scalar;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
pub(crate) use math::{exp, exp2_of_negative, gelu, gelu_tanh, silu, tanh};
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
pub(crate) use scalar::Scalar;

/// Numbers of one vector.
pub(crate) const LANES: usize = 16;
/// Numbers of half a vector.
pub(crate) const HALF: usize = LANES / 2;

/// An instruction set the machine has.
pub(crate) trait Simd: Copy {
    /// Sixteen numbers.
    type V: Copy;

    /// Accumulators of one vector that a kernel may hold without running out of registers.
    const ACCUMULATORS: usize;
    /// Rows that a kernel with one vector for each works on at a time: 2, 4, 6 or 8.
    const ROWS: usize;
    /// Sums that a product of attention is divided into, 1 or 2, to have more additions under way. The same for any
    /// number of rows up to `ROWS`, as they all fit into `ACCUMULATORS` or there is but one.
    const PARTIAL_SUMS: usize;

    fn splat(self, x: f32) -> Self::V;
    fn load(self, from: &[f32; LANES]) -> Self::V;
    fn store(self, to: &mut [f32; LANES], v: Self::V);
    /// Eight numbers, and zeros above.
    fn load_low(self, from: &[f32; HALF]) -> Self::V;
    fn load_f16(self, from: &[u16; LANES]) -> Self::V;
    fn load_low_f16(self, from: &[u16; HALF]) -> Self::V;
    /// Rounded to nearest, halves to even; too large numbers become infinite.
    fn store_f16(self, to: &mut [u16; LANES], v: Self::V);
    /// One number of half precision.
    fn f16_to_f32(self, bits: u16) -> f32;
    /// Rounded to nearest, halves to even.
    fn f32_to_f16(self, x: f32) -> u16;
    fn load_i8(self, from: &[i8; LANES]) -> Self::V;
    fn load_low_i8(self, from: &[i8; HALF]) -> Self::V;

    /// Tells the machine that what stands there will be read soon. Any address will do.
    fn prefetch(self, at: *const u8);

    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`; rounded once where the machine can.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger one; `b` when either is no number.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The smaller one; `b` when either is no number.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    fn abs(self, a: Self::V) -> Self::V;
    /// To the nearest whole number, halves to even; for magnitudes below 2^22.
    fn round(self, a: Self::V) -> Self::V;
    /// `a * 2^n` for whole `n` from -126 to 127.
    fn scale_by_power(self, a: Self::V, n: Self::V) -> Self::V;
    /// Lane by lane `yes` where `a < b`, else `no`.
    fn if_less(self, a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V;
    /// The magnitude of `a` with the sign of `sign`.
    fn with_sign(self, a: Self::V, sign: Self::V) -> Self::V;

    /// The sum of all lanes.
    fn sum(self, a: Self::V) -> f32;
    /// The largest lane; lanes that are no number may be passed over.
    fn largest(self, a: Self::V) -> f32;
    /// The largest magnitude of all lanes of two vectors; no number when one of them is none.
    fn largest_magnitude(self, a: Self::V, b: Self::V) -> f32;
    /// The nearest whole numbers, halves to even, and their sum; for lanes from -127 to 127, of others anything.
    fn to_i8(self, a: Self::V) -> ([i8; LANES], i32);

    /// The first numbers of a row's last vector, and `fill` above.
    #[inline(always)]
    fn load_part(self, from: &[f32], fill: f32) -> Self::V {
        let mut lanes = [fill; LANES];
        for (lane, &x) in lanes.iter_mut().zip(from) {
            *lane = x;
        }
        self.load(&lanes)
    }

    /// As many lanes as `to` takes.
    #[inline(always)]
    fn store_part(self, to: &mut [f32], v: Self::V) {
        let mut lanes = [0.0; LANES];
        self.store(&mut lanes, v);
        for (x, &lane) in to.iter_mut().zip(&lanes) {
            *x = lane;
        }
    }
}

/// Defines functions that run a kernel, a function over [`Simd`], with the instruction set of their first argument, or
/// with the plain one where the machine lacks it.
macro_rules! kernel {
    ($( $(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? = $body:path; )+) => { $(
        $(#[$meta])*
        $vis fn $name(isa: $crate::Isa, $($arg: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,f16c")]
                fn avx2(simd: $crate::simd::Avx2, $($arg: $type),*) $(-> $result)? {
                    $body(simd, $($arg),*)
                }
                #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
                fn avx512(simd: $crate::simd::Avx512, $($arg: $type),*) $(-> $result)? {
                    $body(simd, $($arg),*)
                }
                match isa {
                    $crate::Isa::Avx512 | $crate::Isa::Amx if isa.is_available() => {
                        // SAFETY: the machine has it.
                        return unsafe { avx512($crate::simd::Avx512::new_unchecked(), $($arg),*) };
                    }
                    $crate::Isa::Avx2 if isa.is_available() => {
                        // SAFETY: the machine has it.
                        return unsafe { avx2($crate::simd::Avx2::new_unchecked(), $($arg),*) };
                    }
                    _ => {}
                }
            }
            #[cfg(target_arch = "aarch64")]
            {
                #[target_feature(enable = "neon")]
                fn neon(simd: $crate::simd::Neon, $($arg: $type),*) $(-> $result)? {
                    $body(simd, $($arg),*)
                }
                // Dot products are of no use here, so that there is one kernel for both.
                if matches!(isa, $crate::Isa::Neon | $crate::Isa::NeonDotprod) && isa.is_available() {
                    // SAFETY: the machine has it.
                    return unsafe { neon($crate::simd::Neon::new_unchecked(), $($arg),*) };
                }
            }
            let _ = isa;
            $body($crate::simd::Scalar, $($arg),*)
        }
    )+ };
}
pub(crate) use kernel;

#[cfg(test)]
mod tests;
