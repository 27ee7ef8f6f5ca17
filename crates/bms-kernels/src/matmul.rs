//! Products of activations with packed weights.

mod reference;

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::activations::TileView;
use crate::matrix::LANES;
use crate::{Activations, Isa, Matrix, Pool};

/// Groups one thread takes at a time. Read together they are as many streams, which memory serves faster than one.
const CHUNK: usize = 8;
const _: () = assert!(CHUNK.is_multiple_of(4), "kernels that take fewer groups at once take 2 or 4");

/// Multiplies `rows` rows of activations with several matrices of as many columns: `out[row · matrix.rows() + i]` becomes the
/// product of activation `row` with row `i` of the matrix.
///
/// For quantised weights the activations are quantised to eight bits in blocks of 32 (as in
/// <https://arxiv.org/abs/2208.07339>, with smaller blocks); products of codes are exact integers, their scales and sums 32-bit
/// floating point. One start of the threads serves all matrices.
///
/// # Panics
/// When lengths do not fit the shapes.
pub fn matmul(
    pool: &Pool,
    activations: &mut Activations,
    x: &[f32],
    rows: usize,
    products: &mut [(&Matrix, &mut [f32])],
) {
    let Some(cols) = products.first().map(|(matrix, _)| matrix.cols()) else { return };
    assert_eq!(x.len(), rows * cols, "activations of {rows} rows and {cols} columns");
    for (matrix, out) in products.iter() {
        assert_eq!(matrix.cols(), cols, "matrices of one product have as many columns");
        assert_eq!(out.len(), rows * matrix.rows(), "one number for each row of both");
    }
    let quantised = products.iter().any(|(matrix, _)| matrix.format().is_quantised());
    let float = products.iter().any(|(matrix, _)| !matrix.format().is_quantised());
    activations.set(pool, x, rows, cols, quantised, float);
    let activations = &*activations;
    let parts: Vec<Part<'_>> = products.iter_mut().map(|(matrix, out)| Part::new(matrix, out)).collect();
    let chunks: usize = parts.iter().map(|part| part.chunks).sum();
    let next = AtomicUsize::new(0);
    let work = |_worker: usize| {
        loop {
            let mut chunk = next.fetch_add(1, Ordering::Relaxed);
            if chunks <= chunk {
                break;
            }
            for part in &parts {
                if chunk < part.chunks {
                    part.compute(pool.isa(), activations, chunk);
                    break;
                }
                chunk -= part.chunks;
            }
        }
    };
    match chunks {
        0 | 1 => work(0),
        _ => pool.run(&work),
    }
}

/// One matrix and where its products go.
struct Part<'a> {
    matrix: &'a Matrix,
    out: Output,
    chunks: usize,
}

/// Where the products of one matrix go. Threads write to different columns of the same rows.
#[derive(Clone, Copy)]
pub(crate) struct Output {
    start: *mut f32,
    /// Length of a row.
    stride: usize,
}

// SAFETY: threads write disjoint columns, each chunk's groups being its own; `matmul` holds the slice meanwhile.
unsafe impl Sync for Output {}
// SAFETY: as above.
unsafe impl Send for Output {}

impl Output {
    /// The place of column `column` in row `row`.
    ///
    /// # Safety
    /// The row and the column exist.
    #[inline(always)]
    pub(crate) unsafe fn at(self, row: usize, column: usize) -> *mut f32 {
        // SAFETY: inside the slice this was made from, as the caller promises.
        unsafe { self.start.add(row * self.stride + column) }
    }
}

/// What a kernel computes: the products of some groups with one tile.
#[derive(Clone, Copy)]
pub(crate) struct Task<'a> {
    pub(crate) matrix: &'a Matrix,
    /// Its first group.
    pub(crate) group: usize,
    /// Its number of groups, at most [`CHUNK`].
    pub(crate) groups: usize,
    pub(crate) tile: TileView<'a>,
    pub(crate) out: Output,
}

impl Task<'_> {
    /// Writes the products of one group with one row of the tile. Lanes past the matrix's rows are left out.
    pub(crate) fn put(&self, group: usize, row: usize, values: &[f32; LANES]) {
        if self.tile.tile.rows <= row {
            return;
        }
        let lanes = (self.matrix.rows() - group * LANES).min(LANES);
        // SAFETY: the row is one of the activations, the lanes are rows of the matrix, and this group is this thread's.
        unsafe {
            let place = self.out.at(self.tile.tile.first + row, group * LANES);
            std::ptr::copy_nonoverlapping(values.as_ptr(), place, lanes);
        }
    }
}

impl<'a> Part<'a> {
    fn new(matrix: &'a Matrix, out: &'a mut [f32]) -> Part<'a> {
        let out = Output { start: out.as_mut_ptr(), stride: matrix.rows() };
        Part { matrix, out, chunks: matrix.groups().div_ceil(CHUNK) }
    }

    fn compute(&self, isa: Isa, activations: &Activations, chunk: usize) {
        let group = chunk * CHUNK;
        let groups = (self.matrix.groups() - group).min(CHUNK);
        #[cfg(target_arch = "x86_64")]
        if isa == Isa::Amx && amx::serves(self.matrix.format(), activations.rows()) {
            // SAFETY: a pool's instruction set is one the machine has.
            unsafe { amx::compute(self.matrix, group..group + groups, activations, self.out) };
            return;
        }
        for index in 0..activations.tiles() {
            let tile = activations.tile(index, self.matrix.cols());
            let task = Task { matrix: self.matrix, group, groups, tile, out: self.out };
            match isa {
                Isa::Scalar => reference::compute(&task),
                // SAFETY: a pool's instruction set is one the machine has.
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => unsafe { avx2::compute(&task) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 | Isa::Amx => unsafe { avx512::compute(&task) },
                // SAFETY: as above.
                #[cfg(target_arch = "aarch64")]
                Isa::Neon => unsafe { neon::compute(&task) },
                // SAFETY: as above.
                #[cfg(target_arch = "aarch64")]
                Isa::NeonDotprod => unsafe { neon::compute_dotprod(&task) },
                // Those of other architectures.
                _ => reference::compute(&task),
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
