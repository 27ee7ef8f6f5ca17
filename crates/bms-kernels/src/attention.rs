//! Attention over the paged keys and values.

use crate::kv::PAGE_TOKENS;
use crate::{KvStore, PageId, Pool};

mod reference;

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

/// For every row and head, the mean of the values weighted by the softmax of the query's scores with the keys.
/// `queries` and `out` hold `heads` × `head_dim` numbers a row; rows of no sequence stay as they are.
///
/// # Panics
/// When lengths do not fit the store's layout, or a sequence's pages or rows are missing.
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
    let _ = pool;
    reference::attend(store, layer, sequences, queries, out, params);
}
