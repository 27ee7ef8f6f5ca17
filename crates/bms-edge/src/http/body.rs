//! Reading request bodies within their limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bms_wire::{Code, Error, Result, limits};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

/// Bytes of all bodies held at a time: a small machine must not fall to many large requests.
const BODIES_BYTES_MAX: usize = 4 * limits::INFER_BODY_BYTES_MAX;
/// How long a body may take to arrive.
const WITHIN: Duration = Duration::from_millis(limits::INFER_DEADLINE_MS);
/// How long the rest of a refused body is read and thrown away. A client that is still sending does
/// not look at the answer before it is done; closing at once would show it a reset instead.
const LINGER: Duration = Duration::from_secs(5);

/// Bytes of bodies held now.
#[derive(Debug, Default)]
pub(super) struct Budget(AtomicUsize);

/// A body, counted until dropped.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) bytes: Vec<u8>,
    share: Share,
}

#[derive(Debug)]
struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Share {
    fn grow(&mut self, by: usize) -> Result<()> {
        self.bytes += by;
        if BODIES_BYTES_MAX < self.budget.0.fetch_add(by, Ordering::AcqRel) + by {
            return Err(Error::new(Code::QueueFull, "too many large requests at a time"));
        }
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// The whole body, refused as soon as it is known to be over [`limits::INFER_BODY_BYTES_MAX`].
///
/// # Errors
/// [`Code::TooLarge`] over the limit, [`Code::QueueFull`] when too much is held already,
/// [`Code::DeadlineExceeded`] when it comes too slowly, [`Code::InvalidRequest`] when it breaks off.
pub(super) async fn read(mut body: Incoming, budget: &Arc<Budget>) -> Result<Whole> {
    let read = tokio::time::timeout(WITHIN, gather(&mut body, budget)).await.unwrap_or_else(|_| {
        let message = format!("the request did not arrive within {} s", WITHIN.as_secs());
        Err(Error::new(Code::DeadlineExceeded, message))
    });
    if read.is_err() {
        linger(body);
    }
    read
}

/// Throws the rest of a body away in the background, for a short while.
pub(super) fn linger(mut body: Incoming) {
    if body.is_end_stream() {
        return;
    }
    tokio::spawn(async move {
        let rest = async { while let Some(Ok(_)) = body.frame().await {} };
        // Past the time the connection is closed, answer read or not.
        let _ = tokio::time::timeout(LINGER, rest).await;
    });
}

async fn gather(body: &mut Incoming, budget: &Arc<Budget>) -> Result<Whole> {
    let too_large = || {
        let limit = limits::INFER_BODY_BYTES_MAX;
        Err(Error::new(Code::TooLarge, format!("the request's body is over the limit of {limit} bytes"))
            .hint("Send fewer or smaller inputs in one request."))
    };
    if (limits::INFER_BODY_BYTES_MAX as u64) < body.size_hint().lower() {
        return too_large();
    }
    let mut whole = Whole { bytes: Vec::new(), share: Share { budget: budget.clone(), bytes: 0 } };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| {
            Error::new(Code::InvalidRequest, "the request's body ended before it was complete").because(e)
        })?;
        let piece: Bytes = frame.into_data().unwrap_or_default();
        if limits::INFER_BODY_BYTES_MAX < whole.bytes.len() + piece.len() {
            return too_large();
        }
        whole.share.grow(piece.len())?;
        whole.bytes.extend_from_slice(&piece);
    }
    Ok(whole)
}

#[cfg(test)]
mod tests;
