//! Kept-alive connections to one slot process over its Unix socket, and whether its work moves.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bms_wire::{api, limits};
use bytes::Bytes;
use http::response::Parts;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use super::progress::Reports;

/// Requests one process works on at a time. More than its engine puts into a batch, so that a batch
/// fills while another runs; few enough that their file descriptors do not run out.
pub(crate) const CONNECTIONS_MAX: usize = 256;
const _: () = assert!(2 * limits::BATCH_ROWS_MAX <= CONNECTIONS_MAX, "a batch fills while another runs");

/// Why an exchange with a slot process failed.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The process or the connection has gone; whether the request was worked on is unknown.
    Lost(String),
    /// The answer is larger than any client accepts.
    Oversized,
}

/// The connections to one process.
#[derive(Debug)]
pub(crate) struct Connections {
    socket: PathBuf,
    idle: Mutex<Vec<Connection>>,
    seats: Arc<Semaphore>,
    progress: Mutex<Progress>,
    /// Rung when a request got no answer in all the time it had.
    overdue: Notify,
    /// What the process says of its work.
    reports: Arc<Reports>,
}

#[derive(Debug)]
struct Progress {
    outstanding: usize,
    answered: u64,
    /// When something last moved: an answer, or a request after a time without any.
    moved: Instant,
    /// Steps of the process's engine when they were looked at last.
    steps: Option<u64>,
    /// For how long nothing had moved or worked then, although a request was outstanding.
    quiet: Duration,
}

impl Connections {
    pub(crate) fn new(socket: PathBuf, reports: Arc<Reports>) -> Self {
        Connections {
            socket,
            idle: Mutex::new(Vec::new()),
            seats: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            progress: Mutex::new(Progress {
                outstanding: 0,
                answered: 0,
                moved: Instant::now(),
                steps: None,
                quiet: Duration::ZERO,
            }),
            overdue: Notify::new(),
            reports,
        }
    }

    /// Waits until the process works on few enough requests to take one more.
    pub(crate) async fn seat(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        self.seats.clone().acquire_owned().await.ok()
    }

    /// A place to work on one more request, if there is one now.
    pub(crate) fn free_seat(&self) -> Option<OwnedSemaphorePermit> {
        self.seats.clone().try_acquire_owned().ok()
    }

    /// Sends a request and reads the whole answer, so that an answer broken off half way can be asked
    /// for again elsewhere.
    pub(crate) async fn exchange(
        self: &Arc<Self>,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, Broken> {
        let (parts, answer) = self.begin(request).await?;
        Ok(Response::from_parts(parts, answer.whole().await?))
    }

    /// Sends a request and waits for the head of the answer. Dropping the answer closes the connection, by which the
    /// process learns that nobody waits for the rest.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        request: Request<Full<Bytes>>,
    ) -> Result<(Parts, Coming), Broken> {
        let waiting = Outstanding::begin(self);
        let mut connection = self.connection().await?;
        let response = connection.sender.send_request(request).await.map_err(lost)?;
        let (parts, body) = response.into_parts();
        let coming =
            Coming { connections: self.clone(), connection: Some(connection), body, waiting: Some(waiting) };
        Ok((parts, coming))
    }

    /// A connection that was kept, or a fresh one.
    async fn connection(&self) -> Result<Connection, Broken> {
        loop {
            let kept = lock(&self.idle).pop();
            let Some(mut connection) = kept else { break };
            if connection.sender.ready().await.is_ok() {
                return Ok(connection);
            }
        }
        let stream = UnixStream::connect(&self.socket).await.map_err(lost)?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
        let driver = tokio::spawn(async move {
            // Its failure shows as the failure of the request it carried.
            let _ = driver.await;
        });
        Ok(Connection { sender, driver: driver.abort_handle() })
    }

    /// Says that something came from the process.
    fn touch(&self) {
        let mut progress = lock(&self.progress);
        progress.answered += 1;
        progress.moved = Instant::now();
    }

    /// Requests sent and not answered.
    pub(crate) fn outstanding(&self) -> usize {
        lock(&self.progress).outstanding
    }

    /// Answers and pieces of answers so far.
    pub(crate) fn answered(&self) -> u64 {
        lock(&self.progress).answered
    }

    /// How long nothing has moved although a request is outstanding; zero when none is.
    pub(crate) fn stalled_for(&self) -> Duration {
        let progress = lock(&self.progress);
        if progress.outstanding == 0 { Duration::ZERO } else { progress.moved.elapsed() }
    }

    /// Takes over how far the process says it is. A step moves as an answer does.
    pub(crate) fn look_at_steps(&self) {
        let steps = self.reports.last().map(|reported| reported.steps);
        let mut progress = lock(&self.progress);
        if progress.steps != steps {
            (progress.steps, progress.moved) = (steps, Instant::now());
        }
    }

    /// Notes for how long nothing has moved or worked.
    pub(crate) fn note_quiet(&self, quiet: Duration) {
        lock(&self.progress).quiet = quiet;
    }

    /// Whether the process said anything of its work in this time.
    pub(crate) fn heard_within(&self, time: Duration) -> bool {
        self.reports.heard_within(time)
    }

    /// Whether its work moves, as of the last look; it is replaced when it stands still for `hung_after`.
    pub(crate) fn view(&self, hung_after: Duration) -> api::SlotProgress {
        let progress = lock(&self.progress);
        api::SlotProgress {
            moving: progress.quiet < hung_after / 2,
            waiting: progress.outstanding as u64,
            age_seconds: progress.quiet.as_secs_f64(),
            steps: progress.steps,
        }
    }

    /// How long ago something moved.
    pub(crate) fn moved_ago(&self) -> Duration {
        lock(&self.progress).moved.elapsed()
    }

    /// Says that a request got no answer in all the time it had, nor did any other meanwhile.
    pub(crate) fn report_overdue(&self) {
        self.overdue.notify_one();
    }

    /// Waits for such a report.
    pub(crate) async fn overdue(&self) {
        self.overdue.notified().await;
    }
}

/// A connection to the process. Dropping it closes it at once, whatever is under way on it.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// An answer whose head has come.
#[derive(Debug)]
pub(crate) struct Coming {
    connections: Arc<Connections>,
    /// Until the answer is complete; then it is kept for the next request.
    connection: Option<Connection>,
    body: Incoming,
    /// While the process is waited for. A client that does not take what has come leaves the process nothing to
    /// do, which is not its fault.
    waiting: Option<Outstanding>,
}

impl Coming {
    /// The next piece; `None` after the last.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        loop {
            if self.waiting.is_none() {
                self.waiting = Some(Outstanding::begin(&self.connections));
            }
            let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
            match frame.transpose() {
                Err(e) => {
                    self.waiting = None;
                    self.connection = None;
                    return Poll::Ready(Some(Err(lost(e))));
                }
                Ok(frame) => {
                    self.waiting = None;
                    self.connections.touch();
                    let Some(frame) = frame else {
                        lock(&self.connections.idle).extend(self.connection.take());
                        return Poll::Ready(None);
                    };
                    // Trailers mean nothing here.
                    let Ok(data) = frame.into_data() else { continue };
                    return Poll::Ready(Some(Ok(data)));
                }
            }
        }
    }

    /// The next piece; `None` after the last.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// All of it, which is bounded.
    pub(crate) async fn whole(mut self) -> Result<Bytes, Broken> {
        let mut whole = Vec::new();
        let mut first = Bytes::new();
        while let Some(piece) = self.next().await.transpose()? {
            if limits::REPLY_BYTES_MAX < whole.len().max(first.len()) + piece.len() {
                return Err(Broken::Oversized);
            }
            // The usual one comes in one piece and is never copied.
            match (first.is_empty(), whole.is_empty()) {
                (true, true) => first = piece,
                (_, true) => whole = [&first[..], &piece[..]].concat(),
                (_, false) => whole.extend_from_slice(&piece),
            }
        }
        Ok(if whole.is_empty() { first } else { whole.into() })
    }
}

/// Counts a request as outstanding for as long as it lives.
#[derive(Debug)]
struct Outstanding(Arc<Connections>);

impl Outstanding {
    fn begin(connections: &Arc<Connections>) -> Self {
        let mut progress = lock(&connections.progress);
        if progress.outstanding == 0 {
            progress.moved = Instant::now();
        }
        progress.outstanding += 1;
        Outstanding(connections.clone())
    }
}

impl Drop for Outstanding {
    fn drop(&mut self) {
        lock(&self.0.progress).outstanding -= 1;
    }
}

fn lost(error: impl std::fmt::Display) -> Broken {
    Broken::Lost(error.to_string())
}

/// Nothing that holds these locks can leave them half changed, so a panic elsewhere is survived.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
