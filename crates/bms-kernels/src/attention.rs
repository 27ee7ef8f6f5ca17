//! Attention over the paged keys and values, without ever holding a row of all scores
//! (<https://arxiv.org/abs/2205.14135>).
//!
//! A task is a *tile* of query rows (some tokens, all heads that share a head of the keys) and a range of pages. It
//! walks the pages four at a time: scores, their exponentials relative to the largest score so far, the weighted sum
//! of the values. Tokens of a page lie side by side in a vector for the scores, dimensions of a head for the sum.
//!
//! ```text
//! plan ─▶ tasks ─▶ threads ─▶ results
//!                     └─────▶ sections of a long context ─▶ the last one joins them
//! ```

use std::cell::RefCell;

use crate::kv::PAGE_TOKENS;
use crate::{KvKind, KvStore, PageId, Pool};

mod chunk;
mod codes;
mod kernels;
mod merge;
mod plan;
#[cfg(test)]
mod reference;
mod tile;

use codes::{Bytes, Floats, Halves};
use plan::Plan;

/// A sequence's share of a call of [`attend`]: the rows (tokens) asked about, and where the keys and values of the
/// sequence stand.
#[derive(Clone, Copy, Debug)]
pub struct AttendSeq<'a> {
    /// The pages of the sequence's tokens, 16 each, from its first token to at least the last row asked about.
    pub pages: &'a [PageId],
    /// The place in the sequence of the first row's token.
    pub start: usize,
    /// Rows, of consecutive tokens.
    pub rows: usize,
    /// The first row's place among the rows of the call.
    pub first_row: usize,
}

impl AttendSeq<'_> {
    /// # Panics
    /// When pages are missing or not in the store, or the rows are not among `rows`.
    pub(crate) fn check(&self, store: &KvStore, rows: usize) {
        let pages = self.len().div_ceil(PAGE_TOKENS);
        assert!(pages <= self.pages.len(), "{} tokens in {} pages", self.len(), self.pages.len());
        for &page in &self.pages[..pages] {
            assert!((page as usize) < store.pages(), "page {page} of {}", store.pages());
        }
        let end = self.first_row.checked_add(self.rows);
        assert!(
            end.is_some_and(|end| end <= rows),
            "rows {} and {} more of {rows}",
            self.first_row,
            self.rows
        );
    }

    /// Tokens of the sequence, up to the last row's.
    fn len(&self) -> usize {
        self.start.saturating_add(self.rows)
    }
}

/// How queries attend to keys.
#[derive(Clone, Copy, Debug)]
pub struct AttendParams {
    /// Heads of the queries, a multiple of the heads of the keys; consecutive ones share a head of the keys.
    pub heads: usize,
    /// What scores are multiplied with.
    pub scale: f32,
    /// Only tokens less than so far away are seen; with `causal` that is the token itself and `window - 1` before it.
    pub window: Option<usize>,
    /// Scores become `softcap * tanh(score / softcap)`.
    pub softcap: Option<f32>,
    /// Whether a token sees only itself and those before it, or all of its sequence (up to its last row).
    pub causal: bool,
}

/// What all tasks of one call share.
struct Work<'a> {
    store: &'a KvStore,
    layer: usize,
    sequences: &'a [AttendSeq<'a>],
    queries: &'a [f32],
    out: Output,
    params: &'a AttendParams,
    plan: &'a Plan,
    /// Where divided sections of long contexts leave their sums.
    parts: Output,
}

/// Numbers that threads write, each its own.
struct Output {
    start: *mut f32,
    len: usize,
}

// SAFETY: threads write through it to different numbers.
unsafe impl Sync for Output {}

impl Output {
    fn new(numbers: &mut [f32]) -> Output {
        Output { start: numbers.as_mut_ptr(), len: numbers.len() }
    }

    /// # Safety
    /// The numbers behind it are still borrowed for this call, and nobody else has a reference to this range of them.
    #[allow(clippy::mut_from_ref)]
    unsafe fn part(&self, at: usize, len: usize) -> &mut [f32] {
        assert!(at <= self.len && len <= self.len - at, "a part lies within the whole");
        // SAFETY: within the numbers, as just checked, and exclusive, as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at), len) }
    }
}

thread_local! {
    /// Buffers of calls from this thread.
    static CALLS: RefCell<(Plan, Vec<f32>)> = RefCell::default();
    /// Buffers of tasks on this thread.
    static SCRATCH: RefCell<tile::Scratch> = RefCell::default();
}

/// For every row and head, the mean of the values weighted by the softmax of the query's scores with the keys.
/// `queries` and `out` hold `heads` × `head_dim` numbers a row; rows of no sequence stay as they are.
///
/// All threads share the work, also that of one row of one long sequence.
///
/// # Panics
/// When lengths do not fit the store's layout, a sequence's pages or rows are missing, or two sequences have a row in
/// common.
pub fn attend(
    pool: &Pool,
    store: &KvStore,
    layer: usize,
    sequences: &[AttendSeq<'_>],
    queries: &[f32],
    out: &mut [f32],
    params: &AttendParams,
) {
    let layout = store.layout();
    let width = params.heads * layout.head_dim;
    assert!(0 < params.heads && params.heads.is_multiple_of(layout.kv_heads), "{} heads", params.heads);
    assert!(params.window != Some(0), "a window of no tokens");
    assert!(layer < store.layers(), "layer {layer} of {}", store.layers());
    assert_eq!(queries.len(), out.len(), "as many results as queries");
    for sequence in sequences {
        sequence.check(store, queries.len() / width);
    }
    let (mut plan, mut parts) = CALLS.take();
    plan.make(pool.threads(), layout, sequences, params);
    if parts.len() < plan.parts_len {
        parts.resize(plan.parts_len, 0.0);
    }
    let work = Work {
        store,
        layer,
        sequences,
        queries,
        out: Output::new(out),
        params,
        plan: &plan,
        parts: Output::new(&mut parts),
    };
    pool.for_each(plan.tasks.len(), &|i| {
        SCRATCH.with_borrow_mut(|scratch| {
            let task = &work.plan.tasks[i];
            match layout.kind {
                KvKind::F16 => tile::attend::<Halves>(pool.isa(), &work, task, scratch),
                KvKind::Q8 => tile::attend::<Bytes>(pool.isa(), &work, task, scratch),
                KvKind::F32 => tile::attend::<Floats>(pool.isa(), &work, task, scratch),
            }
        });
    });
    CALLS.set((plan, parts));
}

#[cfg(test)]
mod tests;
