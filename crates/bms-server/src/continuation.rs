//! What a gateway keeps of a streamed answer, so that it can go on in a fresh slot when its slot is lost.
//!
//! ```text
//! gateway ── request, `x-bms-continuable: 1` ──────────────▶ slot
//!         ◀── events, `: bms {mark}`, events, `: bms {mark}` ── a mark covers the events before it
//!            passes events on once their mark is there, keeps the marks
//!         ── `x-bms-continues: N`, N bytes of marks, request ─▶ the next slot, which writes what follows
//! ```
//!
//! These headers pass between a gateway and its slots alone, over the slots' sockets: from clients they are refused.

use bms_engine::lm::{Said, SaidToken, TokenOut};
use bms_wire::{Code, Error, Result};
use bytes::Bytes;
use http::HeaderName;
use serde::{Deserialize, Serialize};

/// Asks a slot for marks, and says that an answer has some.
pub(crate) const CONTINUABLE: HeaderName = HeaderName::from_static("x-bms-continuable");
/// How many bytes of a request's body are a [`Continuation`]; the request as it was follows them.
pub(crate) const CONTINUES: HeaderName = HeaderName::from_static("x-bms-continues");
/// How the line of a mark begins. The text of an event cannot hold it: JSON has no line breaks.
pub(crate) const MARK: &[u8] = b": bms ";

/// How a stream began: what is not a function of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Beginning {
    /// The answer's identifier.
    pub(crate) id: String,
    /// When it was made, in seconds since 1970.
    pub(crate) created: u64,
    /// What its random numbers come from when the request names no seed.
    pub(crate) seed: u64,
}

/// One event of the engine: the tokens it told, none for the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Heard {
    /// The answer's number among all of the request.
    #[serde(rename = "i")]
    pub(crate) index: usize,
    #[serde(rename = "t")]
    tokens: Vec<u32>,
    /// How likely each was, when the request asks for that.
    #[serde(rename = "s", default, skip_serializing_if = "Vec::is_empty")]
    scores: Vec<Score>,
}

/// A token's logarithm of probability, and the likeliest ones beside it. Minus infinity, which JSON has not, is absent.
type Score = (Option<f32>, Vec<(u32, Option<f32>)>);

impl Heard {
    pub(crate) fn new(index: usize, tokens: &[TokenOut], with_scores: bool) -> Self {
        let score = |token: &TokenOut| {
            let top = token.top.iter().map(|(id, logprob)| (*id, logprob.is_finite().then_some(*logprob)));
            (token.logprob, top.collect())
        };
        let scores = if with_scores { tokens.iter().map(score).collect() } else { Vec::new() };
        Heard { index, tokens: tokens.iter().map(|token| token.id).collect(), scores }
    }

    fn said(&self) -> Vec<SaidToken> {
        let mut scores = self.scores.iter();
        let token = |id: &u32| {
            let (logprob, top) = scores.next().cloned().unwrap_or_default();
            let top = top.into_iter().map(|(id, logprob)| (id, logprob.unwrap_or(f32::NEG_INFINITY)));
            SaidToken { id: *id, logprob, top: top.collect() }
        };
        self.tokens.iter().map(token).collect()
    }
}

/// What a slot says between the events of a stream, of the events since the last mark.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// In the first mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) begin: Option<Beginning>,
    /// Events of the engine that are written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) heard: Vec<Heard>,
    /// Identifiers the slot has given out: the next slot gives others.
    pub(crate) names: u64,
    /// Nothing follows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) ended: bool,
    /// The slot cannot go on, for this reason; another one can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lost: Option<String>,
}

impl Mark {
    /// The mark as a comment among events.
    ///
    /// # Errors
    /// [`Code::Internal`] when it cannot be written as JSON.
    pub(crate) fn write(&self, out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(MARK);
        serde_json::to_writer(&mut *out, self)
            .map_err(|e| Error::new(Code::Internal, "a mark cannot be written").because(e))?;
        out.extend_from_slice(b"\n\n");
        Ok(())
    }
}

/// All marks of a stream together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Continuation {
    pub(crate) begin: Beginning,
    pub(crate) names: u64,
    pub(crate) heard: Vec<Heard>,
}

impl Continuation {
    pub(crate) fn new(begin: Beginning) -> Self {
        Continuation { begin, names: 0, heard: Vec::new() }
    }

    /// A request's body that goes on with it, and the bytes of it that are no part of the request.
    ///
    /// # Errors
    /// [`Code::Internal`] when it cannot be written as JSON.
    pub(crate) fn before(&self, request: &[u8]) -> Result<(Bytes, usize)> {
        let mut body = serde_json::to_vec(self)
            .map_err(|e| Error::new(Code::Internal, "a continuation cannot be written").because(e))?;
        let length = body.len();
        body.extend_from_slice(request);
        Ok((body.into(), length))
    }

    /// Reads what [`Continuation::before`] wrote: it, and the request.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] for anything else.
    pub(crate) fn split(body: &Bytes, length: usize) -> Result<(Continuation, Bytes)> {
        let invalid = |what: String| Error::new(Code::InvalidRequest, what);
        let own = body.get(..length).ok_or_else(|| {
            invalid(format!("a body of {} bytes has no {length} to go on from", body.len()))
        })?;
        let continuation = serde_json::from_slice(own)
            .map_err(|e| invalid(format!("nothing can go on from it: {e}")).because(e))?;
        Ok((continuation, body.slice(length..)))
    }

    /// Events each of so many answers has told.
    pub(crate) fn events(&self, answers: usize) -> Vec<usize> {
        let mut events = vec![0; answers];
        for heard in &self.heard {
            if let Some(count) = events.get_mut(heard.index) {
                *count += 1;
            }
        }
        events
    }

    /// What each of so many answers has said.
    pub(crate) fn said(&self, answers: usize) -> Vec<Said> {
        let mut said = vec![Said::new(); answers];
        for heard in &self.heard {
            if let Some(answer) = said.get_mut(heard.index) {
                answer.push(heard.said());
            }
        }
        said
    }
}

#[cfg(test)]
mod tests;
