//! Dividing a call's work among threads.

use std::cmp::Reverse;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{AttendParams, AttendSeq};
use crate::KvLayout;
use crate::kv::PAGE_TOKENS;

/// Query rows of a tile, unless the heads of one token are more: enough that reading keys and values costs little.
const TILE_ROWS: usize = 128;
/// Tasks for each thread, so that the last one to end is not long alone.
const TASKS_EACH: usize = 4;
/// Pages of a section, counted from the sequence's first page. Sums are made section by section and joined in their
/// order, whoever made them: what a row attends to does not depend on how many threads or other rows there are.
/// Joining costs about as much as one page.
pub(super) const SECTION_PAGES: usize = 16;
/// Query rows of a head up to which a tile takes all heads: there is little to compute then, and pages are best read from
/// end to end.
const SHARED_ROWS_MAX: usize = 8;

/// A tile of query rows with a range of the pages they see.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) sequence: usize,
    /// Heads of the keys. Rows of one head come after those of the other.
    pub(super) kv_heads: Range<usize>,
    /// Rows of the sequence.
    pub(super) rows: Range<usize>,
    /// Pages of the sequence.
    pub(super) pages: Range<usize>,
    /// When the tile's sections are divided: which division this is a part of.
    pub(super) division: Option<usize>,
    cost: usize,
}

/// A tile whose sections are divided among several tasks.
#[derive(Debug)]
pub(super) struct Division {
    /// Where the results of the first section stand.
    pub(super) at: usize,
    pub(super) sections: Range<usize>,
    unfinished: AtomicUsize,
}

/// The sections in which these pages lie.
pub(super) fn sections(pages: &Range<usize>) -> Range<usize> {
    pages.start / SECTION_PAGES..pages.end.div_ceil(SECTION_PAGES)
}

/// Those of these pages that lie in these sections.
pub(super) fn pages_of(sections: &Range<usize>, pages: &Range<usize>) -> Range<usize> {
    pages.start.max(sections.start * SECTION_PAGES)..pages.end.min(sections.end * SECTION_PAGES)
}

impl Division {
    /// Counts one task as done and says whether it was the last; then all results are to be seen.
    pub(super) fn finish_task(&self) -> bool {
        self.unfinished.fetch_sub(1, Ordering::AcqRel) == 1
    }
}

/// The tasks of a call. Its buffers are reused.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) tasks: Vec<Task>,
    pub(super) divisions: Vec<Division>,
    /// Numbers that the divided sections' results take.
    pub(super) parts_len: usize,
    rows: Vec<Range<usize>>,
}

/// Numbers that one row of a section's result takes: the sum, the largest score, the sum of weights.
pub(super) fn part_row_len(head_dim: usize) -> usize {
    head_dim + 2
}

/// The tokens of a sequence of `len` that the token at `position` sees.
pub(super) fn visible(params: &AttendParams, position: usize, len: usize) -> Range<usize> {
    let window = params.window.unwrap_or(usize::MAX);
    let from = (position + 1).saturating_sub(window);
    let to = match params.causal {
        true => position + 1,
        false => position.saturating_add(window).min(len),
    };
    from..to
}

/// Heads of a tile of few rows: all, unless that leaves threads without work.
fn heads_of_shared_tiles(
    threads: usize,
    kv_heads: usize,
    group: usize,
    sequences: &[AttendSeq<'_>],
) -> usize {
    let tasks: usize = sequences
        .iter()
        .filter(|sequence| sequence.rows * group <= SHARED_ROWS_MAX)
        .map(|sequence| (sequence.len() / PAGE_TOKENS / SECTION_PAGES).max(1))
        .sum();
    let wanted = if threads == 1 { 1 } else { 2 * threads };
    kv_heads.div_ceil(wanted.div_ceil(tasks.max(1)))
}

impl Plan {
    /// # Panics
    /// When two sequences have a row in common.
    pub(super) fn make(
        &mut self,
        threads: usize,
        layout: KvLayout,
        sequences: &[AttendSeq<'_>],
        params: &AttendParams,
    ) {
        self.check_rows(sequences);
        self.tasks.clear();
        self.divisions.clear();
        self.parts_len = 0;
        let group = params.heads / layout.kv_heads;
        let tokens = (TILE_ROWS / group).max(1);
        let shared = heads_of_shared_tiles(threads, layout.kv_heads, group, sequences);
        let mut total = 0;
        for (index, sequence) in sequences.iter().enumerate() {
            let heads = if sequence.rows * group <= SHARED_ROWS_MAX { shared } else { 1 };
            for first in (0..sequence.rows).step_by(tokens) {
                let rows = first..(first + tokens).min(sequence.rows);
                let first = visible(params, sequence.start + rows.start, sequence.len());
                let last = visible(params, sequence.start + rows.end - 1, sequence.len());
                let pages = first.start / PAGE_TOKENS..last.end.div_ceil(PAGE_TOKENS);
                for head in (0..layout.kv_heads).step_by(heads) {
                    let kv_heads = head..(head + heads).min(layout.kv_heads);
                    let (rows, pages) = (rows.clone(), pages.clone());
                    let cost = pages.len() * rows.len() * group * kv_heads.len();
                    total += cost;
                    self.tasks.push(Task { sequence: index, kv_heads, rows, pages, division: None, cost });
                }
            }
        }
        if 1 < threads {
            self.divide(total / (threads * TASKS_EACH), part_row_len(layout.head_dim) * group);
            self.tasks.sort_unstable_by_key(|task| Reverse(task.cost));
        }
    }

    /// Divides tasks of more than twice the aim; `row_len` numbers hold the result of a token's heads of one head of the keys.
    fn divide(&mut self, aim: usize, row_len: usize) {
        for index in 0..self.tasks.len() {
            let task = &mut self.tasks[index];
            let pages = task.pages.clone();
            let all = sections(&pages);
            let parts = (task.cost / aim.max(1)).min(all.len());
            if parts < 2 {
                continue;
            }
            let division = Some(self.divisions.len());
            let (sequence, kv_heads, rows) = (task.sequence, task.kv_heads.clone(), task.rows.clone());
            let cost = task.cost / parts;
            let range = |part: usize| {
                let cut = |part: usize| all.start + all.len() * part / parts;
                pages_of(&(cut(part)..cut(part + 1)), &pages)
            };
            (task.pages, task.division, task.cost) = (range(0), division, cost);
            let at = self.parts_len;
            self.parts_len += all.len() * rows.len() * kv_heads.len() * row_len;
            for part in 1..parts {
                let (kv_heads, rows, pages) = (kv_heads.clone(), rows.clone(), range(part));
                self.tasks.push(Task { sequence, kv_heads, rows, pages, division, cost });
            }
            self.divisions.push(Division { at, sections: all, unfinished: AtomicUsize::new(parts) });
        }
    }

    /// Results are written in parallel, so no two sequences may have a row in common.
    fn check_rows(&mut self, sequences: &[AttendSeq<'_>]) {
        self.rows.clear();
        self.rows
            .extend(sequences.iter().map(|sequence| sequence.first_row..sequence.first_row + sequence.rows));
        self.rows.sort_unstable_by_key(|rows| (rows.start, rows.end));
        for pair in self.rows.windows(2) {
            assert!(pair[0].end <= pair[1].start, "row {} belongs to two sequences", pair[1].start);
        }
    }
}

#[cfg(test)]
mod tests;
