//! Products with NEON.
//!
//! A vector holds four rows of the matrix, four codes of each: a quarter of what lies interleaved. `sdot` multiplies them
//! with four codes of one row of activations, picked out of a vector of sixteen, and adds the four products to four
//! integers. Processors without it multiply to 16 bits (`smlal`) and add up as long as that cannot overflow, for which
//! the codes of a word are brought into every lane first.
//!
//! With one row of activations each vector of codes is unpacked, used once and forgotten, all quarters of two groups in
//! turn. With more rows the codes of two quarters, sixteen of the 32 registers, stay while the rows pass.
//!
//! Everything below [`compute`] is inlined into it, since only there the instructions may be used.

mod float;
mod formats;

use std::arch::aarch64::*;
use std::arch::asm;

use super::Task;
use crate::Format;
use crate::activations::{COLS, FIELDS, TILE_ROWS};
use crate::matrix::LANES;

/// Numbers in one vector, and rows of a group in one quarter.
const QUARTER: usize = 4;
/// Quarters of a group.
const QUARTERS: usize = LANES / QUARTER;
/// Quarters whose codes stay in registers while the rows of a tile pass.
const HELD: usize = 2;
/// Groups that are read together when there is one row: as many streams of memory.
const STREAMS: usize = 2;

/// How the numbers of four rows in 32 columns are scaled.
#[derive(Clone, Copy)]
enum Scale {
    /// `scale · code`.
    Plain(float32x4_t),
    /// `scale · (code − zero)`, and the field in which the activations say where such sums begin.
    Centred(float32x4_t, usize),
    /// `scale · code + min`.
    Min(float32x4_t, float32x4_t),
    /// `scale · (code − 32)`, with one scale for the first and one for the second 16 columns.
    Halves(float32x4_t, float32x4_t),
}

/// A quantised format, as these kernels read it. `quarter` says which four rows of a group.
trait Weights {
    /// Blocks of 32 columns in a stored block.
    const SUBS: usize;
    /// Bytes of a stored block of a group.
    const BYTES: usize;
    /// Whether each 16 columns have a scale of their own, so that their products are summed apart.
    const HALVES: bool;
    /// Words whose products with activations of up to ±127 can be summed in 16 bits. A lane adds one product of each word:
    /// eight of codes up to 31 (8 · 31 · 127 < 2¹⁵), four up to 63, two from −128.
    const WORDS: usize;

    /// The codes of block `SUB` of 32 columns: vector `j` holds columns `4 j .. 4 j + 4` of each row.
    ///
    /// # Safety
    /// `stored` points at a stored block, and the machine has NEON.
    unsafe fn codes<const SUB: usize>(stored: *const u8, quarter: usize) -> [int8x16_t; 8];

    /// The scales of that block.
    ///
    /// # Safety
    /// As for `codes`.
    unsafe fn scale<const SUB: usize>(stored: *const u8, quarter: usize) -> Scale;
}

/// The codes of some quarters.
type Held<const P: usize> = [[int8x16_t; 8]; P];
/// Integer sums of some quarters: of the first half of a block's columns and of the second, where they are kept apart.
type Dots<const P: usize> = [[int32x4_t; 2]; P];

/// A way of multiplying codes.
trait Multiply {
    /// Adds the products of the eight words of one row with `P` quarters: all to the first sum of a quarter, or those of the
    /// second half to its second.
    ///
    /// # Safety
    /// 32 codes follow the pointer, and the machine has the instructions.
    unsafe fn dot<W: Weights, const P: usize>(sums: Dots<P>, weights: &Held<P>, codes: *const i8) -> Dots<P>;
}

/// With the instruction for dot products.
struct Dotprod;
/// With products of 16 bits.
struct Widening;

/// Computes a task.
///
/// # Safety
/// The machine has what [`crate::Isa::Neon`] stands for.
#[target_feature(enable = "neon")]
pub(super) unsafe fn compute(task: &Task<'_>) {
    // SAFETY: the caller's promise.
    unsafe { formatted::<Widening>(task) }
}

/// Computes a task.
///
/// # Safety
/// The machine has what [`crate::Isa::NeonDotprod`] stands for.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn compute_dotprod(task: &Task<'_>) {
    // SAFETY: the caller's promise.
    unsafe { formatted::<Dotprod>(task) }
}

#[inline(always)]
unsafe fn formatted<D: Multiply>(task: &Task<'_>) {
    // SAFETY: the caller's promise is that of every function called here.
    unsafe {
        match task.matrix.format() {
            Format::F32 | Format::F16 | Format::BF16 => float::compute(task),
            Format::Q4_0 => sized::<D, formats::Q4_0>(task),
            Format::Q4_1 => sized::<D, formats::Q4_1>(task),
            Format::Q5_0 => sized::<D, formats::Q5_0>(task),
            Format::Q5_1 => sized::<D, formats::Q5_1>(task),
            Format::Q8_0 => sized::<D, formats::Q8_0>(task),
            Format::Q4_K => sized::<D, formats::Q4_K>(task),
            Format::Q5_K => sized::<D, formats::Q5_K>(task),
            Format::Q6_K => sized::<D, formats::Q6_K>(task),
        }
    }
}

#[inline(always)]
unsafe fn sized<D: Multiply, W: Weights>(task: &Task<'_>) {
    let (mut first, end) = (task.group, task.group + task.groups);
    // SAFETY: the caller's promise; the groups are those of the task.
    unsafe {
        if task.tile.tile.rows == 1 {
            while first + STREAMS <= end {
                groups::<D, W, 1, STREAMS, 1>(task, first);
                first += STREAMS;
            }
            while first < end {
                groups::<D, W, 1, 1, 1>(task, first);
                first += 1;
            }
        }
        while first < end {
            groups::<D, W, TILE_ROWS, 1, HELD>(task, first);
            first += 1;
        }
    }
}

/// The sums of one group: of each quarter, for up to `N` rows of the tile.
type Sums<const N: usize> = [[float32x4_t; N]; QUARTERS];

/// `G` groups from `first` on with a tile of up to `N` rows, the codes of `P` quarters at once.
#[inline(always)]
unsafe fn groups<D: Multiply, W: Weights, const N: usize, const G: usize, const P: usize>(
    task: &Task<'_>,
    first: usize,
) {
    let mut groups = [std::ptr::null(); G];
    for (g, group) in groups.iter_mut().enumerate() {
        *group = task.matrix.group(first + g).as_ptr();
    }
    // SAFETY: the groups and the tile hold as many blocks as there are columns for.
    unsafe {
        let sums = product::<D, W, N, G, P>(groups, task);
        for (g, sums) in sums.iter().enumerate() {
            put(task, first + g, 0, sums);
        }
    }
}

/// The sums of products of `G` groups with the rows of the tile.
#[inline(always)]
unsafe fn product<D: Multiply, W: Weights, const N: usize, const G: usize, const P: usize>(
    mut groups: [*const u8; G],
    task: &Task<'_>,
) -> [Sums<N>; G] {
    let rows = if N == 1 { 1 } else { task.tile.tile.rows };
    let (mut codes, mut numbers) = (task.tile.codes.as_ptr(), task.tile.numbers.as_ptr());
    // SAFETY: inside the groups and the tile, as the caller promises; after the last block at most one past them.
    unsafe {
        let mut sums = [[[vdupq_n_f32(0.0); N]; QUARTERS]; G];
        for _ in 0..task.matrix.cols() / COLS / W::SUBS {
            macro_rules! sub {
                ($($sub:literal)+) => { $(
                    if $sub < W::SUBS {
                        let at = (codes.add($sub * rows * COLS), numbers.add($sub * rows * FIELDS));
                        for (group, sums) in groups.iter().zip(&mut sums) {
                            for (i, sums) in sums.as_chunks_mut::<P>().0.iter_mut().enumerate() {
                                add_block::<D, W, $sub, N, P>((*group, i * P), rows, at, sums);
                            }
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
        sums
    }
}

/// Adds the products of 32 columns of the `P` quarters from `quarter` on.
#[inline(always)]
unsafe fn add_block<D: Multiply, W: Weights, const SUB: usize, const N: usize, const P: usize>(
    (stored, quarter): (*const u8, usize),
    rows: usize,
    (codes, numbers): (*const i8, *const f32),
    sums: &mut [[float32x4_t; N]; P],
) {
    // SAFETY: the caller's pointers hold a block for each row.
    unsafe {
        let zero = vdupq_n_s32(0);
        let mut weights = [[vreinterpretq_s8_s32(zero); 8]; P];
        let mut scales = [Scale::Plain(vdupq_n_f32(0.0)); P];
        for p in 0..P {
            weights[p] = W::codes::<SUB>(stored, quarter + p);
            scales[p] = W::scale::<SUB>(stored, quarter + p);
            if N != 1 {
                held(&mut weights[p]);
            }
        }
        for row in 0..rows.min(N) {
            let numbers = numbers.add(row);
            let mut starts = [[zero; 2]; P];
            for (starts, scale) in starts.iter_mut().zip(&scales) {
                match *scale {
                    Scale::Centred(_, field) => starts[0] = integers(numbers, field * rows),
                    Scale::Plain(_) | Scale::Min(..) => {}
                    Scale::Halves(..) => *starts = [integers(numbers, 5 * rows), integers(numbers, 6 * rows)],
                }
            }
            let dots = D::dot::<W, P>(starts, &weights, codes.add(row * COLS));
            let (row_scale, row_sum) = (*numbers, *numbers.add(rows));
            for ((sums, [head, tail]), scale) in sums.iter_mut().zip(dots).zip(scales) {
                let (sum, head) = (&mut sums[row], vcvtq_f32_s32(head));
                match scale {
                    Scale::Plain(scale) | Scale::Centred(scale, _) => {
                        *sum = vfmaq_f32(*sum, head, vmulq_n_f32(scale, row_scale));
                    }
                    Scale::Min(scale, min) => {
                        *sum = vfmaq_n_f32(*sum, min, row_sum);
                        *sum = vfmaq_f32(*sum, head, vmulq_n_f32(scale, row_scale));
                    }
                    Scale::Halves(first, second) => {
                        let scaled = vfmaq_f32(vmulq_f32(head, first), vcvtq_f32_s32(tail), second);
                        *sum = vfmaq_n_f32(*sum, scaled, row_scale);
                    }
                }
            }
        }
    }
}

/// Has each vector in a register from here on: without it the compiler moves the work of unpacking into the loop over rows,
/// and does it again for each.
#[inline(always)]
fn held(vectors: &mut [int8x16_t; 8]) {
    for vector in vectors {
        // SAFETY: no instruction at all.
        unsafe {
            asm!("/* {0:v} */", inout(vreg) * vector, options(pure, nomem, nostack, preserves_flags));
        }
    }
}

/// One integer, held in the bits of a number, in every lane.
#[inline(always)]
unsafe fn integers(numbers: *const f32, at: usize) -> int32x4_t {
    // SAFETY: a number of the tile, as the caller promises.
    unsafe { vdupq_n_s32((*numbers.add(at)).to_bits() as i32) }
}

impl Multiply for Dotprod {
    #[inline(always)]
    unsafe fn dot<W: Weights, const P: usize>(
        mut sums: Dots<P>,
        weights: &Held<P>,
        codes: *const i8,
    ) -> Dots<P> {
        // SAFETY: the caller's promise.
        unsafe {
            let rows = [vld1q_s8(codes), vld1q_s8(codes.add(COLS / 2))];
            macro_rules! words {
                ($($j:literal)+) => { $(
                    let half = if W::HALVES { $j / 4 } else { 0 };
                    for (sums, weights) in sums.iter_mut().zip(weights) {
                        // As assembler, for the intrinsic is not stable yet.
                        asm!(
                            "sdot {sum:v}.4s, {weights:v}.16b, {row:v}.4b[{word}]",
                            sum = inout(vreg) sums[half],
                            weights = in(vreg) weights[$j],
                            row = in(vreg) rows[$j / 4],
                            word = const $j % 4,
                            options(pure, nomem, nostack, preserves_flags)
                        );
                    }
                )+ };
            }
            words!(0 1 2 3 4 5 6 7);
        }
        sums
    }
}

impl Multiply for Widening {
    #[inline(always)]
    unsafe fn dot<W: Weights, const P: usize>(
        mut sums: Dots<P>,
        weights: &Held<P>,
        codes: *const i8,
    ) -> Dots<P> {
        // SAFETY: the caller's promise.
        unsafe {
            // The first two rows of a quarter, and its others: four sums of 16 bits each, then two of 32.
            let mut narrow = [[vdupq_n_s16(0); 2]; P];
            let mut wide = [[[vdupq_n_s32(0); 2]; 2]; P];
            macro_rules! words {
                ($($j:literal)+) => { $(
                    let half = if W::HALVES { $j / 4 } else { 0 };
                    let word = vreinterpretq_s8_s32(vld1q_dup_s32(codes.cast::<i32>().add($j)));
                    for p in 0..P {
                        let (weights, [low, high]) = (weights[p][$j], &mut narrow[p]);
                        if $j % W::WORDS == 0 {
                            *low = vmull_s8(vget_low_s8(weights), vget_low_s8(word));
                            *high = vmull_high_s8(weights, word);
                        } else {
                            *low = vmlal_s8(*low, vget_low_s8(weights), vget_low_s8(word));
                            *high = vmlal_high_s8(*high, weights, word);
                        }
                        if ($j + 1) % W::WORDS == 0 {
                            let wide = &mut wide[p][half];
                            *wide = [vpadalq_s16(wide[0], *low), vpadalq_s16(wide[1], *high)];
                        }
                    }
                )+ };
            }
            words!(0 1 2 3 4 5 6 7);
            for (sums, wide) in sums.iter_mut().zip(wide) {
                for (sum, [low, high]) in sums.iter_mut().zip(wide) {
                    *sum = vaddq_s32(*sum, vpaddq_s32(low, high));
                }
            }
        }
        sums
    }
}

/// Writes the sums of one group with the rows of the tile from `row` on.
#[inline(always)]
unsafe fn put<const N: usize>(task: &Task<'_>, group: usize, row: usize, sums: &Sums<N>) {
    for (i, row) in (row..task.tile.tile.rows).enumerate().take(N) {
        let mut values = [0.0; LANES];
        for (quarter, sums) in sums.iter().enumerate() {
            // SAFETY: four of the sixteen numbers.
            unsafe { vst1q_f32(values.as_mut_ptr().add(quarter * QUARTER), sums[i]) };
        }
        task.put(group, row, &values);
    }
}
