//! Products with AMX tiles and AVX-512.
//!
//! One instruction multiplies 16 rows of activations with 16 rows of a matrix in 32 columns, as exact integers. The
//! packed groups have nearly the layout it asks for: their codes are unpacked to bytes once for all rows. What is left is
//! scaling, which is done as in the kernels for AVX-512, number by number: the results are the same to the last bit, so a
//! prompt computed here and a token computed there do not disagree.
//!
//! Scaling bounds the speed: for 16 · 16 · 32 products three or four operations for each of 16 vectors on two ports, where
//! the tiles would need 16 turns.

use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;

use super::avx512::{AHEAD, Kind, Scale, Weights, fetch, formats, put};
use super::{Output, Task};
use crate::activations::{Activations, COLS, FIELDS, TILE_ROWS};
use crate::matrix::LANES;
use crate::{Format, Matrix};

/// Rows of activations from which on tiles are worth unpacking for.
const ROWS_MIN: usize = 17;
/// Groups that are multiplied together, so that activations are loaded once for both.
const PAIR: usize = 2;
/// Blocks of a pair that are unpacked and multiplied with all rows before the next ones: with what they are multiplied
/// with they fill two thirds of the first cache.
const PANEL: usize = 16;
/// Tiles that all groups are multiplied with before the next ones: their activations stay in the second cache.
const TILES: usize = 8;

/// Whether products of `rows` rows are for these kernels.
pub(super) fn serves(format: Format, rows: usize) -> bool {
    format.is_quantised() && ROWS_MIN <= rows
}

/// A block of 32 columns of a group, as tiles are loaded from it.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Block {
    /// Word `j` of each row: its columns `4 j .. 4 j + 4`.
    codes: [[u8; 4 * LANES]; 8],
    /// The scale and the minimum, or the scales of both halves.
    scales: [[f32; LANES]; 2],
}

/// Blocks of a pair that are multiplied before they are scaled; as many again where halves are scaled apart.
const STEP: usize = 4;

/// Products of the two groups of a pair with the rows of a tile, [`STEP`] times.
#[repr(C, align(64))]
struct Dots([[[[i32; LANES]; TILE_ROWS]; STEP]; PAIR]);

/// Sums of a group for the rows of a tile.
type Sums = [__m512; TILE_ROWS];

/// What a thread works in.
struct Space {
    panels: [[Block; PANEL]; PAIR],
    dots: Dots,
    sums: [[Sums; PAIR]; TILES],
}

/// Computes the products of some groups with all rows of the activations.
///
/// # Safety
/// The machine has what [`crate::Isa::Amx`] stands for; the groups are the matrix's and only this thread's to write.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn compute(matrix: &Matrix, groups: Range<usize>, activations: &Activations, out: Output) {
    let work = Work { matrix, groups, activations, out };
    // SAFETY: the caller's promise.
    unsafe {
        match matrix.format() {
            Format::Q4_0 => work.run::<formats::Q4_0>(),
            Format::Q4_1 => work.run::<formats::Q4_1>(),
            Format::Q5_0 => work.run::<formats::Q5_0>(),
            Format::Q5_1 => work.run::<formats::Q5_1>(),
            Format::Q8_0 => work.run::<formats::Q8_0>(),
            Format::Q4_K => work.run::<formats::Q4_K>(),
            Format::Q5_K => work.run::<formats::Q5_K>(),
            Format::Q6_K => work.run::<formats::Q6_K>(),
            Format::F32 | Format::F16 | Format::BF16 => unreachable!("`serves` says no to them"),
        }
    }
}

struct Work<'a> {
    matrix: &'a Matrix,
    groups: Range<usize>,
    activations: &'a Activations,
    out: Output,
}

impl Work<'_> {
    /// # Safety
    /// As for [`compute`].
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
    unsafe fn run<W: Weights>(&self) {
        let mut space = Space {
            panels: [[Block { codes: [[0; 4 * LANES]; 8], scales: [[0.0; LANES]; 2] }; PANEL]; PAIR],
            dots: Dots([[[[0; LANES]; TILE_ROWS]; STEP]; PAIR]),
            sums: [[[_mm512_setzero_ps(); TILE_ROWS]; PAIR]; TILES],
        };
        let tiles = self.activations.tiles();
        // SAFETY: the caller's promise.
        unsafe {
            for first_tile in (0..tiles).step_by(TILES) {
                let tiles = first_tile..(first_tile + TILES).min(tiles);
                for first in self.groups.clone().step_by(PAIR) {
                    self.pair::<W>(first..(first + PAIR).min(self.groups.end), tiles.clone(), &mut space);
                }
            }
            // Until then every switch of threads saves the tiles.
            asm!("tilerelease", options(nomem, nostack, preserves_flags));
        }
    }

    /// The products of one or two groups with some tiles.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
    unsafe fn pair<W: Weights>(&self, pair: Range<usize>, tiles: Range<usize>, space: &mut Space) {
        let Space { panels, dots, sums } = space;
        *sums = [[[_mm512_setzero_ps(); TILE_ROWS]; PAIR]; TILES];
        let blocks = self.matrix.cols() / COLS;
        let mut configured = 0;
        for first in (0..blocks).step_by(PANEL) {
            let len = PANEL.min(blocks - first);
            for (group, panel) in pair.clone().zip(&mut *panels) {
                // SAFETY: the group has these blocks.
                unsafe { unpack::<W>(self.matrix.group(group).as_ptr(), first, &mut panel[..len]) };
            }
            for (tile, sums) in tiles.clone().zip(&mut *sums) {
                let task = self.task(tile, pair.start);
                let rows = task.tile.tile.rows;
                // A second group that is not there is multiplied too, for nothing.
                let panels = [&panels[0][..len], &panels[1][..len]];
                // SAFETY: the tile has these blocks too, and tiles are configured for its rows.
                unsafe {
                    if configured != rows {
                        configured = rows;
                        configure::<W>(rows);
                    }
                    match rows {
                        TILE_ROWS => add::<W, true>(panels, &task, first, &mut sums[..pair.len()], dots),
                        _ => add::<W, false>(panels, &task, first, &mut sums[..pair.len()], dots),
                    }
                }
            }
        }
        for (tile, sums) in tiles.zip(sums) {
            for (group, sums) in pair.clone().zip(sums) {
                put(&self.task(tile, pair.start), group, 0, sums);
            }
        }
    }

    fn task(&self, tile: usize, group: usize) -> Task<'_> {
        let tile = self.activations.tile(tile, self.matrix.cols());
        Task { matrix: self.matrix, group, groups: self.groups.len(), tile, out: self.out }
    }
}

/// Unpacks the blocks of a group from `first` on, the first of a stored block.
///
/// # Safety
/// The group has these blocks; the machine has the instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn unpack<W: Weights>(group: *const u8, first: usize, out: &mut [Block]) {
    for (index, blocks) in out.chunks_mut(W::SUBS).enumerate() {
        // SAFETY: the caller's promise.
        unsafe {
            let stored = group.add((first / W::SUBS + index) * W::BYTES);
            macro_rules! sub {
                ($($sub:literal)+) => { $(
                    if $sub < W::SUBS && let Some(block) = blocks.get_mut($sub) {
                        fetch::<W>(stored, $sub, AHEAD);
                        unpack_block::<W, $sub>(stored, block);
                    }
                )+ };
            }
            sub!(0 1 2 3 4 5 6 7);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn unpack_block<W: Weights, const SUB: usize>(stored: *const u8, block: &mut Block) {
    // SAFETY: the caller's promise.
    unsafe {
        let codes = W::codes::<SUB>(stored);
        let zero = match W::KIND {
            Kind::Centred { zero } => zero,
            Kind::Min => 0,
            Kind::Halves => 32,
        };
        for (codes, place) in codes.into_iter().zip(&mut block.codes) {
            let codes = _mm512_sub_epi8(codes, _mm512_set1_epi8(zero as i8));
            _mm512_store_si512(place.as_mut_ptr().cast(), codes);
        }
        let mut scale = W::scale::<SUB>(stored);
        if 1 < W::SUBS {
            scale = scale.times(W::outer(stored));
        }
        let (a, b) = match scale {
            Scale::Centred(scale, _) => (scale, scale),
            Scale::Min(a, b) | Scale::Halves(a, b) => (a, b),
        };
        _mm512_store_ps(block.scales[0].as_mut_ptr(), a);
        _mm512_store_ps(block.scales[1].as_mut_ptr(), b);
    }
}

/// Says what the tiles are: 0 to 3 sums of products, 4 and 5 rows of activations, 6 and 7 words of a group's codes.
///
/// # Safety
/// The process may use tiles.
unsafe fn configure<W: Weights>(rows: usize) {
    #[repr(C, align(64))]
    struct Configuration {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        row_bytes: [u16; 16],
        rows: [u8; 16],
    }
    let (columns, words) = match W::KIND {
        Kind::Halves => (COLS as u16 / 2, 4),
        _ => (COLS as u16, 8),
    };
    let (rows, vector) = (rows as u8, 4 * LANES as u16);
    let mut configuration =
        Configuration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
    configuration.row_bytes[..8]
        .copy_from_slice(&[vector, vector, vector, vector, columns, columns, vector, vector]);
    configuration.rows[..8].copy_from_slice(&[rows, rows, rows, rows, rows, rows, words, words]);
    // SAFETY: 64 bytes that say what the manual asks for.
    unsafe { asm!("ldtilecfg [{0}]", in(reg) &configuration, options(readonly, nostack, preserves_flags)) };
}

/// Adds the products of a panel, from block `first` of the tile on, to the sums of a tile that is full, or not.
///
/// # Safety
/// The tile has these blocks; tiles are configured for its rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn add<W: Weights, const FULL: bool>(
    panels: [&[Block]; PAIR],
    task: &Task<'_>,
    first: usize,
    sums: &mut [Sums],
    dots: &mut Dots,
) {
    let rows = if FULL { TILE_ROWS } else { task.tile.tile.rows };
    let halves = if let Kind::Halves = W::KIND { 2 } else { 1 };
    let len = panels[0].len();
    for step in (0..len).step_by(STEP / halves) {
        let indices = step..(step + STEP / halves).min(len);
        // SAFETY: the caller's promise.
        unsafe {
            let codes = task.tile.codes.as_ptr().add(first * rows * COLS);
            let numbers = task.tile.numbers.as_ptr().add(first * rows * FIELDS);
            for index in indices.clone() {
                let pair = [&panels[0][index], &panels[1][index]];
                multiply::<W>(pair, codes.add(index * rows * COLS), dots, (index - step) * halves);
            }
            for ((panel, sums), dots) in panels.iter().zip(sums.iter_mut()).zip(&dots.0) {
                // A variable of their own, so that they stay in registers.
                let mut vectors = *sums;
                for index in indices.clone() {
                    let dots = &dots[(index - step) * halves..][..halves];
                    let numbers = numbers.add(index * rows * FIELDS);
                    scale::<W>(&panel[index], rows, numbers, dots, &mut vectors);
                }
                *sums = vectors;
            }
        }
    }
}

/// Multiplies the tile's rows with a block of both groups, to place `at` of the products.
///
/// # Safety
/// Tiles are configured, and the codes are those of the tile in this block.
#[inline(always)]
unsafe fn multiply<W: Weights>(pair: [&Block; PAIR], codes: *const i8, dots: &mut Dots, at: usize) {
    macro_rules! tiles {
        ($multiply:literal, $half:literal, $activations:literal, $first:literal, $second:literal) => {
            // SAFETY: rows of 32 codes, words of 64 bytes, sums of 64: as the tiles are configured.
            unsafe {
                asm!(
                    concat!("tileloadd ", $activations, ", [{codes} + {row} * 1]"),
                    concat!("tileloadd tmm6, [{words} + {vector} * 1]"),
                    concat!("tilezero ", $first),
                    concat!($multiply, " ", $first, ", ", $activations, ", tmm6"),
                    concat!("tileloadd tmm7, [{other_words} + {vector} * 1]"),
                    concat!("tilezero ", $second),
                    concat!($multiply, " ", $second, ", ", $activations, ", tmm7"),
                    concat!("tilestored [{dots} + {vector} * 1], ", $first),
                    concat!("tilestored [{other_dots} + {vector} * 1], ", $second),
                    codes = in(reg) codes.add($half * COLS / 2),
                    words = in(reg) pair[0].codes[$half * 4..].as_ptr(),
                    other_words = in(reg) pair[1].codes[$half * 4..].as_ptr(),
                    dots = in(reg) dots.0[0][at + $half].as_mut_ptr(),
                    other_dots = in(reg) dots.0[1][at + $half].as_mut_ptr(),
                    row = in(reg) COLS,
                    vector = in(reg) 4 * LANES,
                    options(nostack, preserves_flags)
                );
            }
        };
    }
    // Other tiles than for the block before, which is still being stored.
    match (W::KIND, at % 2 == 1) {
        (Kind::Centred { .. }, false) => tiles!("tdpbssd", 0, "tmm4", "tmm0", "tmm1"),
        (Kind::Centred { .. }, true) => tiles!("tdpbssd", 0, "tmm5", "tmm2", "tmm3"),
        (Kind::Min, false) => tiles!("tdpbsud", 0, "tmm4", "tmm0", "tmm1"),
        (Kind::Min, true) => tiles!("tdpbsud", 0, "tmm5", "tmm2", "tmm3"),
        (Kind::Halves, _) => {
            tiles!("tdpbssd", 0, "tmm4", "tmm0", "tmm1");
            tiles!("tdpbssd", 1, "tmm5", "tmm2", "tmm3");
        }
    }
}

/// Scales a block's products and adds them, in the order of operations of the kernels for AVX-512.
///
/// # Safety
/// The numbers are those of the tile's rows in this block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn scale<W: Weights>(
    block: &Block,
    rows: usize,
    numbers: *const f32,
    dots: &[[[i32; LANES]; TILE_ROWS]],
    sums: &mut [__m512; TILE_ROWS],
) {
    // SAFETY: vectors of a block and of products, numbers of the tile's rows.
    unsafe {
        let [a, b] = [_mm512_load_ps(block.scales[0].as_ptr()), _mm512_load_ps(block.scales[1].as_ptr())];
        for (row, sum) in sums.iter_mut().enumerate().take(rows) {
            let dots = |half: usize| _mm512_cvtepi32_ps(_mm512_load_si512(dots[half][row].as_ptr().cast()));
            let row_scale = _mm512_set1_ps(*numbers.add(row));
            match W::KIND {
                Kind::Centred { .. } => *sum = _mm512_fmadd_ps(dots(0), _mm512_mul_ps(a, row_scale), *sum),
                Kind::Min => {
                    *sum = _mm512_fmadd_ps(b, _mm512_set1_ps(*numbers.add(rows + row)), *sum);
                    *sum = _mm512_fmadd_ps(dots(0), _mm512_mul_ps(a, row_scale), *sum);
                }
                Kind::Halves => {
                    let scaled = _mm512_fmadd_ps(dots(1), b, _mm512_mul_ps(dots(0), a));
                    *sum = _mm512_fmadd_ps(scaled, row_scale, *sum);
                }
            }
        }
    }
}
