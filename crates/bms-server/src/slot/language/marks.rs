//! Marks between the events of a streamed answer, by which it can go on in another slot; see [`crate::continuation`].

use axum::extract::Request;
use bms_engine::lm::{Event, Said, fresh_seed};
use bms_wire::generation::Generation;
use bms_wire::{Code, Error, Result, limits};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Language, aside, now};
use crate::body;
use crate::continuation::{Beginning, CONTINUABLE, CONTINUES, Continuation, Heard, Mark};

/// Whether a request asks for marks, and where it goes on from.
#[derive(Debug)]
pub(super) struct Asked {
    marks: bool,
    continuation: Option<Continuation>,
}

/// What an answer is called.
#[derive(Clone, Debug)]
pub(super) struct Name {
    pub(super) id: String,
    pub(super) created: u64,
}

/// Where the answers of a job begin.
#[derive(Clone, Debug, Default)]
pub(super) struct Origin {
    /// What random numbers come from when the request names no seed.
    pub(super) drawn: Option<u64>,
    /// What each answer has said already; empty for a new request.
    pub(super) said: Vec<Said>,
}

/// As [`super::prepared`], for requests that may go on from somewhere.
pub(super) async fn prepared<T: Send + 'static>(
    language: Arc<Language>,
    request: Request,
    work: impl FnOnce(&Language, &Bytes, Asked) -> Result<T> + Send + 'static,
) -> Result<T> {
    let marks = request.headers().contains_key(&CONTINUABLE);
    let length = request.headers().get(&CONTINUES).map(|value| {
        let length = value.to_str().ok().and_then(|value| value.parse::<usize>().ok());
        length.ok_or_else(|| Error::new(Code::InvalidRequest, "the length of a continuation is no number"))
    });
    let length = length.transpose()?;
    let body = body::read(request, limits::INFER_BODY_BYTES_MAX, |_| Ok(())).await?;
    aside(move || match length {
        None => work(&language, &body, Asked { marks, continuation: None }),
        Some(length) => {
            let (continuation, body) = Continuation::split(&body, length)?;
            // What is called something here is not called what something in the lost slot was.
            language.answers.fetch_max(continuation.names, Ordering::Relaxed);
            work(&language, &body, Asked { marks: true, continuation: Some(continuation) })
        }
    })
    .await
}

impl Asked {
    /// The name of the answer: a new one that begins like this, or the one it had.
    pub(super) fn name(&self, language: &Language, prefix: &str) -> Name {
        match &self.continuation {
            Some(Continuation { begin, .. }) => Name { id: begin.id.clone(), created: begin.created },
            None => Name { id: language.identifier(prefix), created: now() },
        }
    }

    /// The same for an answer that cannot go on elsewhere.
    pub(super) fn without_marks(self) -> Self {
        Asked { marks: false, ..self }
    }

    /// The marks of a stream of so many answers; none where nobody asked for them, or for a whole document.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when something is to go on that has no marks.
    pub(super) fn marks(self, name: &Name, generation: &Generation, answers: usize) -> Result<Option<Marks>> {
        if !generation.stream || !self.marks {
            let lost = self.continuation.is_some();
            let refused =
                || Error::new(Code::InvalidRequest, "this answer cannot go on where another one ended");
            return if lost { Err(refused()) } else { Ok(None) };
        }
        let (n, with_scores) = (generation.n, generation.logprobs.is_some());
        let mark = Mark::default();
        Ok(Some(match self.continuation {
            Some(continuation) => Marks {
                n,
                with_scores,
                known: continuation.events(answers),
                origin: Origin { drawn: Some(continuation.begin.seed), said: continuation.said(answers) },
                goes_on: true,
                told: vec![0; answers],
                mark,
            },
            None => {
                let seed = fresh_seed();
                let begin = Some(Beginning { id: name.id.clone(), created: name.created, seed });
                let origin = Origin { drawn: Some(seed), said: Vec::new() };
                let (known, told) = (vec![0; answers], vec![0; answers]);
                Marks { n, with_scores, known, origin, goes_on: false, told, mark: Mark { begin, ..mark } }
            }
        }))
    }
}

/// The marks of one stream.
#[derive(Debug)]
pub(super) struct Marks {
    /// Answers a prompt gets.
    n: usize,
    with_scores: bool,
    /// Events of each answer that the client has had from another slot.
    known: Vec<usize>,
    /// Events of each answer so far.
    told: Vec<usize>,
    origin: Origin,
    goes_on: bool,
    /// What is to be told.
    mark: Mark,
}

impl Marks {
    /// Where the answers begin.
    pub(super) fn origin(&mut self) -> Origin {
        std::mem::take(&mut self.origin)
    }

    /// Whether the client has had the beginning.
    pub(super) fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// Notes an event of the prompt `number`; whether the client knows it already.
    pub(super) fn note(&mut self, number: usize, event: &Event) -> bool {
        let (index, tokens) = match event {
            Event::Tokens { index, tokens, .. } => (*index, &tokens[..]),
            Event::Done { index, .. } => (*index, &[][..]),
            Event::Prompt { .. } | Event::Failed(_) => return false,
        };
        let index = number * self.n + index;
        let (Some(told), Some(known)) = (self.told.get_mut(index), self.known.get(index)) else {
            return false;
        };
        *told += 1;
        let is_known = *told <= *known;
        if !is_known {
            self.mark.heard.push(Heard::new(index, tokens, self.with_scores));
        }
        is_known
    }

    /// Notes that nothing follows.
    pub(super) fn end(&mut self) {
        self.mark.ended = true;
    }

    /// Notes that this slot cannot go on.
    pub(super) fn lose(&mut self, why: &str) {
        self.mark.lost = Some(why.to_owned());
    }

    /// Whether there is something to tell besides events.
    pub(super) fn is_pressing(&self) -> bool {
        self.mark.lost.is_some()
    }

    /// Writes the mark of what was written since the last one.
    pub(super) fn write(&mut self, language: &Language, out: &mut Vec<u8>) {
        let names = language.answers.load(Ordering::Relaxed);
        let mark = Mark { names, ..std::mem::take(&mut self.mark) };
        if let Err(error) = mark.write(out) {
            tracing::error!("{error}");
        }
    }
}
