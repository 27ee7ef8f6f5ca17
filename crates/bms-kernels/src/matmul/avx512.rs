//! Products with AVX-512 and VNNI.
//!
//! A vector holds sixteen rows of the matrix, four codes of each. `vpdpbusd` multiplies them with four codes of one row of
//! activations, broadcast from memory, and adds the four products to sixteen integers. After 32 columns these become
//! floating point numbers, are scaled and added up. Per 32 columns and row that is eight products against three or four
//! other operations on the same two ports, so some 75 % of the peak can be reached at best.

mod float;
pub(super) mod formats;

use std::arch::x86_64::*;

use super::{CHUNK, Task};
use crate::Format;
use crate::activations::{COLS, FIELDS, TILE_ROWS};
use crate::ahead::{FAR, ask, asks_ahead};
use crate::matrix::LANES;

/// How far ahead a product with a tile of many rows asks for memory, on every processor: it stays with each block for so long
/// that none looks ahead by itself.
pub(super) const AHEAD: usize = 1024;

/// How the numbers of 16 rows in 32 columns are scaled.
#[derive(Clone, Copy)]
pub(super) enum Scale {
    /// `scale · (code − zero)`, and the field in which the activations say where such sums begin.
    Centred(__m512, usize),
    /// `scale · code + min`.
    Min(__m512, __m512),
    /// `scale · (code − 32)`, with one scale for the first and one for the second 16 columns.
    Halves(__m512, __m512),
}

impl Scale {
    /// With scales and minima multiplied.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
    pub(super) fn times(self, (scales, minima): (__m512, __m512)) -> Scale {
        match self {
            Scale::Centred(scale, field) => Scale::Centred(_mm512_mul_ps(scale, scales), field),
            Scale::Min(scale, min) => Scale::Min(_mm512_mul_ps(scale, scales), _mm512_mul_ps(min, minima)),
            Scale::Halves(a, b) => Scale::Halves(_mm512_mul_ps(a, scales), _mm512_mul_ps(b, scales)),
        }
    }
}

/// What codes stand for, up to scales.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `code − zero`.
    Centred {
        /// Up to 128.
        zero: u8,
    },
    /// `code`, and a minimum is added.
    Min,
    /// `code − 32`; each 16 columns have a scale of their own, so that their products are summed apart.
    Halves,
}

/// A quantised format, as these kernels read it.
pub(super) trait Weights {
    /// Blocks of 32 columns in a stored block.
    const SUBS: usize;
    /// Bytes of a stored block of a group.
    const BYTES: usize;
    /// What its codes stand for.
    const KIND: Kind;

    /// The codes of block `SUB` of 32 columns: vector `j` holds columns `4 j .. 4 j + 4` of each row.
    ///
    /// # Safety
    /// `stored` points at a stored block, and the machine has the instructions.
    unsafe fn codes<const SUB: usize>(stored: *const u8) -> [__m512i; 8];

    /// The scales of that block, without what [`Weights::outer`] gives.
    ///
    /// # Safety
    /// As for `codes`.
    unsafe fn scale<const SUB: usize>(stored: *const u8) -> Scale;

    /// What all scales and what all minima of a stored block of several blocks are multiplied with.
    ///
    /// # Safety
    /// As for `codes`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
    unsafe fn outer(stored: *const u8) -> (__m512, __m512) {
        let _ = stored;
        (_mm512_set1_ps(1.0), _mm512_set1_ps(1.0))
    }
}

/// Computes a task.
///
/// # Safety
/// The machine has what [`crate::Isa::Avx512`] stands for.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
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

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn sized<W: Weights>(task: &Task<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        match task.tile.tile.rows {
            // Larger blocks are longer pieces of memory, of which fewer streams are better.
            1 if 1 < W::SUBS => groups::<W, 1, 4, 1>(task),
            1 => groups::<W, 1, CHUNK, 1>(task),
            2..=4 => groups::<W, 4, 4, 2>(task),
            _ => groups::<W, TILE_ROWS, 2, 2>(task),
        }
    }
}

/// The groups of a task, `G` at a time, with a tile of up to `N` rows. So many groups are as many streams of memory; of
/// `P` of them the codes stay in registers at once, and each code of the activations is fetched for all `P`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn groups<W: Weights, const N: usize, const G: usize, const P: usize>(task: &Task<'_>) {
    let (mut first, end) = (task.group, task.group + task.groups);
    // SAFETY: the groups and the tile hold as many blocks as there are columns for.
    unsafe {
        while first + G <= end {
            some::<W, N, G, P>(task, first);
            first += G;
        }
        while first < end {
            some::<W, N, 1, 1>(task, first);
            first += 1;
        }
    }
}

/// `G` groups from `first` on.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn some<W: Weights, const N: usize, const G: usize, const P: usize>(task: &Task<'_>, first: usize) {
    let groups: [*const u8; G] = std::array::from_fn(|g| task.matrix.group(first + g).as_ptr());
    // SAFETY: the caller's promise.
    let sums = unsafe { product::<W, N, G, P>(groups, task) };
    for (g, sums) in sums.iter().enumerate() {
        put(task, first + g, 0, sums);
    }
}

/// The sums of products of `G` groups with the rows of the tile.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn product<W: Weights, const N: usize, const G: usize, const P: usize>(
    mut groups: [*const u8; G],
    task: &Task<'_>,
) -> [[__m512; N]; G] {
    let mut sums = [[_mm512_setzero_ps(); N]; G];
    let ahead = asks_ahead();
    let rows = if N == 1 { 1 } else { task.tile.tile.rows };
    let (mut codes, mut numbers) = (task.tile.codes.as_ptr(), task.tile.numbers.as_ptr());
    for _ in 0..task.matrix.cols() / COLS / W::SUBS {
        // SAFETY: inside the groups and the tile, as the caller promises; after the last block at most one past them.
        unsafe {
            if N == 1 && 1 < W::SUBS {
                add_stored::<W, N, G>(&groups, (codes, numbers), ahead, &mut sums);
            } else {
                macro_rules! sub {
                    ($($sub:literal)+) => { $(
                        if $sub < W::SUBS {
                            let at = (codes.add($sub * rows * COLS), numbers.add($sub * rows * FIELDS));
                            for group in &groups {
                                if N == TILE_ROWS {
                                    fetch::<W>(*group, $sub, AHEAD);
                                } else if ahead {
                                    fetch::<W>(*group, $sub, FAR);
                                }
                            }
                            let (groups, _) = groups.as_chunks::<P>();
                            let (sums, _) = sums.as_chunks_mut::<P>();
                            for (groups, sums) in groups.iter().zip(sums) {
                                add_block::<W, $sub, N, P>(groups, rows, at, sums);
                            }
                        }
                    )+ };
                }
                sub!(0 1 2 3 4 5 6 7);
            }
            codes = codes.add(W::SUBS * rows * COLS);
            numbers = numbers.add(W::SUBS * rows * FIELDS);
            for group in &mut groups {
                *group = group.add(W::BYTES);
            }
        }
    }
    sums
}

/// Adds the products of a stored block of each group with one row. The scales of the stored block come in once, at the end:
/// with one row they would cost as much as the products.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn add_stored<W: Weights, const N: usize, const G: usize>(
    groups: &[*const u8; G],
    (codes, numbers): (*const i8, *const f32),
    ahead: bool,
    sums: &mut [[__m512; N]; G],
) {
    let mut inner = [[_mm512_setzero_ps(); 2]; G];
    // SAFETY: the caller's pointers hold a stored block, and as many blocks of one row.
    unsafe {
        macro_rules! sub {
            ($($sub:literal)+) => { $(
                if $sub < W::SUBS {
                    let at = (codes.add($sub * COLS), numbers.add($sub * FIELDS));
                    for (group, inner) in groups.iter().zip(&mut inner) {
                        if ahead {
                            fetch::<W>(*group, $sub, FAR);
                        }
                        *inner = add_inner::<W, $sub>(*group, at, *inner);
                    }
                }
            )+ };
        }
        sub!(0 1 2 3 4 5 6 7);
        for ((group, [products, minima]), sums) in groups.iter().zip(inner).zip(sums) {
            let (scales, outer) = W::outer(*group);
            sums[0] = _mm512_fmadd_ps(minima, outer, _mm512_fmadd_ps(products, scales, sums[0]));
        }
    }
}

/// Adds the products of 32 columns with one row, and the minima, both without the scales of the stored block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn add_inner<W: Weights, const SUB: usize>(
    stored: *const u8,
    (codes, numbers): (*const i8, *const f32),
    [products, minima]: [__m512; 2],
) -> [__m512; 2] {
    // SAFETY: the caller's pointers hold a stored block, and a block of one row.
    unsafe {
        let weights = [W::codes::<SUB>(stored)];
        let row_scale = floats(numbers, 0);
        match W::scale::<SUB>(stored) {
            Scale::Halves(first, second) => {
                let starts = [[integers(numbers, 5), integers(numbers, 6)]];
                let [[head, tail]] = dot::<W, 1>(starts, &weights, codes);
                let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(head), first);
                let scaled = _mm512_fmadd_ps(_mm512_cvtepi32_ps(tail), second, scaled);
                [_mm512_fmadd_ps(scaled, row_scale, products), minima]
            }
            Scale::Min(scale, min) => {
                let [[dot, _]] = dot::<W, 1>([[_mm512_setzero_si512(); 2]], &weights, codes);
                let scale = _mm512_mul_ps(scale, row_scale);
                let products = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), scale, products);
                [products, _mm512_fmadd_ps(min, floats(numbers, 1), minima)]
            }
            Scale::Centred(..) => unreachable!("stored blocks of several blocks have minima or halves"),
        }
    }
}

/// Asks for the memory `distance` bytes ahead of a block of 32 columns.
#[inline(always)]
pub(super) fn fetch<W: Weights>(stored: *const u8, sub: usize, distance: usize) {
    let step = W::BYTES / W::SUBS;
    ask(stored.wrapping_add(sub * step), step, distance);
}

/// Adds the products of 32 columns of `P` groups.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn add_block<W: Weights, const SUB: usize, const N: usize, const P: usize>(
    stored: &[*const u8; P],
    rows: usize,
    (codes, numbers): (*const i8, *const f32),
    sums: &mut [[__m512; N]; P],
) {
    // SAFETY: the caller's pointers hold a block for each row.
    unsafe {
        // Loops and no closures: those would be called, not inlined, by functions compiled for any machine.
        let mut weights = [[_mm512_setzero_si512(); 8]; P];
        let mut scales = [Scale::Min(_mm512_setzero_ps(), _mm512_setzero_ps()); P];
        for p in 0..P {
            weights[p] = held(W::codes::<SUB>(stored[p]));
            scales[p] = W::scale::<SUB>(stored[p]);
            if 1 < W::SUBS {
                scales[p] = scales[p].times(W::outer(stored[p]));
            }
        }
        for row in 0..rows.min(N) {
            let numbers = numbers.add(row);
            let mut starts = [[_mm512_setzero_si512(); 2]; P];
            for (starts, scale) in starts.iter_mut().zip(&scales) {
                match *scale {
                    Scale::Centred(_, field) => starts[0] = integers(numbers, field * rows),
                    Scale::Min(..) => {}
                    Scale::Halves(..) => *starts = [integers(numbers, 5 * rows), integers(numbers, 6 * rows)],
                }
            }
            let (row_scale, row_sum) = (floats(numbers, 0), floats(numbers, rows));
            let dots = dot::<W, P>(starts, &weights, codes.add(row * COLS));
            for ((sums, [head, tail]), scale) in sums.iter_mut().zip(dots).zip(scales) {
                let (sum, head) = (&mut sums[row], _mm512_cvtepi32_ps(head));
                match scale {
                    Scale::Centred(scale, _) => {
                        *sum = _mm512_fmadd_ps(head, _mm512_mul_ps(scale, row_scale), *sum);
                    }
                    Scale::Min(scale, min) => {
                        *sum = _mm512_fmadd_ps(min, row_sum, *sum);
                        *sum = _mm512_fmadd_ps(head, _mm512_mul_ps(scale, row_scale), *sum);
                    }
                    Scale::Halves(first, second) => {
                        let scaled = _mm512_mul_ps(head, first);
                        let scaled = _mm512_fmadd_ps(_mm512_cvtepi32_ps(tail), second, scaled);
                        *sum = _mm512_fmadd_ps(scaled, row_scale, *sum);
                    }
                }
            }
        }
    }
}

/// The same vectors, each in a register from here on: without it the compiler moves the work of unpacking into the loop over
/// rows, and does it again for each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn held(mut vectors: [__m512i; 8]) -> [__m512i; 8] {
    for vector in &mut vectors {
        // SAFETY: no instruction at all.
        unsafe {
            std::arch::asm!(
                "/* {0} */",
                inout(zmm_reg) * vector,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
    }
    vectors
}

/// One number in every lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn floats(numbers: *const f32, at: usize) -> __m512 {
    // SAFETY: a number of the tile, as the caller promises.
    _mm512_set1_ps(unsafe { *numbers.add(at) })
}

/// One integer, held in the bits of a number, in every lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn integers(numbers: *const f32, at: usize) -> __m512i {
    // SAFETY: a number of the tile, as the caller promises.
    _mm512_set1_epi32(unsafe { *numbers.add(at).cast::<i32>() })
}

/// Adds the products of the eight words of one row with `P` groups: all to the first sum of a group, or those of the second
/// half to its second. Written out, since the compiler does not always unroll a loop of products before it has decided
/// what stays in registers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn dot<W: Weights, const P: usize>(
    mut sums: [[__m512i; 2]; P],
    weights: &[[__m512i; 8]; P],
    codes: *const i8,
) -> [[__m512i; 2]; P] {
    macro_rules! words {
        ($($j:literal)+) => { $(
            // SAFETY: 32 codes follow the pointer.
            let word = unsafe { _mm512_set1_epi32(codes.cast::<i32>().add($j).read_unaligned()) };
            let half = if let Kind::Halves = W::KIND { $j / 4 } else { 0 };
            for (sums, weights) in sums.iter_mut().zip(weights) {
                sums[half] = _mm512_dpbusd_epi32(sums[half], weights[$j], word);
            }
        )+ };
    }
    words!(0 1 2 3 4 5 6 7);
    sums
}

/// Writes the sums of one group with the rows of the tile from `row` on.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(super) fn put<const N: usize>(task: &Task<'_>, group: usize, row: usize, sums: &[__m512; N]) {
    let lanes = (task.matrix.rows() - group * LANES).min(LANES);
    let mask = (u32::MAX >> (32 - lanes)) as u16;
    for (row, sum) in (row..task.tile.tile.rows).zip(sums) {
        // SAFETY: the row is one of the activations, the mask keeps to rows of the matrix, this group is this thread's.
        unsafe { _mm512_mask_storeu_ps(task.out.at(task.tile.tile.first + row, group * LANES), mask, *sum) };
    }
}
