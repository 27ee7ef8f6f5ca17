//! Weights stored as numbers.

use std::arch::aarch64::*;

use super::super::CHUNK;
use super::{QUARTER, QUARTERS, Task, put};
use crate::Format;
use crate::matrix::LANES;

/// Computes a task.
///
/// # Safety
/// The machine has NEON.
#[inline(always)]
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

    /// One column of a quarter of a group.
    ///
    /// # Safety
    /// Four numbers follow the pointer, and the machine has NEON.
    unsafe fn column(at: *const u8) -> float32x4_t;
}

struct F32;
struct F16;
struct BF16;

impl Numbers for F32 {
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn column(at: *const u8) -> float32x4_t {
        // SAFETY: the caller's promise.
        unsafe { vld1q_f32(at.cast()) }
    }
}

impl Numbers for F16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn column(at: *const u8) -> float32x4_t {
        // SAFETY: the caller's promise.
        unsafe { vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(at.cast()))) }
    }
}

impl Numbers for BF16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn column(at: *const u8) -> float32x4_t {
        // SAFETY: the caller's promise.
        unsafe { vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(at.cast()))) }
    }
}

#[inline(always)]
unsafe fn sized<N: Numbers>(task: &Task<'_>) {
    let mut row = 0;
    while row < task.tile.tile.rows {
        // Sixteen sums where it can be: enough to hide the time a sum takes, and half of the registers.
        // SAFETY: the caller's promise; so many rows are left.
        row += unsafe {
            match (task.tile.tile.rows - row, task.groups) {
                (4.., _) => rows::<N, 4, 1>(task, row),
                (2.., CHUNK) => rows::<N, 2, 2>(task, row),
                (1.., CHUNK) => rows::<N, 1, 4>(task, row),
                (2.., _) => rows::<N, 2, 1>(task, row),
                _ => rows::<N, 1, 1>(task, row),
            }
        };
    }
}

/// The products of `R` rows of the tile from `row` on with all groups, `G` at a time. Returns `R`.
#[inline(always)]
unsafe fn rows<N: Numbers, const R: usize, const G: usize>(task: &Task<'_>, row: usize) -> usize {
    let (floats, size) = (task.tile.floats.as_ptr(), task.tile.tile.rows);
    for first in (task.group..task.group + task.groups).step_by(G) {
        let mut groups = [std::ptr::null::<u8>(); G];
        for (g, group) in groups.iter_mut().enumerate() {
            *group = task.matrix.group(first + g).as_ptr();
        }
        // SAFETY: the group holds `cols` columns, the tile a number of each row for each.
        unsafe {
            let mut sums = [[[vdupq_n_f32(0.0); R]; QUARTERS]; G];
            for k in 0..task.matrix.cols() {
                for (group, sums) in groups.iter().zip(&mut sums) {
                    for (quarter, sums) in sums.iter_mut().enumerate() {
                        let weights = N::column(group.add((k * LANES + quarter * QUARTER) * N::BYTES));
                        for (i, sum) in sums.iter_mut().enumerate() {
                            *sum = vfmaq_n_f32(*sum, weights, *floats.add(k * size + row + i));
                        }
                    }
                }
            }
            for (g, sums) in sums.iter().enumerate() {
                put(task, first + g, row, sums);
            }
        }
    }
    R
}
