//! Accepting connections, and letting open ones finish.

mod patient;

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::serve::Listener;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt;

use patient::Patient;

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
    /// How long open requests get once the listener stops.
    pub(crate) drain: Duration,
}

/// Serves until `shutdown` is done, then lets open requests finish. Returns how many connections were
/// cut off because theirs did not.
pub(crate) async fn serve(
    mut listener: impl Listener,
    router: Router,
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
        connections.spawn(connection(io, router.clone(), terms, stop.subscribe(), seat));
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

async fn connection<I>(
    io: I,
    router: Router,
    terms: Terms,
    mut stop: watch::Receiver<bool>,
    _seat: Option<OwnedSemaphorePermit>,
) where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let router = router.clone();
        async move {
            Ok::<_, Infallible>(router.oneshot(request.map(Body::new)).await.unwrap_or_else(|e| match e {}))
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(terms.head_within);
    let io = Patient::new(io, terms.taken_within);
    let mut connection = pin!(http.serve_connection(TokioIo::new(io), service));
    tokio::select! {
        // How a connection ends is the client's business.
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|stop| *stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}
