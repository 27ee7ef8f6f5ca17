//! Weights stored as numbers.

use std::arch::x86_64::*;

use super::{CHUNK, Task, put};
use crate::Format;
use crate::matrix::LANES;

/// Computes a task.
///
/// # Safety
/// The machine has the instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn compute(task: &Task<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        match task.matrix.format() {
            Format::F16 => sized::<F16>(task),
            Format::BF16 => sized::<BF16>(task),
            _ => sized::<F32>(task),
        }
    }
}

trait Numbers {
    /// Bytes of one number.
    const BYTES: usize;

    /// One column of a group.
    ///
    /// # Safety
    /// Sixteen numbers follow the pointer, and the machine has the instructions.
    unsafe fn column(at: *const u8) -> __m512;
}

struct F32;
struct F16;
struct BF16;

impl Numbers for F32 {
    const BYTES: usize = 4;

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn column(at: *const u8) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_ps(at.cast()) }
    }
}

impl Numbers for F16 {
    const BYTES: usize = 2;

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn column(at: *const u8) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())) }
    }
}

impl Numbers for BF16 {
    const BYTES: usize = 2;

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn column(at: *const u8) -> __m512 {
        // SAFETY: the caller's promise.
        let upper = unsafe { _mm512_cvtepu16_epi32(_mm256_loadu_si256(at.cast())) };
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(upper))
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn sized<N: Numbers>(task: &Task<'_>) {
    let mut row = 0;
    while row < task.tile.tile.rows {
        // SAFETY: the caller's promise; so many rows are left.
        row += unsafe {
            match (task.tile.tile.rows - row, task.groups) {
                (16.., _) => rows::<N, 16, 1>(task, row),
                (8.., _) => rows::<N, 8, 1>(task, row),
                (4.., _) => rows::<N, 4, 1>(task, row),
                (2.., CHUNK) => rows::<N, 2, 4>(task, row),
                (1.., CHUNK) => rows::<N, 1, CHUNK>(task, row),
                (2.., _) => rows::<N, 2, 1>(task, row),
                _ => rows::<N, 1, 1>(task, row),
            }
        };
    }
}

/// The products of `R` rows of the tile from `row` on with all groups, `G` at a time. Returns `R`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn rows<N: Numbers, const R: usize, const G: usize>(task: &Task<'_>, row: usize) -> usize {
    let (floats, size) = (task.tile.floats.as_ptr(), task.tile.tile.rows);
    for first in (task.group..task.group + task.groups).step_by(G) {
        let groups: [*const u8; G] = std::array::from_fn(|g| task.matrix.group(first + g).as_ptr());
        let mut sums = [[_mm512_setzero_ps(); R]; G];
        for k in 0..task.matrix.cols() {
            for (group, sums) in groups.iter().zip(&mut sums) {
                // SAFETY: the group holds `cols` columns, the tile a number of each row for each.
                unsafe {
                    let weights = N::column(group.add(k * LANES * N::BYTES));
                    for (i, sum) in sums.iter_mut().enumerate() {
                        *sum =
                            _mm512_fmadd_ps(weights, _mm512_set1_ps(*floats.add(k * size + row + i)), *sum);
                    }
                }
            }
        }
        for (g, sums) in sums.iter().enumerate() {
            put(task, first + g, row, sums);
        }
    }
    R
}
