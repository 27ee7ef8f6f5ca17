//! Probes for x86-64. Arithmetic is written as assembler, so that nothing is hoisted out of the loop or spilt.

use std::arch::asm;
use std::arch::x86_64::*;

use super::STREAMS;
use crate::ahead::{FAR, ask, asks_ahead};

/// # Safety
/// The machine has AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn read_avx2(bytes: &[u8]) -> u64 {
    let quarter = bytes.len() / STREAMS;
    let mut sums = [_mm256_setzero_si256(); STREAMS];
    let ahead = asks_ahead();
    for at in (0..quarter / 64 * 64).step_by(64) {
        for (stream, sum) in sums.iter_mut().enumerate() {
            let from = bytes.as_ptr().wrapping_add(stream * quarter + at);
            if ahead {
                ask(from, 64, FAR);
            }
            // SAFETY: 64 bytes from `at` on lie within the stream, the stream within `bytes`.
            let (a, b) =
                unsafe { (_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())) };
            *sum = _mm256_xor_si256(*sum, _mm256_xor_si256(a, b));
        }
    }
    let all = sums.into_iter().fold(_mm256_setzero_si256(), |all, sum| _mm256_xor_si256(all, sum));
    (_mm256_extract_epi64::<0>(all) ^ _mm256_extract_epi64::<1>(all)) as u64
        ^ (_mm256_extract_epi64::<2>(all) ^ _mm256_extract_epi64::<3>(all)) as u64
}

/// # Safety
/// The machine has AVX-512 F.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn read_avx512(bytes: &[u8]) -> u64 {
    let quarter = bytes.len() / STREAMS;
    let mut sums = [_mm512_setzero_si512(); STREAMS];
    let ahead = asks_ahead();
    for at in (0..quarter / 64 * 64).step_by(64) {
        for (stream, sum) in sums.iter_mut().enumerate() {
            let from = bytes.as_ptr().wrapping_add(stream * quarter + at);
            if ahead {
                ask(from, 64, FAR);
            }
            // SAFETY: 64 bytes from `at` on lie within the stream, the stream within `bytes`.
            let value = unsafe { _mm512_loadu_si512(from.cast()) };
            *sum = _mm512_xor_si512(*sum, value);
        }
    }
    let all = sums.into_iter().fold(_mm512_setzero_si512(), |all, sum| _mm512_xor_si512(all, sum));
    let mut words = [0u64; 8];
    // SAFETY: `words` has 64 bytes.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), all) };
    words.iter().fold(0, |all, word| all ^ word)
}

/// Twelve independent chains of fused multiply-add.
///
/// # Safety
/// The machine has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn f32_avx2(turns: u64) -> f64 {
    // SAFETY: only the named registers change, and no memory is touched.
    unsafe {
        asm!(
            "vpxor xmm0, xmm0, xmm0",
            "vpxor xmm1, xmm1, xmm1",
            "vpxor xmm2, xmm2, xmm2",
            "vpxor xmm3, xmm3, xmm3",
            "vpxor xmm4, xmm4, xmm4",
            "vpxor xmm5, xmm5, xmm5",
            "vpxor xmm6, xmm6, xmm6",
            "vpxor xmm7, xmm7, xmm7",
            "vpxor xmm8, xmm8, xmm8",
            "vpxor xmm9, xmm9, xmm9",
            "vpxor xmm10, xmm10, xmm10",
            "vpxor xmm11, xmm11, xmm11",
            "vpxor xmm12, xmm12, xmm12",
            "vpxor xmm13, xmm13, xmm13",
            "2:",
            "vfmadd231ps ymm0, ymm12, ymm13",
            "vfmadd231ps ymm1, ymm12, ymm13",
            "vfmadd231ps ymm2, ymm12, ymm13",
            "vfmadd231ps ymm3, ymm12, ymm13",
            "vfmadd231ps ymm4, ymm12, ymm13",
            "vfmadd231ps ymm5, ymm12, ymm13",
            "vfmadd231ps ymm6, ymm12, ymm13",
            "vfmadd231ps ymm7, ymm12, ymm13",
            "vfmadd231ps ymm8, ymm12, ymm13",
            "vfmadd231ps ymm9, ymm12, ymm13",
            "vfmadd231ps ymm10, ymm12, ymm13",
            "vfmadd231ps ymm11, ymm12, ymm13",
            "dec {n}",
            "jnz 2b",
            n = inout(reg) turns => _,
            out("ymm0") _,
            out("ymm1") _,
            out("ymm2") _,
            out("ymm3") _,
            out("ymm4") _,
            out("ymm5") _,
            out("ymm6") _,
            out("ymm7") _,
            out("ymm8") _,
            out("ymm9") _,
            out("ymm10") _,
            out("ymm11") _,
            out("ymm12") _,
            out("ymm13") _,
            options(nomem, nostack),
        );
    }
    turns as f64 * 192.0
}

/// Twelve independent chains of fused multiply-add.
///
/// # Safety
/// The machine has AVX-512 F.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn f32_avx512(turns: u64) -> f64 {
    // SAFETY: only the named registers change, and no memory is touched.
    unsafe {
        asm!(
            "vpxor xmm0, xmm0, xmm0",
            "vpxor xmm1, xmm1, xmm1",
            "vpxor xmm2, xmm2, xmm2",
            "vpxor xmm3, xmm3, xmm3",
            "vpxor xmm4, xmm4, xmm4",
            "vpxor xmm5, xmm5, xmm5",
            "vpxor xmm6, xmm6, xmm6",
            "vpxor xmm7, xmm7, xmm7",
            "vpxor xmm8, xmm8, xmm8",
            "vpxor xmm9, xmm9, xmm9",
            "vpxor xmm10, xmm10, xmm10",
            "vpxor xmm11, xmm11, xmm11",
            "vpxor xmm12, xmm12, xmm12",
            "vpxor xmm13, xmm13, xmm13",
            "2:",
            "vfmadd231ps zmm0, zmm12, zmm13",
            "vfmadd231ps zmm1, zmm12, zmm13",
            "vfmadd231ps zmm2, zmm12, zmm13",
            "vfmadd231ps zmm3, zmm12, zmm13",
            "vfmadd231ps zmm4, zmm12, zmm13",
            "vfmadd231ps zmm5, zmm12, zmm13",
            "vfmadd231ps zmm6, zmm12, zmm13",
            "vfmadd231ps zmm7, zmm12, zmm13",
            "vfmadd231ps zmm8, zmm12, zmm13",
            "vfmadd231ps zmm9, zmm12, zmm13",
            "vfmadd231ps zmm10, zmm12, zmm13",
            "vfmadd231ps zmm11, zmm12, zmm13",
            "dec {n}",
            "jnz 2b",
            n = inout(reg) turns => _,
            out("zmm0") _,
            out("zmm1") _,
            out("zmm2") _,
            out("zmm3") _,
            out("zmm4") _,
            out("zmm5") _,
            out("zmm6") _,
            out("zmm7") _,
            out("zmm8") _,
            out("zmm9") _,
            out("zmm10") _,
            out("zmm11") _,
            out("zmm12") _,
            out("zmm13") _,
            options(nomem, nostack),
        );
    }
    turns as f64 * 384.0
}

/// Multiply to 16 bits in pairs, widen in pairs, add: the exact sum without a dot-product instruction.
///
/// # Safety
/// The machine has AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn int8_avx2(turns: u64) -> f64 {
    // SAFETY: only the named registers change, and no memory is touched.
    unsafe {
        asm!(
            "vpxor xmm0, xmm0, xmm0",
            "vpxor xmm1, xmm1, xmm1",
            "vpxor xmm2, xmm2, xmm2",
            "vpxor xmm3, xmm3, xmm3",
            "vpxor xmm4, xmm4, xmm4",
            "vpxor xmm5, xmm5, xmm5",
            "vpxor xmm6, xmm6, xmm6",
            "vpxor xmm7, xmm7, xmm7",
            "vpxor xmm8, xmm8, xmm8",
            "vpxor xmm9, xmm9, xmm9",
            "vpxor xmm10, xmm10, xmm10",
            "vpxor xmm11, xmm11, xmm11",
            "vpxor xmm12, xmm12, xmm12",
            "vpxor xmm13, xmm13, xmm13",
            "vpxor xmm14, xmm14, xmm14",
            "2:",
            "vpmaddubsw ymm6, ymm12, ymm13",
            "vpmaddwd ymm6, ymm6, ymm14",
            "vpaddd ymm0, ymm0, ymm6",
            "vpmaddubsw ymm7, ymm12, ymm13",
            "vpmaddwd ymm7, ymm7, ymm14",
            "vpaddd ymm1, ymm1, ymm7",
            "vpmaddubsw ymm8, ymm12, ymm13",
            "vpmaddwd ymm8, ymm8, ymm14",
            "vpaddd ymm2, ymm2, ymm8",
            "vpmaddubsw ymm9, ymm12, ymm13",
            "vpmaddwd ymm9, ymm9, ymm14",
            "vpaddd ymm3, ymm3, ymm9",
            "vpmaddubsw ymm10, ymm12, ymm13",
            "vpmaddwd ymm10, ymm10, ymm14",
            "vpaddd ymm4, ymm4, ymm10",
            "vpmaddubsw ymm11, ymm12, ymm13",
            "vpmaddwd ymm11, ymm11, ymm14",
            "vpaddd ymm5, ymm5, ymm11",
            "dec {n}",
            "jnz 2b",
            n = inout(reg) turns => _,
            out("ymm0") _,
            out("ymm1") _,
            out("ymm2") _,
            out("ymm3") _,
            out("ymm4") _,
            out("ymm5") _,
            out("ymm6") _,
            out("ymm7") _,
            out("ymm8") _,
            out("ymm9") _,
            out("ymm10") _,
            out("ymm11") _,
            out("ymm12") _,
            out("ymm13") _,
            out("ymm14") _,
            options(nomem, nostack),
        );
    }
    turns as f64 * 384.0
}

/// Twelve independent chains of the dot-product instruction.
///
/// # Safety
/// The machine has AVX-512 F and VNNI.
#[target_feature(enable = "avx512f,avx512vnni")]
pub(super) unsafe fn int8_avx512(turns: u64) -> f64 {
    // SAFETY: only the named registers change, and no memory is touched.
    unsafe {
        asm!(
            "vpxor xmm0, xmm0, xmm0",
            "vpxor xmm1, xmm1, xmm1",
            "vpxor xmm2, xmm2, xmm2",
            "vpxor xmm3, xmm3, xmm3",
            "vpxor xmm4, xmm4, xmm4",
            "vpxor xmm5, xmm5, xmm5",
            "vpxor xmm6, xmm6, xmm6",
            "vpxor xmm7, xmm7, xmm7",
            "vpxor xmm8, xmm8, xmm8",
            "vpxor xmm9, xmm9, xmm9",
            "vpxor xmm10, xmm10, xmm10",
            "vpxor xmm11, xmm11, xmm11",
            "vpxor xmm12, xmm12, xmm12",
            "vpxor xmm13, xmm13, xmm13",
            "2:",
            "vpdpbusd zmm0, zmm12, zmm13",
            "vpdpbusd zmm1, zmm12, zmm13",
            "vpdpbusd zmm2, zmm12, zmm13",
            "vpdpbusd zmm3, zmm12, zmm13",
            "vpdpbusd zmm4, zmm12, zmm13",
            "vpdpbusd zmm5, zmm12, zmm13",
            "vpdpbusd zmm6, zmm12, zmm13",
            "vpdpbusd zmm7, zmm12, zmm13",
            "vpdpbusd zmm8, zmm12, zmm13",
            "vpdpbusd zmm9, zmm12, zmm13",
            "vpdpbusd zmm10, zmm12, zmm13",
            "vpdpbusd zmm11, zmm12, zmm13",
            "dec {n}",
            "jnz 2b",
            n = inout(reg) turns => _,
            out("zmm0") _,
            out("zmm1") _,
            out("zmm2") _,
            out("zmm3") _,
            out("zmm4") _,
            out("zmm5") _,
            out("zmm6") _,
            out("zmm7") _,
            out("zmm8") _,
            out("zmm9") _,
            out("zmm10") _,
            out("zmm11") _,
            out("zmm12") _,
            out("zmm13") _,
            options(nomem, nostack),
        );
    }
    turns as f64 * 1536.0
}

/// As [`int8_avx512`], with tiles of 16 rows and 64 columns.
///
/// # Safety
/// The machine has what [`crate::Isa::Amx`] stands for.
pub(super) unsafe fn int8_amx(turns: u64) -> f64 {
    #[repr(align(64))]
    struct Configuration([u8; 64]);
    // Palette 1; for each of eight tiles, 64 bytes a row from byte 16 on, 16 rows from byte 48 on.
    let mut configuration = Configuration([0; 64]);
    configuration.0[0] = 1;
    for tile in 0..8 {
        configuration.0[16 + 2 * tile] = 64;
        configuration.0[48 + tile] = 16;
    }
    // SAFETY: only tiles change, which nothing else here uses; loading a configuration clears them.
    unsafe {
        asm!(
            "ldtilecfg [{configuration}]",
            "2:",
            "tdpbssd tmm0, tmm6, tmm7",
            "tdpbssd tmm1, tmm6, tmm7",
            "tdpbssd tmm2, tmm6, tmm7",
            "tdpbssd tmm3, tmm6, tmm7",
            "dec {n}",
            "jnz 2b",
            "tilerelease",
            configuration = in(reg) &configuration,
            n = inout(reg) turns => _,
            options(readonly, nostack)
        );
    }
    (turns * 4 * 16 * 16 * 64 * 2) as f64
}
