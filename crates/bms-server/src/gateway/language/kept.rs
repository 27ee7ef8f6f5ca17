//! What is kept of a stream while it goes out, and how it goes on in a fresh slot.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bms_wire::{Code, Error, Result, limits};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::Full;
use memchr::memmem;

use super::{Ask, Target, too_late};
use crate::continuation::{CONTINUABLE, CONTINUES, Continuation, MARK, Mark};
use crate::event::{Event, StreamContinued};
use crate::failure::Dialect;
use crate::gateway::{Gateway, Room, Time};
use crate::slots::{Coming, Lease, Slot};

/// A fresh slot's answer on its way.
pub(super) type GoingOn = Pin<Box<dyn Future<Output = Result<(Lease, Coming)>> + Send>>;

/// The request of a stream, and how far its answer has come.
pub(super) struct Kept {
    gateway: Arc<Gateway>,
    /// With the version that began: another one would go on differently.
    target: Target,
    dialect: Dialect,
    path: String,
    headers: HeaderMap,
    body: Bytes,
    whole: Time,
    /// Its room among the bodies of all requests.
    _room: Option<Room>,
    marked: Marked,
    times: usize,
    /// Of these, since something new was said.
    stuck: usize,
}

/// Events with marks among them.
#[derive(Debug, Default)]
struct Marked {
    /// What the marks said; `None` before the first one, and of a stream that has said too much.
    continuation: Option<Continuation>,
    /// Bytes of all marks.
    bytes: usize,
    /// What came after the last mark.
    held: BytesMut,
    /// Something new was said.
    moved: bool,
    /// Something was said at all, more than what comes before anything is known.
    begun: bool,
    /// The last mark has come.
    ended: bool,
    /// Why the slot says that it cannot go on.
    lost: Option<String>,
}

impl Kept {
    pub(super) fn new(gateway: Arc<Gateway>, target: Target, ask: &Ask<'_>, room: Option<Room>) -> Self {
        Kept {
            gateway,
            target,
            dialect: ask.dialect,
            path: ask.path.to_owned(),
            headers: ask.headers.clone(),
            body: ask.body.clone(),
            whole: ask.whole,
            _room: room,
            marked: Marked::default(),
            times: 0,
            stuck: 0,
        }
    }

    /// Takes a piece of the slot's answer. Gives the events whose mark is there.
    ///
    /// # Errors
    /// [`Code::Internal`] when the slot does not mark what it writes.
    pub(super) fn take(&mut self, piece: &[u8]) -> Result<Bytes> {
        let events = self.marked.take(piece);
        if std::mem::take(&mut self.marked.moved) {
            self.stuck = 0;
        }
        events
    }

    /// Whether the model has begun to answer. What its slot writes while the request waits, to keep the connection alive, is no
    /// answer yet.
    pub(super) fn has_begun(&self) -> bool {
        self.marked.begun
    }

    /// Whether all of the answer has gone out.
    pub(super) fn has_ended(&self) -> bool {
        self.marked.ended
    }

    /// What follows in a fresh slot, after this one was lost; `None` when it cannot go on any more.
    pub(super) fn go_on(&mut self, lease: Option<Lease>, why: String) -> Option<GoingOn> {
        self.marked.held.clear();
        let why = self.marked.lost.take().unwrap_or(why);
        self.times += 1;
        self.stuck += 1;
        if limits::CONTINUATIONS_MAX < self.times || limits::CONTINUATIONS_STUCK_MAX < self.stuck {
            return None;
        }
        let (body, length) = self.marked.continuation.as_ref()?.before(&self.body).ok()?;
        let (gateway, target, whole) = (self.gateway.clone(), self.target.clone(), self.whole);
        let (dialect, path, headers) = (self.dialect, self.path.clone(), self.headers.clone());
        Some(Box::pin(async move {
            let door = gateway.language_route(&target)?.door;
            door.slot_lost();
            door.repetitions().spend(&target.model)?;
            StreamContinued { model: &target.model, why: &why }.emit(&gateway.metrics);
            let lost = match lease {
                Some(lease) => Some(gateway.leave(lease, 1, 0).await),
                None => None,
            };
            // How long its beginning may take is its reader's to say.
            let ask = Ask { dialect, path: &path, headers, body: &body, time: whole, whole };
            gateway.begin_again(&target, &ask, length, lost).await
        }))
    }
}

impl Marked {
    fn take(&mut self, piece: &[u8]) -> Result<Bytes> {
        self.held.extend_from_slice(piece);
        let mut events = BytesMut::new();
        while let Some((from, to)) = mark_in(&self.held) {
            let before = self.held.split_to(to);
            events.extend_from_slice(&before[..from]);
            let mark = serde_json::from_slice(&before[from + MARK.len()..]);
            let mark: Mark =
                mark.map_err(|e| Error::new(Code::Internal, "a slot's mark cannot be read").because(e))?;
            self.note(mark, to - from);
        }
        if limits::CONTINUATION_BYTES_MAX < self.held.len() {
            return Err(Error::new(Code::Internal, "a slot writes without marks"));
        }
        Ok(events.freeze())
    }

    fn note(&mut self, mark: Mark, bytes: usize) {
        self.bytes += bytes;
        self.ended |= mark.ended;
        self.lost = self.lost.take().or(mark.lost);
        if let Some(begin) = mark.begin {
            self.continuation = Some(Continuation::new(begin));
        }
        self.moved |= !mark.heard.is_empty();
        self.begun |= self.moved || mark.ended;
        if limits::CONTINUATION_BYTES_MAX < self.bytes {
            self.continuation = None;
        }
        if let Some(continuation) = &mut self.continuation {
            continuation.names = continuation.names.max(mark.names);
            continuation.heard.extend(mark.heard);
        }
    }
}

impl Gateway {
    /// Has a slot go on with a stream, after one was lost.
    async fn begin_again(
        &self,
        target: &Target,
        ask: &Ask<'_>,
        length: usize,
        mut avoid: Option<Arc<Slot>>,
    ) -> Result<(Lease, Coming)> {
        let mut attempt = 0;
        loop {
            let lease = self.lease_language(target, ask, avoid.as_ref()).await?;
            let mut request: Request<Full<Bytes>> = ask.slot_request()?;
            request.headers_mut().insert(CONTINUES, length.into());
            let why = match lease.begin(request, ask.whole.deadline()).await {
                None => return Err(too_late(target, ask)),
                Some(Ok((parts, coming))) if parts.headers.contains_key(&CONTINUABLE) => {
                    return Ok((lease, coming));
                }
                // All that the lost slot answered ask the fresh one at once: that its queue is full passes.
                Some(Ok((parts, _))) if parts.status == StatusCode::TOO_MANY_REQUESTS => {
                    attempt = 0;
                    "its queue is full".to_owned()
                }
                Some(Ok((parts, _))) => format!("the slot answers {}", parts.status),
                Some(Err(broken)) => format!("{broken:?}"),
            };
            attempt += 1;
            if limits::LANGUAGE_RETRIES_MAX < attempt {
                let what = format!("the answer of `{}` cannot go on: {why}", target.model);
                return Err(Error::new(Code::Unavailable, what));
            }
            tracing::debug!(slot = %lease.of(), "a stream does not go on yet: {why}");
            avoid = Some(self.leave(lease, attempt.max(1), attempt).await);
        }
    }
}

/// Where the first mark begins and ends. It is a line of its own, after the blank line of an event.
fn mark_in(bytes: &[u8]) -> Option<(usize, usize)> {
    let from = memmem::find_iter(bytes, MARK).find(|at| *at == 0 || bytes[at - 1] == b'\n')?;
    let length = memmem::find(&bytes[from..], b"\n\n")?;
    Some((from, from + length + 2))
}

#[cfg(test)]
mod tests;
