//! Kept-alive connections to one slot process over its Unix socket, and whether its work moves.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bms_wire::limits;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

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
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
    seats: Arc<Semaphore>,
    progress: Mutex<Progress>,
    /// Rung when a request got no answer in all the time it had.
    overdue: Notify,
}

#[derive(Debug)]
struct Progress {
    outstanding: usize,
    answered: u64,
    /// When something last moved: an answer, or a request after a time without any.
    moved: Instant,
}

impl Connections {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Connections {
            socket,
            idle: Mutex::new(Vec::new()),
            seats: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            progress: Mutex::new(Progress { outstanding: 0, answered: 0, moved: Instant::now() }),
            overdue: Notify::new(),
        }
    }

    /// Waits until the process works on few enough requests to take one more.
    pub(crate) async fn seat(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        self.seats.clone().acquire_owned().await.ok()
    }

    /// Sends a request and reads the whole answer, so that an answer broken off half way can be asked
    /// for again elsewhere.
    pub(crate) async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, Broken> {
        let mut watch = Outstanding::begin(self);
        let mut connection = self.connection().await?;
        let response = connection.send_request(request).await.map_err(lost)?;
        let (parts, body) = response.into_parts();
        let body = match Limited::new(body, limits::REPLY_BYTES_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(e) if e.is::<LengthLimitError>() => return Err(Broken::Oversized),
            Err(e) => return Err(Broken::Lost(e.to_string())),
        };
        watch.answered = true;
        lock(&self.idle).push(connection);
        Ok(Response::from_parts(parts, body))
    }

    /// A connection that was kept, or a fresh one.
    async fn connection(&self) -> Result<SendRequest<Full<Bytes>>, Broken> {
        loop {
            let kept = lock(&self.idle).pop();
            let Some(mut connection) = kept else { break };
            if connection.ready().await.is_ok() {
                return Ok(connection);
            }
        }
        let stream = UnixStream::connect(&self.socket).await.map_err(lost)?;
        let (connection, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
        tokio::spawn(async move {
            // Its failure shows as the failure of the request it carried.
            let _ = driver.await;
        });
        Ok(connection)
    }

    /// Requests sent and not answered.
    pub(crate) fn outstanding(&self) -> usize {
        lock(&self.progress).outstanding
    }

    /// Answers so far.
    pub(crate) fn answered(&self) -> u64 {
        lock(&self.progress).answered
    }

    /// How long nothing has moved although a request is outstanding; zero when none is.
    pub(crate) fn stalled_for(&self) -> Duration {
        let progress = lock(&self.progress);
        if progress.outstanding == 0 { Duration::ZERO } else { progress.moved.elapsed() }
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

/// Counts a request as outstanding for as long as it lives.
struct Outstanding<'a> {
    connections: &'a Connections,
    answered: bool,
}

impl<'a> Outstanding<'a> {
    fn begin(connections: &'a Connections) -> Self {
        let mut progress = lock(&connections.progress);
        if progress.outstanding == 0 {
            progress.moved = Instant::now();
        }
        progress.outstanding += 1;
        Outstanding { connections, answered: false }
    }
}

impl Drop for Outstanding<'_> {
    fn drop(&mut self) {
        let mut progress = lock(&self.connections.progress);
        progress.outstanding -= 1;
        if self.answered {
            progress.answered += 1;
            progress.moved = Instant::now();
        }
    }
}

fn lost(error: impl std::fmt::Display) -> Broken {
    Broken::Lost(error.to_string())
}

/// Nothing that holds these locks can leave them half changed, so a panic elsewhere is survived.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
