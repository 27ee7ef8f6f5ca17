//! Splitting one buffer of numbers over the threads of a pool.

use crate::{Pool, for_rows};

/// Numbers of a piece that are worth a thread: a few microseconds of work, the cost of starting the threads.
const PIECE_MIN: usize = 4096;

/// Calls `work(start, piece)` for pieces of `out` that cover it, each beginning at a multiple of `unit`; on the calling
/// thread alone when there is little to do.
///
/// # Panics
/// When `out` is not a whole number of units.
pub(crate) fn for_pieces(
    pool: &Pool,
    out: &mut [f32],
    unit: usize,
    work: &(dyn Fn(usize, &mut [f32]) + Sync),
) {
    if out.is_empty() {
        return;
    }
    assert!(0 < unit && out.len().is_multiple_of(unit), "{} numbers in rows of {unit}", out.len());
    if out.len() < 2 * PIECE_MIN || pool.threads() == 1 {
        return work(0, out);
    }
    for_rows(pool, out.len() / unit, PIECE_MIN.div_ceil(unit), [out], &|range, [piece]| {
        work(range.start * unit, piece);
    });
}
