//! Accepting connections, and letting open ones finish.

mod fast;
mod opening;
mod patient;
mod tls;

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::serve::Listener;
use bms_wire::limits;
use http::{HeaderValue, Request, Version, header};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::AsyncRead;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::again::Again;
pub(crate) use fast::{Answer, BODY_BYTES_MAX as FAST_BODY_BYTES_MAX, FastPath, Nothing};
use opening::Opened;
use patient::Patient;
pub use tls::Tls;

/// Bytes a client of HTTP/2 may send ahead of what was read, of one request and of all on one connection.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Bytes of the headers of one request by HTTP/2.
const HEADERS_BYTES_MAX: u32 = 64 << 10;
/// How often a connection by HTTP/2 has to show that it lives.
const PING_EVERY: Duration = Duration::from_secs(20);

/// How a listener treats its connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Connections open at a time; more wait to be accepted.
    pub(crate) connections_max: usize,
    /// How long a connection may take to send a request's head, and stay without any. Unlimited when
    /// absent.
    pub(crate) head_within: Option<Duration>,
    /// How long the other side may take nothing of an answer before it is cut off. Unlimited when absent.
    pub(crate) taken_within: Option<Duration>,
    /// Whether HTTP/2 is spoken, too, with clients that begin with it.
    pub(crate) http2: bool,
    /// How long open requests get once the listener stops.
    pub(crate) drain: Duration,
}

/// Serves until `shutdown` is done, then lets open requests finish. Returns how many connections were
/// cut off because theirs did not.
pub(crate) async fn serve<F: FastPath>(
    listener: impl Listener,
    router: Router,
    fast: Option<F>,
    terms: Terms,
    shutdown: impl Future<Output = ()>,
) -> usize {
    accept(listener, |_| router.clone(), fast, terms, shutdown).await
}

/// As [`serve`], with routes that know whom the connection is with.
pub(crate) async fn serve_each<L: Listener>(
    listener: L,
    routes: impl Fn(&L::Io) -> Router,
    terms: Terms,
    shutdown: impl Future<Output = ()>,
) -> usize {
    accept(listener, routes, None::<Nothing>, terms, shutdown).await
}

async fn accept<L: Listener, F: FastPath>(
    mut listener: L,
    routes: impl Fn(&L::Io) -> Router,
    fast: Option<F>,
    terms: Terms,
    shutdown: impl Future<Output = ()>,
) -> usize {
    let seats = Arc::new(Semaphore::new(terms.connections_max));
    let stop = watch::Sender::new(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = async {
            // The semaphore is never closed.
            let seat = seats.clone().acquire_owned().await.ok();
            let (io, _) = listener.accept().await;
            (io, seat)
        };
        let (io, seat) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut shutdown => break,
        };
        let (router, fast) = (routes(&io), fast.clone());
        connections.spawn(connection(io, router, fast, terms, stop.subscribe(), seat));
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    stop.send_replace(true);
    let drained =
        tokio::time::timeout(terms.drain, async { while connections.join_next().await.is_some() {} });
    match drained.await {
        Ok(()) => 0,
        Err(_) => connections.len(),
    }
}

async fn connection<I, F>(
    io: I,
    router: Router,
    fast: Option<F>,
    terms: Terms,
    mut stop: watch::Receiver<bool>,
    _seat: Option<OwnedSemaphorePermit>,
) where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    F: FastPath,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        let router = router.clone();
        name_host(&mut request);
        async move {
            Ok::<_, Infallible>(router.oneshot(request.map(Body::new)).await.unwrap_or_else(|e| match e {}))
        }
    });
    let io = Patient::new(io, terms.taken_within);
    let opened = tokio::select! {
        opened = open(io, terms) => opened,
        // Nothing was asked yet.
        _ = stop.wait_for(|stop| *stop) => return,
    };
    let Some((mut io, is_http2)) = opened else { return };
    if is_http2 {
        let http2 = http2_terms().serve_connection(TokioIo::new(io), service);
        return Again::new(Box::pin(until_told(http2, stop))).await;
    }
    if let Some(fast) = fast {
        let Some(rest) = fast::serve(io, &fast, terms.head_within, &mut stop).await else { return };
        io = rest;
    }
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(terms.head_within);
    Again::new(Box::pin(until_told(http.serve_connection(TokioIo::new(io), service), stop))).await;
}

/// Serves a connection until it ends; told to stop, it finishes what is open and takes nothing more.
async fn until_told(connection: impl GracefulConnection, mut stop: watch::Receiver<bool>) {
    let mut connection = pin!(connection);
    tokio::select! {
        // How a connection ends is the client's business.
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|stop| *stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// Finds out what a connection speaks; `None` when its client says nothing in time, or goes.
async fn open<I: AsyncRead + Unpin>(io: I, terms: Terms) -> Option<(Opened<I>, bool)> {
    match terms.head_within {
        _ if !terms.http2 => Some((Opened::unseen(io), false)),
        None => Opened::look(io).await.ok(),
        Some(within) => tokio::time::timeout(within, Opened::look(io)).await.ok()?.ok(),
    }
}

fn http2_terms() -> http2::Builder<TokioExecutor> {
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .max_concurrent_streams(limits::CONNECTION_STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .keep_alive_interval(Some(PING_EVERY))
        .keep_alive_timeout(PING_EVERY);
    http
}

/// In HTTP/2 the host stands in the address; whoever looks for it finds it where HTTP/1.1 has it.
fn name_host<B>(request: &mut Request<B>) {
    if request.version() != Version::HTTP_2 {
        return;
    }
    let authority = request.uri().authority().and_then(|name| HeaderValue::from_str(name.as_str()).ok());
    if let Some(authority) = authority
        && request.headers().get(header::HOST) != Some(&authority)
    {
        request.headers_mut().append(header::HOST, authority);
    }
}
