//! Bringing the sections of a context together.

use super::Work;
use super::kernels::padded;
use super::plan::{Division, Task, part_row_len};
use super::tile::Sums;

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

/// Adds a section's sums to those of the sections before it; each are relative to their own largest score.
pub(super) fn join(all: (&mut [f32], &mut f32, &mut f32), section: (&[f32], f32, f32)) {
    let (out, largest, total) = all;
    let (sums, section_largest, section_total) = section;
    let most = largest.max(section_largest);
    // Nothing visible yet.
    let shift = if most == f32::NEG_INFINITY { 0.0 } else { most };
    let (kept, weight) = ((*largest - shift).exp2(), (section_largest - shift).exp2());
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = *out * kept + *sum * weight;
    }
    *total = *total * kept + section_total * weight;
    *largest = most;
}

/// The sections of a divided tile, in their order, and from them its results. `joined` is a place to work.
pub(super) fn merge(work: &Work<'_>, task: &Task, division: &Division, rows: usize, joined: &mut Sums) {
    let dim = work.store.layout().head_dim;
    let len = part_row_len(dim);
    // SAFETY: every task of the division has been finished, which made its results visible, and this is the only task
    // that goes on with them.
    let parts = unsafe { work.parts.part(division.at, division.sections.len() * rows * len) };
    joined.clear(rows, padded(dim));
    for section in parts.chunks_exact(rows * len) {
        for (row, part) in section.chunks_exact(len).enumerate() {
            join(joined.row(row), (&part[..dim], part[dim], part[dim + 1]));
        }
    }
    write(work, task, joined);
}

/// Writes the rows' results: the means.
pub(super) fn write(work: &Work<'_>, task: &Task, sums: &mut Sums) {
    for row in 0..sums.totals.len() {
        let (out, _, total) = sums.row(row);
        let scale = reciprocal(*total);
        for (result, sum) in result(work, task, row).iter_mut().zip(out) {
            *result = *sum * scale;
        }
    }
}
