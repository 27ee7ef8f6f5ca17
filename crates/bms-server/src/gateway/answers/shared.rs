//! A streamed answer on its way to several who asked the same, each of whom reads at its own speed.
//!
//! Nobody waits for another one's connection: whoever has read all that is there takes the next piece from the slot. When one
//! leaves, the first one too, the others go on; when all have left, the slot is told. What has come is held until the end, and
//! kept then if it is a whole answer. Of an answer that gets too long for that only what somebody has still to read is held, and
//! who reads fast waits for who reads slowly.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};

use axum::body::{Body, HttpBody};
use bms_wire::{Code, Error};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response};
use hyper::body::Frame;

use super::{Answers, COMING_SHARE, Ended, Key, Renewal};
use crate::gateway::door::Place;
use crate::keys::Ticket;
use crate::slots::VersionName;

/// How far somebody may read ahead of others in an answer that is too long to be held.
const AHEAD_BYTES_MAX: usize = 64 << 10;

/// Where a stream comes from.
pub(in crate::gateway) struct Origin {
    pub(in crate::gateway) headers: HeaderMap,
    pub(in crate::gateway) body: Body,
    /// How one that is whole ends.
    pub(in crate::gateway) ended: Ended,
    /// What whoever asked first asks by.
    pub(in crate::gateway) ticket: Option<Arc<Ticket>>,
}

/// A stream that several read.
#[derive(Debug)]
pub(in crate::gateway) struct Shared {
    answers: Arc<Answers>,
    key: Key,
    of: VersionName,
    headers: HeaderMap,
    ended: Ended,
    state: Mutex<State>,
    wakers: Arc<Wakers>,
}

#[derive(Debug)]
struct State {
    /// The slot's answer until its end.
    source: Option<Body>,
    /// Why it broke off, if it did.
    broken: Option<String>,
    pieces: VecDeque<Bytes>,
    /// The number of the first of them.
    first: usize,
    bytes: usize,
    /// The number of the piece each reader reads next; none for those that left.
    places: Vec<Option<usize>>,
    /// All of it is there so far, and is kept if it comes to a good end.
    is_held: bool,
    /// Who asked first did not stay to the end.
    first_left: bool,
}

/// Those who wait for the next piece, by their numbers. The slot wakes all of them: any may be gone by then.
#[derive(Debug, Default)]
struct Wakers(Mutex<Vec<Option<Waker>>>);

impl Wakers {
    fn lock(&self) -> MutexGuard<'_, Vec<Option<Waker>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, number: usize, waker: Option<Waker>) {
        let mut wakers = self.lock();
        if wakers.len() <= number {
            wakers.resize(number + 1, None);
        }
        wakers[number] = waker;
    }
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let waiting: Vec<_> = self.lock().iter_mut().filter_map(Option::take).collect();
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Shared {
    /// A stream that begins, and its first reader.
    pub(super) fn begin(
        answers: Arc<Answers>,
        key: Key,
        of: VersionName,
        origin: Origin,
    ) -> (Arc<Shared>, Reader) {
        let Origin { headers, body, ended, ticket } = origin;
        let state = State {
            source: Some(body),
            broken: None,
            pieces: VecDeque::new(),
            first: 0,
            bytes: 0,
            places: vec![Some(0)],
            is_held: true,
            first_left: false,
        };
        let state = Mutex::new(state);
        let shared = Shared { answers, key, of, headers, ended, state, wakers: Arc::default() };
        let shared = Arc::new(shared);
        let first = Reader { shared: shared.clone(), number: 0, at: 0, along: None, ticket, place: None };
        (shared, first)
    }

    /// Reads along from the beginning; `None` when that is not there any more.
    pub(super) fn join(self: &Arc<Self>) -> Option<Reader> {
        let mut state = self.lock();
        if !state.is_held {
            return None;
        }
        let number = state.places.iter().position(Option::is_none).unwrap_or(state.places.len());
        if number == state.places.len() {
            state.places.push(None);
        }
        state.places[number] = Some(0);
        drop(state);
        Some(Reader {
            shared: self.clone(),
            number,
            at: 0,
            along: Some(Along::default()),
            ticket: None,
            place: None,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A piece is either there or not, whatever happened to who took it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a piece from the slot.
    fn take(self: &Arc<Self>, state: &mut State, piece: Bytes) {
        let (answers, bytes) = (&self.answers, piece.len());
        state.bytes += bytes;
        state.pieces.push_back(piece);
        let all = answers.coming.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        let is_too_much = answers.settings.memory / COMING_SHARE < all;
        if state.is_held && (is_too_much || !answers.is_small(state.bytes as u64)) {
            self.let_go(state);
        }
        self.trim(state);
    }

    /// Holds no more of it than its readers need.
    fn let_go(self: &Arc<Self>, state: &mut State) {
        state.is_held = false;
        self.answers.forget(&self.key, &Arc::downgrade(self));
    }

    fn trim(&self, state: &mut State) {
        if state.is_held {
            return;
        }
        let needed = state.places.iter().flatten().min().copied();
        while needed.is_some_and(|needed| state.first < needed)
            && let Some(piece) = state.pieces.pop_front()
        {
            state.first += 1;
            state.bytes -= piece.len();
            self.answers.coming.fetch_sub(piece.len() as u64, Ordering::Relaxed);
        }
    }

    /// The slot's answer is over.
    fn end(self: &Arc<Self>, state: &mut State, broken: Option<String>) {
        state.source = None;
        state.broken = broken;
        if !state.is_held {
            return;
        }
        let mut whole = BytesMut::with_capacity(state.bytes);
        state.pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
        if state.broken.is_none() && self.ended.is_good(&whole) {
            let mut answer = Response::new(whole.freeze());
            *answer.headers_mut() = self.headers.clone();
            self.answers.put(self.key, self.of.clone(), answer);
            state.is_held = false;
        } else {
            self.let_go(state);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.answers.coming.fetch_sub(state.bytes as u64, Ordering::Relaxed);
    }
}

/// One who reads a stream.
#[derive(Debug)]
pub(in crate::gateway) struct Reader {
    shared: Arc<Shared>,
    number: usize,
    /// The number of the piece that comes next.
    at: usize,
    /// Somebody else asked for it.
    along: Option<Along>,
    ticket: Option<Arc<Ticket>>,
    /// Its place at the model's door, where it did not get one with the slot.
    place: Option<Place>,
}

/// What an answer needs that was another's: a name of its own.
#[derive(Debug, Default)]
struct Along {
    renewal: Option<Renewal>,
    /// What has come of an event.
    event: BytesMut,
    /// There is nothing behind it.
    is_over: bool,
}

impl Along {
    /// The whole events with this piece.
    fn take(&mut self, piece: &[u8]) -> Bytes {
        self.event.extend_from_slice(piece);
        let whole = memchr::memmem::rfind(&self.event, b"\n\n").map_or(0, |at| at + 2);
        let events = self.event.split_to(whole);
        let renewal = &mut self.renewal;
        if renewal.is_none() {
            *renewal = Renewal::of_stream(&events);
        }
        renewal.as_ref().map_or_else(|| events.clone().freeze(), |renewal| renewal.apply(&events))
    }
}

impl Reader {
    /// Reads a stream along with whoever asked first, by this ticket and from this place.
    pub(in crate::gateway) fn by(mut self, ticket: Option<Arc<Ticket>>, place: Place) -> Self {
        (self.ticket, self.place) = (ticket, Some(place));
        self
    }

    /// The headers of the answer.
    pub(in crate::gateway) fn headers(&self) -> HeaderMap {
        self.shared.headers.clone()
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, axum::Error>>> {
        let shared = self.shared.clone();
        let mut state = shared.lock();
        loop {
            if let Some(piece) = self.at.checked_sub(state.first).and_then(|n| state.pieces.get(n)).cloned() {
                self.at += 1;
                state.places[self.number] = Some(self.at);
                if !state.is_held {
                    shared.trim(&mut state);
                    // Who is ahead may have waited for this.
                    shared.wakers.wake_by_ref();
                }
                return Poll::Ready(Some(Ok(piece)));
            }
            let has_room = state.is_held || state.bytes < AHEAD_BYTES_MAX;
            let Some(source) = &mut state.source else {
                let why = state.broken.clone();
                let error = |why| axum::Error::new(Error::new(Code::Unavailable, why));
                return Poll::Ready(why.map(|why| Err(error(why))));
            };
            shared.wakers.set(self.number, Some(context.waker().clone()));
            if !has_room {
                return Poll::Pending;
            }
            let waker = Waker::from(shared.wakers.clone());
            match ready!(Pin::new(source).poll_frame(&mut Context::from_waker(&waker))) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => shared.take(&mut state, piece),
                    // There are no trailers on the way to a client.
                    Err(_) => continue,
                },
                None => shared.end(&mut state, None),
                Some(Err(error)) => shared.end(&mut state, Some(error.to_string())),
            }
            shared.wakers.set(self.number, None);
            shared.wakers.wake_by_ref();
        }
    }
}

impl HttpBody for Reader {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        loop {
            if self.along.as_ref().is_some_and(|along| along.is_over) {
                return Poll::Ready(None);
            }
            let piece = ready!(self.poll_piece(context)?);
            let Some(along) = &mut self.along else {
                return Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))));
            };
            let events = match &piece {
                Some(piece) => along.take(piece),
                None => {
                    along.is_over = true;
                    along.event.split().freeze()
                }
            };
            if piece.is_none() {
                self.place = None;
                if !self.shared.lock().first_left {
                    self.ticket.iter().for_each(|ticket| ticket.costs_nothing());
                }
            }
            if !events.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(events))));
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let shared = self.shared.clone();
        let mut state = shared.lock();
        state.places[self.number] = None;
        shared.wakers.set(self.number, None);
        if self.along.is_none() {
            let unread = self.at.saturating_sub(state.first);
            // Who reads along pays nothing: what was written for whoever asked first counts, taken or not.
            if let Some(ticket) = &self.ticket {
                state.pieces.iter().skip(unread).for_each(|piece| ticket.said(piece));
            }
            state.first_left = state.source.is_some();
        }
        shared.trim(&mut state);
        let has_readers = state.places.iter().any(Option::is_some);
        if !has_readers && state.source.is_some() {
            // Nobody reads along with one that ends in the middle.
            shared.let_go(&mut state);
        }
        drop(state);
        shared.wakers.wake_by_ref();
    }
}

#[cfg(test)]
mod tests;
