//! Products with AVX2.
//!
//! A vector holds eight rows of the matrix, four codes of each. `vpmaddubsw` multiplies them with four codes of one row of
//! activations, broadcast from memory, and adds neighbours to 16-bit integers. Those of several words are added up as long
//! as they cannot overflow: all eight of a block when codes have four bits. Codes with a sign are multiplied as magnitude
//! times activation with the sign moved over.

mod float;
mod formats;

use std::arch::x86_64::*;

use super::{CHUNK, Task};
use crate::Format;
use crate::activations::{COLS, FIELDS, TILE_ROWS};
use crate::ahead::{FAR, ask, asks_ahead};
use crate::matrix::LANES;

/// Rows of a matrix in one vector.
const HALF: usize = LANES / 2;

/// How codes are multiplied: which sums fit in 16 bits when activations go to ±127.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Codes {
    /// 0 to 15: eight products of pairs, 8 · 2 · 15 · 127 < 2¹⁵.
    Four,
    /// 0 to 31: four, 4 · 2 · 31 · 127 < 2¹⁵.
    Five,
    /// −32 to 31: four, 4 · 2 · 32 · 127 < 2¹⁵.
    SignedSix,
    /// −128 to 127: one, 2 · 128 · 127 < 2¹⁵.
    SignedEight,
}

/// How the numbers of eight rows in 32 columns are scaled.
#[derive(Clone, Copy)]
enum Scale {
    /// `scale · code`.
    Plain(__m256),
    /// `scale · code + min`.
    Min(__m256, __m256),
    /// `scale · code`, with one scale for the first and one for the second 16 columns.
    Halves(__m256, __m256),
}

/// A quantised format, as these kernels read it. `half` is 0 for the first eight rows of a group, 1 for the others.
trait Weights {
    /// Blocks of 32 columns in a stored block.
    const SUBS: usize;
    /// Bytes of a stored block of a group.
    const BYTES: usize;
    /// What the codes are.
    const CODES: Codes;

    /// The codes of block `SUB` of 32 columns: vector `j` holds columns `4 j .. 4 j + 4` of each row.
    ///
    /// # Safety
    /// `stored` points at a stored block, and the machine has the instructions.
    unsafe fn codes<const SUB: usize>(stored: *const u8, half: usize) -> [__m256i; 8];

    /// The scales of that block.
    ///
    /// # Safety
    /// As for `codes`.
    unsafe fn scale<const SUB: usize>(stored: *const u8, half: usize) -> Scale;
}

/// Computes a task.
///
/// # Safety
/// The machine has what [`crate::Isa::Avx2`] stands for.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn compute(task: &Task<'_>) {
    // SAFETY: the caller's promise is that of every function called here.
    unsafe {
        match task.matrix.format() {
            Format::F32 | Format::F16 | Format::BF16 => float::compute(task),
            Format::Q4_0 => sized::<formats::Q4_0>(task),
            Format::Q4_1 => sized::<formats::Q4_1>(task),
            Format::Q5_0 => sized::<formats::Q5_0>(task),
            Format::Q5_1 => sized::<formats::Q5_1>(task),
            Format::Q8_0 => sized::<formats::Q8_0>(task),
            Format::Q4_K => sized::<formats::Q4_K>(task),
            Format::Q5_K => sized::<formats::Q5_K>(task),
            Format::Q6_K => sized::<formats::Q6_K>(task),
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn sized<W: Weights>(task: &Task<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        match (task.tile.tile.rows, task.groups) {
            (1, CHUNK) => groups::<W, 1, 4>(task),
            (2..=4, CHUNK) => groups::<W, 4, 4>(task),
            _ => groups::<W, TILE_ROWS, 1>(task),
        }
    }
}

/// The sums of one group: of both halves of its rows, for up to `N` rows of the tile.
type Sums<const N: usize> = [[__m256; N]; 2];

/// The groups of a task, `G` at a time, with a tile of up to `N` rows.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn groups<W: Weights, const N: usize, const G: usize>(task: &Task<'_>) {
    for first in (task.group..task.group + task.groups).step_by(G) {
        let groups: [*const u8; G] = std::array::from_fn(|g| task.matrix.group(first + g).as_ptr());
        // SAFETY: the groups and the tile hold as many blocks as there are columns for.
        let sums = unsafe { product::<W, N, G>(groups, task) };
        for (g, sums) in sums.iter().enumerate() {
            put(task, first + g, 0, sums);
        }
    }
}

/// The sums of products of `G` groups with the rows of the tile.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn product<W: Weights, const N: usize, const G: usize>(
    mut groups: [*const u8; G],
    task: &Task<'_>,
) -> [Sums<N>; G] {
    let mut sums = [[[_mm256_setzero_ps(); N]; 2]; G];
    let rows = if N == 1 { 1 } else { task.tile.tile.rows };
    let ahead = asks_ahead();
    let (mut codes, mut numbers) = (task.tile.codes.as_ptr(), task.tile.numbers.as_ptr());
    for _ in 0..task.matrix.cols() / COLS / W::SUBS {
        // SAFETY: inside the groups and the tile, as the caller promises; after the last block at most one past them.
        unsafe {
            macro_rules! sub {
                ($($sub:literal)+) => { $(
                    if $sub < W::SUBS {
                        for (group, sums) in groups.iter().zip(&mut sums) {
                            if ahead {
                                let step = W::BYTES / W::SUBS;
                                ask(group.wrapping_add($sub * step), step, FAR);
                            }
                            let at = (codes.add($sub * rows * COLS), numbers.add($sub * rows * FIELDS));
                            add_block::<W, $sub, N>(*group, rows, at, sums);
                        }
                    }
                )+ };
            }
            sub!(0 1 2 3 4 5 6 7);
            codes = codes.add(W::SUBS * rows * COLS);
            numbers = numbers.add(W::SUBS * rows * FIELDS);
            for group in &mut groups {
                *group = group.add(W::BYTES);
            }
        }
    }
    sums
}

/// Adds the products of 32 columns.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn add_block<W: Weights, const SUB: usize, const N: usize>(
    stored: *const u8,
    rows: usize,
    (codes, numbers): (*const i8, *const f32),
    sums: &mut Sums<N>,
) {
    for (half, sums) in sums.iter_mut().enumerate() {
        // SAFETY: the caller's pointers hold a block for each row.
        unsafe {
            let weights = held(W::codes::<SUB>(stored, half));
            let scale = W::scale::<SUB>(stored, half);
            for (row, sum) in sums.iter_mut().enumerate().take(rows) {
                let codes = codes.add(row * COLS);
                let number = |field: usize| _mm256_set1_ps(*numbers.add(field * rows + row));
                let (head, tail) = (dot::<W, 0>(&weights, codes), dot::<W, 4>(&weights, codes));
                match scale {
                    Scale::Plain(scale) => {
                        let dot = _mm256_cvtepi32_ps(both::<W>(head, tail));
                        *sum = _mm256_fmadd_ps(dot, _mm256_mul_ps(scale, number(0)), *sum);
                    }
                    Scale::Min(scale, min) => {
                        let dot = _mm256_cvtepi32_ps(both::<W>(head, tail));
                        *sum = _mm256_fmadd_ps(min, number(1), *sum);
                        *sum = _mm256_fmadd_ps(dot, _mm256_mul_ps(scale, number(0)), *sum);
                    }
                    Scale::Halves(first, second) => {
                        let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(wide(head)), first);
                        let scaled = _mm256_fmadd_ps(_mm256_cvtepi32_ps(wide(tail)), second, scaled);
                        *sum = _mm256_fmadd_ps(scaled, number(0), *sum);
                    }
                }
            }
        }
    }
}

/// The products of four words from `FROM` on: 16-bit sums, or 32-bit ones for codes of eight bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot<W: Weights, const FROM: usize>(weights: &[__m256i; 8], codes: *const i8) -> __m256i {
    // SAFETY: 32 codes follow the pointer.
    let word = |j: usize| unsafe { _mm256_set1_epi32(codes.cast::<i32>().add(j).read_unaligned()) };
    let pairs = |j: usize| match W::CODES {
        Codes::Four | Codes::Five => _mm256_maddubs_epi16(weights[j], word(j)),
        Codes::SignedSix => {
            _mm256_maddubs_epi16(_mm256_abs_epi8(weights[j]), _mm256_sign_epi8(word(j), weights[j]))
        }
        Codes::SignedEight => {
            wide(_mm256_maddubs_epi16(_mm256_abs_epi8(weights[j]), _mm256_sign_epi8(word(j), weights[j])))
        }
    };
    let (a, b, c, d) = (pairs(FROM), pairs(FROM + 1), pairs(FROM + 2), pairs(FROM + 3));
    match W::CODES {
        Codes::SignedEight => _mm256_add_epi32(_mm256_add_epi32(a, b), _mm256_add_epi32(c, d)),
        _ => _mm256_add_epi16(_mm256_add_epi16(a, b), _mm256_add_epi16(c, d)),
    }
}

/// The 32-bit sums of two results of [`dot`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn both<W: Weights>(head: __m256i, tail: __m256i) -> __m256i {
    match W::CODES {
        Codes::Four => wide(_mm256_add_epi16(head, tail)),
        Codes::SignedEight => _mm256_add_epi32(head, tail),
        _ => _mm256_add_epi32(wide(head), wide(tail)),
    }
}

/// Neighbouring 16-bit sums added to 32-bit ones.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn wide(sums: __m256i) -> __m256i {
    _mm256_madd_epi16(sums, _mm256_set1_epi16(1))
}

/// The same vectors, each a value in a register or on the stack from here on: without it the compiler moves the work of
/// unpacking into the loop over rows, and does it again for each.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn held(mut vectors: [__m256i; 8]) -> [__m256i; 8] {
    for vector in &mut vectors {
        // SAFETY: no instruction at all.
        unsafe {
            std::arch::asm!(
                "/* {0} */",
                inout(ymm_reg) * vector,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
    }
    vectors
}

/// Writes the sums of one group with the rows of the tile from `row` on.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn put<const N: usize>(task: &Task<'_>, group: usize, row: usize, sums: &Sums<N>) {
    for (i, row) in (row..task.tile.tile.rows).enumerate().take(N) {
        let mut values = [0.0; LANES];
        for (half, sums) in sums.iter().enumerate() {
            // SAFETY: eight of the sixteen numbers.
            unsafe { _mm256_storeu_ps(values.as_mut_ptr().add(half * HALF), sums[i]) };
        }
        task.put(group, row, &values);
    }
}
