//! Kept-alive connections to one slot process, and whether its work moves.

use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bms_wire::{Error, api, limits};
use bytes::Bytes;
use http::response::Parts;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::SendRequest;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::AbortHandle;

use super::address::Address;
use super::direct::{Answered, Direct};
use super::progress::Reports;
use super::request::Inference;
use super::translate::Back;
use crate::listen::FAST_BODY_BYTES_MAX;

/// Requests one process works on at a time. More than its engine puts into a batch, so that a batch
/// fills while another runs; few enough that their file descriptors do not run out.
pub(crate) const CONNECTIONS_MAX: usize = 256;
const _: () = assert!(2 * limits::BATCH_ROWS_MAX <= CONNECTIONS_MAX, "a batch fills while another runs");

/// Names the process a request is for where several are behind one address.
pub(crate) const PROCESS: HeaderName = HeaderName::from_static("bms-slot");

/// Why an exchange with a slot process failed.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The process or the connection has gone; whether the request was worked on is unknown.
    Lost(String),
    /// The answer is larger than any client accepts.
    Oversized,
    /// An external engine is not asked for this, or its answer is no answer; asking again would not help.
    Refused(Error),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Lost(why) => f.write_str(why),
            Broken::Oversized => f.write_str("its answer is too large"),
            Broken::Refused(error) => error.fmt(f),
        }
    }
}

/// The connections to one process.
#[derive(Debug)]
pub(crate) struct Connections {
    address: Address,
    idle: Mutex<Vec<Connection>>,
    /// Those for small requests to a slot of this machine.
    idle_direct: Mutex<Vec<Direct>>,
    seats: Arc<Semaphore>,
    progress: Mutex<Progress>,
    /// Rung when a request got no answer in all the time it had.
    overdue: Notify,
    /// Rung when an exchange broke off.
    trouble: Notify,
    /// Set once, when there is nobody at the other end any more: what is under way is given up.
    closed: watch::Sender<bool>,
    /// What the process says of its work.
    reports: Arc<Reports>,
    /// Which of several processes behind one address is meant.
    process: Option<HeaderValue>,
    /// The tasks of all connections, for when they have to end at once.
    drivers: Mutex<Vec<AbortHandle>>,
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
    pub(crate) fn new(address: Address, reports: Arc<Reports>) -> Self {
        Connections::with_seats(address, reports, CONNECTIONS_MAX)
    }

    /// Connections to a process that works on so many requests at a time.
    pub(crate) fn with_seats(address: Address, reports: Arc<Reports>, seats: usize) -> Self {
        Connections {
            address,
            idle: Mutex::new(Vec::new()),
            idle_direct: Mutex::default(),
            seats: Arc::new(Semaphore::new(seats)),
            progress: Mutex::new(Progress {
                outstanding: 0,
                answered: 0,
                moved: Instant::now(),
                steps: None,
                quiet: Duration::ZERO,
            }),
            overdue: Notify::new(),
            trouble: Notify::new(),
            closed: watch::Sender::new(false),
            reports,
            process: None,
            drivers: Mutex::default(),
        }
    }

    /// Names the process behind the address in every request.
    pub(crate) fn with_process(mut self, process: HeaderValue) -> Self {
        self.process = Some(process);
        self
    }

    /// Ends all connections at once, whatever is under way on them.
    pub(crate) fn cut(&self) {
        lock(&self.idle).clear();
        lock(&self.idle_direct).clear();
        lock(&self.drivers).drain(..).for_each(|driver| driver.abort());
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
        back: Back,
    ) -> Result<Response<Bytes>, Broken> {
        let (mut parts, answer) = self.begin(request, back).await?;
        let body = answer.whole(&mut parts).await?;
        Ok(Response::from_parts(parts, body))
    }

    /// The socket on which a slot of this program is asked directly, see [`Connections::infer`].
    pub(super) fn nearby(&self, body_bytes: usize) -> Option<&Path> {
        match &self.address {
            Address::Unix(socket) if body_bytes <= FAST_BODY_BYTES_MAX => Some(socket),
            _ => None,
        }
    }

    /// Has a slot of this machine answer a small inference request; `None` when it did not by `deadline`.
    pub(super) async fn infer(
        self: &Arc<Self>,
        socket: &Path,
        inference: &Inference<'_>,
        deadline: tokio::time::Instant,
    ) -> Result<Option<Response<Bytes>>, Broken> {
        let _waiting = Outstanding::begin(self);
        let kept = || lock(&self.idle_direct).pop();
        let mut connection = match std::iter::from_fn(kept).find_map(Direct::still_open) {
            Some(connection) => connection,
            None => {
                // In its place: together there are no more than the process works on requests.
                drop(lock(&self.idle).pop());
                match tokio::time::timeout_at(deadline, Direct::connect(socket)).await {
                    Ok(connected) => connected?,
                    Err(_) => return Ok(None),
                }
            }
        };
        let answered = connection.exchange(inference, deadline, || self.touch()).await?;
        Ok(answered.map(|Answered { response, stays_open }| {
            if stays_open {
                lock(&self.idle_direct).push(connection);
            }
            response
        }))
    }

    /// Sends a request and waits for the head of the answer. Dropping the answer closes the connection, by which the
    /// process learns that nobody waits for the rest.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        mut request: Request<Full<Bytes>>,
        back: Back,
    ) -> Result<(Parts, Coming), Broken> {
        if let Some(process) = &self.process {
            request.headers_mut().insert(PROCESS, process.clone());
        }
        let waiting = Outstanding::begin(self);
        let begun = async {
            let mut connection = self.connection().await?;
            let response = connection.sender.send_request(request).await.map_err(lost)?;
            Ok::<_, Broken>((connection, response))
        };
        let begun = match back {
            Back::Own => begun.await,
            _ => tokio::select! {
                begun = begun => begun.inspect_err(|_| self.trouble()),
                () = self.closing() => Err(given_up()),
            },
        };
        let (connection, response) = begun?;
        let (mut parts, body) = response.into_parts();
        let back = back.head(&mut parts)?;
        let closing: Option<Closing> = match back {
            // A slot of this program is gone when its connection is.
            Back::Own => None,
            _ => Some(Box::pin(self.clone().closed())),
        };
        let (connections, connection, waiting) = (self.clone(), Some(connection), Some(waiting));
        Ok((parts, Coming { connections, connection, body, waiting, back, closing }))
    }

    /// Gives up whatever is under way: there is nobody at the other end any more.
    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
    }

    async fn closing(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    async fn closed(self: Arc<Self>) {
        self.closing().await;
    }

    /// Says that an exchange broke off.
    pub(crate) fn trouble(&self) {
        self.trouble.notify_one();
    }

    /// Waits for that.
    pub(crate) async fn troubled(&self) {
        self.trouble.notified().await;
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
        drop(lock(&self.idle_direct).pop());
        let (sender, driver) = self.address.connect().await?;
        let mut drivers = lock(&self.drivers);
        drivers.retain(|driver| !driver.is_finished());
        drivers.push(driver.clone());
        drop(drivers);
        Ok(Connection { sender, driver })
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
pub(crate) struct Coming {
    connections: Arc<Connections>,
    /// Until the answer is complete; then it is kept for the next request.
    connection: Option<Connection>,
    body: Incoming,
    /// While the process is waited for. A client that does not take what has come leaves the process nothing to
    /// do, which is not its fault.
    waiting: Option<Outstanding>,
    /// How it becomes what the client asked for.
    back: Back,
    /// Done when there is nobody at the other end any more.
    closing: Option<Closing>,
}

/// Done once connections are closed.
type Closing = Pin<Box<dyn Future<Output = ()> + Send>>;

impl fmt::Debug for Coming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coming").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl Coming {
    /// The next piece; `None` after the last.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        loop {
            if self.connection.is_none() {
                return Poll::Ready(None);
            }
            if self.closing.as_mut().is_some_and(|closing| closing.as_mut().poll(context).is_ready()) {
                (self.waiting, self.connection) = (None, None);
                return Poll::Ready(Some(Err(given_up())));
            }
            if self.waiting.is_none() {
                self.waiting = Some(Outstanding::begin(&self.connections));
            }
            let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
            match frame.transpose() {
                Err(e) => {
                    self.waiting = None;
                    self.connection = None;
                    self.connections.trouble();
                    return Poll::Ready(Some(Err(lost(e))));
                }
                Ok(frame) => {
                    self.waiting = None;
                    self.connections.touch();
                    let Some(frame) = frame else {
                        lock(&self.connections.idle).extend(self.connection.take());
                        let rest = match &mut self.back {
                            Back::Stream(events) => events.rest(),
                            _ => None,
                        };
                        return Poll::Ready(rest.map(Ok));
                    };
                    // Trailers mean nothing here.
                    let Ok(data) = frame.into_data() else { continue };
                    match &mut self.back {
                        Back::Stream(events) => match events.take(&data) {
                            // None is whole yet.
                            Ok(events) if events.is_empty() => continue,
                            taken => return Poll::Ready(Some(taken)),
                        },
                        _ => return Poll::Ready(Some(Ok(data))),
                    }
                }
            }
        }
    }

    /// The next piece; `None` after the last.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// All of it, which is bounded, to the head that came before.
    pub(crate) async fn whole(mut self, parts: &mut Parts) -> Result<Bytes, Broken> {
        let said = parts.headers.get(http::header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let said = said.and_then(|length| length.parse().ok()).unwrap_or(0).min(limits::REPLY_BYTES_MAX);
        let mut whole = Vec::new();
        let mut first = Bytes::new();
        while let Some(piece) = self.next().await.transpose()? {
            if limits::REPLY_BYTES_MAX < whole.len().max(first.len()) + piece.len() {
                return Err(Broken::Oversized);
            }
            // The usual one comes in one piece and is never copied.
            match (first.is_empty(), whole.is_empty()) {
                (true, true) => first = piece,
                (_, true) => {
                    // In its place once, however many pieces follow.
                    whole.reserve_exact(said.max(first.len() + piece.len()));
                    whole.extend_from_slice(&first);
                    whole.extend_from_slice(&piece);
                }
                (_, false) => whole.extend_from_slice(&piece),
            }
        }
        Ok(self.back.whole(parts, if whole.is_empty() { first } else { whole.into() }))
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

fn given_up() -> Broken {
    Broken::Lost("it has gone".to_owned())
}

pub(super) fn lost(error: impl std::fmt::Display) -> Broken {
    Broken::Lost(error.to_string())
}

/// Nothing that holds these locks can leave them half changed, so a panic elsewhere is survived.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
