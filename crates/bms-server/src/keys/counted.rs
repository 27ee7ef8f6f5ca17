//! Reading off an answer on its way out how many tokens it took.
//!
//! What the engine says counts: `usage` of a document, of a stream's last event, or, of Anthropic's streams, of its first and
//! last. A stream of OpenAI's protocols that was not asked to say it has none: there each event counts as a token, which is
//! how engines send them, and the prompt as it was estimated. A document that does not say counts as it was estimated.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use memchr::memmem;
use serde::Deserialize;

use super::caller::Ticket;

/// In the text of an answer it cannot stand like this: quotes are escaped there.
const USAGE: &[u8] = b"\"usage\":";
/// How events with text begin.
const EVENT: &[u8] = b"data: {";
/// Bytes of `usage` at most.
const USAGE_BYTES_MAX: usize = 2048;

/// What was read off an answer so far.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    usage: Option<Usage>,
    events: u64,
    /// The end of what was looked at, in which `usage` may have begun.
    rest: Vec<u8>,
}

/// As OpenAI and Anthropic name it. A prompt's tokens that were in a cache are among `prompt_tokens` of the one, and beside
/// `input_tokens` of the other (<https://docs.anthropic.com/en/api/messages>).
#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Usage {
    #[serde(default, alias = "input_tokens")]
    prompt_tokens: Option<u64>,
    #[serde(default, alias = "output_tokens")]
    completion_tokens: Option<u64>,
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
    #[serde(default)]
    cache_creation_input_tokens: Option<u64>,
}

impl Usage {
    /// Of each the larger.
    fn or(self, other: Usage) -> Usage {
        Usage {
            prompt_tokens: self.prompt_tokens.max(other.prompt_tokens),
            completion_tokens: self.completion_tokens.max(other.completion_tokens),
            cache_read_input_tokens: self.cache_read_input_tokens.max(other.cache_read_input_tokens),
            cache_creation_input_tokens: self
                .cache_creation_input_tokens
                .max(other.cache_creation_input_tokens),
        }
    }

    fn total(self) -> u64 {
        let cached = [self.cache_read_input_tokens, self.cache_creation_input_tokens];
        let all = [self.prompt_tokens, self.completion_tokens].into_iter().chain(cached);
        all.flatten().fold(0, u64::saturating_add)
    }
}

impl Tokens {
    pub(super) fn look(&mut self, piece: &[u8]) {
        self.events += memmem::find_iter(piece, EVENT).count() as u64;
        if self.rest.is_empty() && memmem::find(piece, USAGE).is_none() {
            self.keep(&piece[piece.len().saturating_sub(USAGE.len() - 1)..]);
            return;
        }
        let mut rest = std::mem::take(&mut self.rest);
        rest.extend_from_slice(piece);
        let mut at = 0;
        while let Some(found) = memmem::find(&rest[at..], USAGE) {
            let value = at + found + USAGE.len();
            let mut values = serde_json::Deserializer::from_slice(&rest[value..]).into_iter::<Usage>();
            match values.next() {
                Some(Ok(usage)) => self.heard(usage),
                Some(Err(e)) if e.is_eof() && rest.len() - value < USAGE_BYTES_MAX => {
                    self.rest = rest.split_off(at + found);
                    return;
                }
                // The rest of it comes with the next piece.
                None if rest.len() - value < USAGE_BYTES_MAX => {
                    self.rest = rest.split_off(at + found);
                    return;
                }
                // `null` in the events before the last.
                _ => {}
            }
            at = value;
        }
        self.keep(&rest[rest.len().saturating_sub(USAGE.len() - 1).max(at)..]);
    }

    /// Keeps the end of a piece if `usage` may begin in it.
    fn keep(&mut self, end: &[u8]) {
        self.rest.clear();
        let begins = |at: &usize| USAGE.starts_with(&end[*at..]);
        if let Some(at) = (0..end.len()).find(begins) {
            self.rest.extend_from_slice(&end[at..]);
        }
    }

    /// Streams say it more than once, and more each time.
    fn heard(&mut self, usage: Usage) {
        self.usage = Some(self.usage.unwrap_or_default().or(usage));
    }

    /// All tokens, of a request whose prompt was estimated at so many, and answer at so many.
    pub(super) fn total(&self, prompt: u64, answer: u64) -> u64 {
        match self.usage {
            Some(usage) => usage.total(),
            None if self.events != 0 => prompt.saturating_add(self.events),
            None => prompt.saturating_add(answer),
        }
    }
}

/// An answer that is counted, and holds its request's ticket until it is out.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) body: Body,
    pub(super) ticket: Arc<Ticket>,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(piece) = frame.data_ref()
        {
            self.ticket.said(piece);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
