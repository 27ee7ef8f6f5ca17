//! Requests in, answers out: HTTP/1.1 on hyper.

mod body;
mod routes;

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderValue, Response, StatusCode, header};
use bms_wire::{Code, Error, Retry};
use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::node::Node;

/// Connections open at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 256;
/// How long a connection may take to send a request's head, and stay without any.
const HEAD_WITHIN: Duration = Duration::from_secs(60);
/// Pause when no connection can be accepted, usually for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What leaves.
type Reply = Response<Full<Bytes>>;

/// Answers until `shutdown` is done, then lets open requests finish within `drain`. Gives the number
/// of connections cut off because theirs did not.
pub(crate) async fn serve(
    node: Arc<Node>,
    listener: TcpListener,
    drain: Duration,
    shutdown: impl Future<Output = ()>,
) -> usize {
    let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let bodies = Arc::new(body::Budget::default());
    let stop = watch::Sender::new(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = async {
            // The semaphore is never closed.
            let seat = seats.clone().acquire_owned().await.ok();
            (listener.accept().await, seat)
        };
        let (stream, seat) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut shutdown => break,
        };
        match stream {
            Ok((stream, _)) => {
                connections.spawn(connection(stream, node.clone(), bodies.clone(), stop.subscribe(), seat));
            }
            Err(error) => {
                tracing::warn!("failed to accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    stop.send_replace(true);
    let drained = tokio::time::timeout(drain, async { while connections.join_next().await.is_some() {} });
    match drained.await {
        Ok(()) => 0,
        Err(_) => connections.len(),
    }
}

async fn connection(
    stream: TcpStream,
    node: Arc<Node>,
    bodies: Arc<body::Budget>,
    mut stop: watch::Receiver<bool>,
    _seat: Option<OwnedSemaphorePermit>,
) {
    // Small answers must not wait for the acknowledgement of earlier ones.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("failed to set TCP_NODELAY: {error}");
    }
    let service = service_fn(move |request| {
        let (node, bodies) = (node.clone(), bodies.clone());
        async move { Ok::<_, Infallible>(routes::answer(node, bodies, request).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // How a connection ends is the client's business.
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|stop| *stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

fn reply(status: StatusCode, content_type: &'static str, content: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(content.into()));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}

fn json(status: StatusCode, value: &impl serde::Serialize) -> Reply {
    match serde_json::to_vec(value) {
        Ok(text) => reply(status, "application/json", text),
        Err(error) => {
            let error = Error::new(Code::Internal, "the answer cannot be written as JSON").because(error);
            // Two strings and a code: this one can be.
            reply(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", error.to_string())
        }
    }
}

/// An error with its code's status, the protocol's JSON body, and `Retry-After` when sending the same
/// request again later makes sense.
fn failure(error: &Error) -> Reply {
    let code = error.code();
    if 500 <= code.http() {
        tracing::warn!(code = code.as_str(), "request failed: {error}");
    }
    let status = StatusCode::from_u16(code.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut reply = json(status, &error.body());
    if code.retry() == Retry::Later {
        reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    reply
}
