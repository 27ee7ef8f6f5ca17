//! What a pass computes: whose rows, at which positions.

use bms_kernels::AttendSeq;
use bms_wire::{Code, Error, Result};

use crate::lm::decoder::{DecoderInfo, LogitRows, Segment};
use crate::lm::lora::Adapter;

/// What a pass gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// The logits each segment asks for.
    Logits,
    /// The hidden states of all rows.
    States,
}

/// Neighbouring rows that use the same adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::lm) struct Span {
    pub(in crate::lm) first: usize,
    pub(in crate::lm) rows: usize,
    pub(in crate::lm) adapter: usize,
}

/// How many of a segment's last rows are wanted.
pub(super) fn wanted(segment: &Segment<'_>, want: Want) -> usize {
    match (want, segment.logits) {
        (Want::States, _) | (_, LogitRows::All) => segment.tokens.len(),
        (_, LogitRows::Last) => 1,
        (_, LogitRows::None) => 0,
    }
}

/// The last rows of every segment, `rows(segment)` of each, one after the other.
pub(super) fn sequences<'a>(
    batch: &[Segment<'a>],
    rows: impl Fn(&Segment<'_>) -> usize,
) -> Vec<AttendSeq<'a>> {
    let mut first_row = 0;
    let mut all = Vec::with_capacity(batch.len());
    for segment in batch {
        let rows = rows(segment);
        if 0 < rows {
            let start = segment.start + segment.tokens.len() - rows;
            all.push(AttendSeq { pages: segment.pages, start, rows, first_row });
        }
        first_row += rows;
    }
    all
}

/// The same rows, by the adapter they use.
pub(super) fn spans(batch: &[Segment<'_>], rows: impl Fn(&Segment<'_>) -> usize) -> Vec<Span> {
    let mut first = 0;
    let mut spans: Vec<Span> = Vec::new();
    for segment in batch {
        let rows = rows(segment);
        if let Some(adapter) = segment.adapter.filter(|_| 0 < rows) {
            match spans.last_mut() {
                Some(last) if last.adapter == adapter && last.first + last.rows == first => last.rows += rows,
                _ => spans.push(Span { first, rows, adapter }),
            }
        }
        first += rows;
    }
    spans
}

/// Checks what a caller has to get right.
pub(super) fn check(batch: &[Segment<'_>], info: &DecoderInfo, adapters: &[Option<Adapter>]) -> Result<()> {
    let wrong = |what: String| Err(Error::new(Code::Internal, format!("the batch is wrong: {what}")));
    for segment in batch {
        let end = segment.start.saturating_add(segment.tokens.len());
        if segment.tokens.is_empty() {
            return wrong("a segment has no tokens".to_owned());
        }
        if info.context < end {
            return wrong(format!("a segment ends at position {end} of {}", info.context));
        }
        if segment.pages.len() < end.div_ceil(info.page_tokens) {
            return wrong(format!("{} pages are given for {end} positions", segment.pages.len()));
        }
        if let Some(page) = segment.pages.iter().find(|page| info.pages <= **page as usize) {
            return wrong(format!("page {page} of {}", info.pages));
        }
        if let Some(token) = segment.tokens.iter().find(|token| info.vocab <= **token as usize) {
            return wrong(format!("token {token} of a vocabulary of {}", info.vocab));
        }
        if segment.adapter.is_some_and(|adapter| !matches!(adapters.get(adapter), Some(Some(_)))) {
            return wrong(format!("there is no adapter {:?}", segment.adapter));
        }
    }
    Ok(())
}
