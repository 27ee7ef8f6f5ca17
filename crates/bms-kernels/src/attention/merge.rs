//! Bringing the parts of a divided context together.

use super::Work;
use super::plan::{Division, Task, part_row_len};

/// `1 / total`; zero where nothing was visible, so that the result is zero.
pub(super) fn reciprocal(total: f32) -> f32 {
    match total == 0.0 {
        true => 0.0,
        false => 1.0 / total,
    }
}

/// Where the result of a row of the task's tile belongs.
#[allow(clippy::mut_from_ref)]
pub(super) fn result<'a>(work: &'a Work<'_>, task: &Task, row: usize) -> &'a mut [f32] {
    let layout = work.store.layout();
    let group = work.params.heads / layout.kv_heads;
    let (index, row) = (row / (task.rows.len() * group), row % (task.rows.len() * group));
    let token = work.sequences[task.sequence].first_row + task.rows.start + row / group;
    let head = (task.kv_heads.start + index) * group + row % group;
    let at = (token * work.params.heads + head) * layout.head_dim;
    // SAFETY: the plan checked that rows belong to one sequence each; tiles of a sequence have different tokens or
    // heads; and of the tasks of one tile, only the last to end writes its results.
    unsafe { work.out.part(at, layout.head_dim) }
}

/// The mean over all parts: each part's sums are relative to its own largest score.
pub(super) fn merge(work: &Work<'_>, task: &Task, division: &Division, rows: usize) {
    let dim = work.store.layout().head_dim;
    let len = part_row_len(dim);
    // SAFETY: every part of the division has been finished, which made its results visible, and this is the only task
    // that goes on with them.
    let parts = unsafe { work.parts.part(division.at, division.parts * rows * len) };
    for row in 0..rows {
        let part = |part: usize| &parts[(part * rows + row) * len..][..len];
        let largest = (0..division.parts).map(|i| part(i)[dim]).fold(f32::NEG_INFINITY, f32::max);
        let shift = if largest == f32::NEG_INFINITY { 0.0 } else { largest };
        let total: f32 = (0..division.parts).map(|i| part(i)[dim + 1] * (part(i)[dim] - shift).exp2()).sum();
        let out = result(work, task, row);
        out.fill(0.0);
        for i in 0..division.parts {
            let weight = (part(i)[dim] - shift).exp2() * reciprocal(total);
            for (out, sum) in out.iter_mut().zip(part(i)) {
                *out += weight * sum;
            }
        }
    }
}
