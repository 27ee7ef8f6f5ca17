//! The body of a call whose bytes are counted while they arrive, so that all requests together fit into memory.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http_body::Frame;
use tonic::Status;

use super::status;
use crate::gateway::{Gateway, Room};

/// Room for what has arrived and was not taken yet.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    gateway: Arc<Gateway>,
    arrived: Arc<Mutex<(Room, usize)>>,
}

impl Meter {
    pub(super) fn new(gateway: &Arc<Gateway>) -> Self {
        let arrived = Arc::new(Mutex::new((gateway.room(), 0)));
        Meter { gateway: gateway.clone(), arrived }
    }

    /// The room of the message that has just been read, for as long as it is worked on. A piece of the next message may be
    /// in it, too.
    pub(super) fn take(&self) -> Room {
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *arrived, (self.gateway.room(), 0)).0
    }

    /// The body, counted.
    pub(super) fn body(&self, body: Body) -> Metered {
        Metered { meter: self.clone(), body }
    }
}

/// A body that fails when there is no room for more of it.
#[derive(Debug)]
pub(super) struct Metered {
    meter: Meter,
    body: Body,
}

impl http_body::Body for Metered {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(context)) else {
            return Poll::Ready(None);
        };
        let frame = frame.map_err(|_| Status::cancelled("the request ended before it was complete"))?;
        if let Some(data) = frame.data_ref() {
            let mut arrived = self.meter.arrived.lock().unwrap_or_else(PoisonError::into_inner);
            arrived.1 = arrived.1.saturating_add(data.len());
            let size = arrived.1;
            arrived.0.widen(size).map_err(|error| status::of(&error))?;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
