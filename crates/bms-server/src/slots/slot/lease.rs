//! A slot that is borrowed for one request, and asking it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bms_wire::Error;
use bms_wire::api::SlotState;
use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::Slot;
use crate::fleet::InFlight;
use crate::slots::VersionName;
use crate::slots::connections::{Broken, Coming, Connections};
use crate::slots::request::Inference;
use crate::slots::translate::{self, Back};

/// How long the end of a process that broke a connection is waited for. A process that breaks
/// connections and lives is asked again after that.
const LOSS_NOTICED_WITHIN: Duration = Duration::from_millis(100);

/// A slot borrowed for one request.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(super) slot: Returned,
    pub(super) connections: Arc<Connections>,
    pub(super) generation: u64,
    /// The process's place for the request.
    pub(super) seat: Option<OwnedSemaphorePermit>,
    /// Counts the request among those its version works on.
    pub(super) counted: Option<InFlight>,
}

/// Counts down the leases when dropped.
#[derive(Debug)]
pub(super) struct Returned(pub(super) Arc<Slot>);

impl Drop for Returned {
    fn drop(&mut self) {
        if self.0.leases.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.unused.notify_waiters();
        }
    }
}

impl Lease {
    /// Counts its request among those of its version.
    pub(crate) fn count(&mut self, counted: InFlight) {
        self.counted = Some(counted);
    }

    /// The slot.
    pub(crate) fn slot(&self) -> &Arc<Slot> {
        &self.slot.0
    }

    /// The version that answers.
    pub(crate) fn of(&self) -> &VersionName {
        self.slot.0.of()
    }

    /// Sends a request to the process and reads its answer. `None` when there was none by `deadline`.
    pub(crate) async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        deadline: Instant,
        hung_after: Duration,
    ) -> Option<Result<Response<Bytes>, Broken>> {
        let began = self.begun();
        let (request, back) = match self.translated(request).await {
            Ok(translated) => translated,
            Err(refused) => return Some(Err(Broken::Refused(refused))),
        };
        let exchanged = tokio::time::timeout_at(deadline, self.connections.exchange(request, back)).await;
        self.ended(began, exchanged.ok(), hung_after)
    }

    /// Has the process answer an inference request. `None` when it had not by `deadline`.
    pub(crate) async fn infer(
        &self,
        headers: &HeaderMap,
        body: &Bytes,
        deadline: Instant,
        hung_after: Duration,
    ) -> Option<Result<Response<Bytes>, Broken>> {
        let inference = Inference { of: self.of(), headers, body };
        if self.slot.0.runner.engine().is_none()
            && let Some(socket) = self.connections.nearby(body.len())
        {
            let began = self.begun();
            let answered = self.connections.infer(socket, &inference, deadline).await;
            return self.ended(began, answered.transpose(), hung_after);
        }
        match inference.request() {
            // The way of few requests, which is not to make all of them larger.
            Ok(request) => Box::pin(self.exchange(request, deadline, hung_after)).await,
            Err(error) => Some(Err(Broken::Refused(error))),
        }
    }

    /// When an exchange begins, and what the process had answered by then.
    fn begun(&self) -> (Instant, u64) {
        (Instant::now(), self.connections.answered())
    }

    /// What became of an exchange, counted; told to whoever watches the process when it had all its time and nothing moved.
    fn ended(
        &self,
        (began, answered): (Instant, u64),
        exchanged: Option<Result<Response<Bytes>, Broken>>,
        hung_after: Duration,
    ) -> Option<Result<Response<Bytes>, Broken>> {
        match &exchanged {
            Some(Ok(_)) => {
                self.slot.0.requests.fetch_add(1, Ordering::Relaxed);
            }
            Some(Err(_)) => {}
            None if hung_after <= began.elapsed() && answered == self.connections.answered() => {
                self.connections.report_overdue();
            }
            None => {}
        }
        exchanged
    }

    /// Sends a request to the process and waits for the head of its answer. `None` when there was none by `deadline`.
    ///
    /// That a language model computes for as long as a request may take is no sign that it hangs: nothing is
    /// reported, and that the connection closes tells it to stop.
    pub(crate) async fn begin(
        &self,
        request: Request<Full<Bytes>>,
        deadline: Instant,
    ) -> Option<Result<(Parts, Coming), Broken>> {
        let (request, back) = match self.translated(request).await {
            Ok(translated) => translated,
            Err(refused) => return Some(Err(Broken::Refused(refused))),
        };
        let begun = tokio::time::timeout_at(deadline, self.connections.begin(request, back)).await.ok()?;
        if begun.is_ok() {
            self.slot.0.requests.fetch_add(1, Ordering::Relaxed);
        }
        Some(begun)
    }

    /// A request as its process knows it.
    async fn translated(&self, request: Request<Full<Bytes>>) -> Result<(Request<Full<Bytes>>, Back), Error> {
        match self.slot.0.runner.engine() {
            None => Ok((request, Back::Own)),
            Some(engine) => translate::outgoing(engine, self.of(), request).await,
        }
    }

    /// Waits until the supervisor has noticed that the process has gone, or shortly.
    pub(crate) async fn lost(self) {
        let mut condition = self.slot.0.condition.subscribe();
        let generation = self.generation;
        let gone = condition.wait_for(|c| c.generation != generation || c.state != SlotState::Ready);
        // Not noticed in time is an answer too: the process lives and is asked again.
        let _ = tokio::time::timeout(LOSS_NOTICED_WITHIN, gone).await;
    }
}
