//! Work on the rows of several buffers at once, each thread on rows of its own.

use std::ops::Range;

use crate::Pool;

/// Chunks for each thread: enough that one that starts late does not hold up the others.
const CHUNKS_PER_THREAD: usize = 4;

/// A buffer whose rows are handed out.
#[derive(Clone, Copy)]
struct Rows {
    start: *mut f32,
    width: usize,
}

// SAFETY: chunks are disjoint ranges of rows, each handed out once; `for_rows` holds the slices meanwhile.
unsafe impl Sync for Rows {}

/// What is done with a range of rows: its numbers, and those rows of every buffer.
pub type RowsFn<'a, const N: usize> = dyn Fn(Range<usize>, [&mut [f32]; N]) + Sync + 'a;

/// Calls `f` with ranges that together are `0..rows`, and for each range those rows of every buffer. Ranges have at
/// least `grain` rows, so that work too small for several threads stays on the caller's.
///
/// # Panics
/// When a buffer has other than a whole number of numbers for each row.
pub fn for_rows<const N: usize>(
    pool: &Pool,
    rows: usize,
    grain: usize,
    buffers: [&mut [f32]; N],
    f: &RowsFn<'_, N>,
) {
    if rows == 0 {
        return;
    }
    let chunk = rows.div_ceil(pool.threads() * CHUNKS_PER_THREAD).max(grain).max(1);
    if rows <= chunk {
        return f(0..rows, buffers);
    }
    let buffers = buffers.map(|buffer| {
        assert!(buffer.len().is_multiple_of(rows), "{} numbers in {rows} rows", buffer.len());
        Rows { start: buffer.as_mut_ptr(), width: buffer.len() / rows }
    });
    pool.for_each(rows.div_ceil(chunk), &|index| {
        let range = index * chunk..((index + 1) * chunk).min(rows);
        let parts = buffers.map(|Rows { start, width }| {
            // SAFETY: the rows of this range exist, and no other call of this closure has the same index.
            unsafe { std::slice::from_raw_parts_mut(start.add(range.start * width), range.len() * width) }
        });
        f(range, parts);
    });
}

#[cfg(test)]
mod tests;
