//! An answer on its way through, piece by piece.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use bms_wire::{Code, Error, anthropic, openai};
use bytes::Bytes;
use http::StatusCode;
use hyper::body::{Body, Frame};
use tokio::time::{Instant, Sleep};

use super::kept::{GoingOn, Kept};
use super::{Ask, LET_IT_WAIT};
use crate::failure::Dialect;
use crate::gateway::Time;
use crate::gateway::door::Place;
use crate::gateway::record::Record;
use crate::slots::{Broken, Coming, Lease};

/// The status under which answers are counted that broke off.
const BROKEN_OFF: StatusCode = StatusCode::BAD_GATEWAY;

/// What an answer occupies until its last piece.
pub(super) struct Held {
    /// Keeps the slot from being unloaded.
    pub(super) lease: Option<Lease>,
    /// Its place at the model's door.
    pub(super) place: Place,
    pub(super) record: Option<Record>,
    pub(super) status: StatusCode,
}

impl Held {
    fn end(self, status: StatusCode) {
        if let Some(record) = self.record {
            record.end(status);
        }
    }
}

/// A streamed answer as a response's body. Nothing is read ahead: a piece is taken from the slot when the client's
/// connection has room for it. Dropping it closes the exchange with the slot.
pub(super) struct Relay {
    first: Option<Bytes>,
    coming: Option<Coming>,
    held: Option<Held>,
    /// By which it goes on when its slot is lost.
    kept: Option<Kept>,
    /// It does so now.
    going_on: Option<GoingOn>,
    /// By which the answer shall have begun; once it has, by which it shall have ended.
    deadline: Pin<Box<Sleep>>,
    /// By which it shall have begun, until it has.
    begins: Option<Time>,
    ends: Instant,
    dialect: Dialect,
    model: String,
    /// What went out ends with a whole event.
    is_between_events: bool,
}

impl Relay {
    pub(super) fn new(
        first: Bytes,
        coming: Coming,
        held: Held,
        ask: &Ask<'_>,
        model: String,
        kept: Option<Kept>,
    ) -> Self {
        Relay {
            first: Some(first),
            coming: Some(coming),
            held: Some(held),
            kept,
            going_on: None,
            deadline: Box::pin(tokio::time::sleep_until(ask.time.deadline())),
            begins: Some(ask.time),
            ends: ask.whole.deadline(),
            dialect: ask.dialect,
            model,
            is_between_events: true,
        }
    }

    fn pass(&mut self, piece: Bytes) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let has_begun = self.kept.as_ref().is_none_or(Kept::has_begun);
        if let Some(held) = &mut self.held {
            held.place.moves();
            if has_begun && held.status.is_success() {
                held.place.begins();
            }
        }
        if has_begun && self.begins.take().is_some() {
            self.deadline.as_mut().reset(self.ends);
        }
        if let Some(end) = piece.len().checked_sub(1) {
            self.is_between_events = piece[end] == b'\n' && (end == 0 || piece[end - 1] == b'\n');
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    /// Goes on in a fresh slot, if it can.
    fn lose(&mut self, why: String) -> Result<(), Error> {
        self.coming = None;
        let lease = self.held.as_mut().and_then(|held| held.lease.take());
        self.going_on = self.kept.as_mut().and_then(|kept| kept.go_on(lease, why.clone()));
        match self.going_on {
            Some(_) => Ok(()),
            None => {
                let what = format!("the answer of `{}` broke off: {why}", self.model);
                Err(Error::new(Code::Unavailable, what).hint("Send the request again."))
            }
        }
    }

    fn end(&mut self) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.coming = None;
        if let Some(held) = self.held.take() {
            let status = held.status;
            held.end(status);
        }
        Poll::Ready(None)
    }

    /// Waits for what comes, until the time is over.
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.deadline.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                let (what, hint) = match self.begins {
                    None => ("was not complete in the time allowed".to_owned(), "Ask for fewer tokens."),
                    Some(time) => {
                        let seconds = time.allowed().as_secs_f32();
                        let is_clients = time.deadline() < self.ends;
                        let hint =
                            if is_clients { LET_IT_WAIT } else { "Send the request again after a pause." };
                        (format!("did not begin within {seconds} s"), hint)
                    }
                };
                let what = format!("the answer of `{}` {what}", self.model);
                self.break_off(Error::new(Code::DeadlineExceeded, what).hint(hint))
            }
        }
    }

    /// Ends the answer before its end: with an event that says why, or, in the middle of an event, by breaking the
    /// connection.
    fn break_off(&mut self, error: Error) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        (self.coming, self.going_on) = (None, None);
        if let Some(held) = self.held.take() {
            let slot = held.lease.as_ref().map(|lease| tracing::field::display(lease.of()));
            tracing::warn!(
                slot,
                model = self.model,
                code = error.code().as_str(),
                "an answer broke off: {error}"
            );
            held.end(BROKEN_OFF);
        }
        match self.is_between_events {
            true => Poll::Ready(Some(Ok(Frame::data(event(self.dialect, &error))))),
            false => Poll::Ready(Some(Err(error))),
        }
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            if let Some(going_on) = &mut self.going_on {
                match going_on.as_mut().poll(context) {
                    Poll::Pending => return self.wait(context),
                    Poll::Ready(Err(error)) => return self.break_off(error),
                    Poll::Ready(Ok((lease, coming))) => {
                        (self.going_on, self.coming) = (None, Some(coming));
                        if let Some(held) = &mut self.held {
                            held.lease = Some(lease);
                        }
                    }
                }
            }
            let next = match (self.first.take(), &mut self.coming) {
                (Some(first), _) => Poll::Ready(Some(Ok(first))),
                (None, Some(coming)) => coming.poll_next(context),
                (None, None) => return Poll::Ready(None),
            };
            let lost = match next {
                Poll::Pending => return self.wait(context),
                Poll::Ready(Some(Ok(piece))) => match self.kept.as_mut().map(|kept| kept.take(&piece)) {
                    None => return self.pass(piece),
                    Some(Err(error)) => return self.break_off(error),
                    Some(Ok(events)) if events.is_empty() => continue,
                    Some(Ok(events)) => return self.pass(events),
                },
                Poll::Ready(None) if self.kept.as_ref().is_none_or(Kept::has_ended) => return self.end(),
                Poll::Ready(None) => "its slot cannot go on".to_owned(),
                Poll::Ready(Some(Err(Broken::Lost(_))))
                    if self.kept.as_ref().is_some_and(Kept::has_ended) =>
                {
                    return self.end();
                }
                Poll::Ready(Some(Err(Broken::Lost(why)))) => why,
                Poll::Ready(Some(Err(broken))) => broken.to_string(),
            };
            if let Err(error) = self.lose(lost) {
                return self.break_off(error);
            }
        }
    }
}

/// An error as the last event of a stream.
fn event(dialect: Dialect, error: &Error) -> Bytes {
    let (name, text) = match dialect {
        Dialect::Anthropic => {
            ("event: error\n", serde_json::to_string(&anthropic::ErrorEnvelope::from(error)))
        }
        Dialect::Own | Dialect::Mlflow | Dialect::OpenAi => {
            ("", serde_json::to_string(&openai::ErrorEnvelope::from(error)))
        }
    };
    // Texts and nothing else: it can always be written.
    format!("{name}data: {}\n\n", text.unwrap_or_default()).into()
}
