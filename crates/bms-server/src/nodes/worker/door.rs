//! What the centre asks of a worker: requests for its slots, and how these stand.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use bms_wire::{Code, Error, limits};
use bytes::Bytes;
use futures_util::stream;
use http::header;
use http_body_util::Full;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Worker;
use crate::body;
use crate::failure::Failure;
use crate::files;
use crate::listen::{self, Terms};
use crate::nodes::peer::{Peer, TlsListener};
use crate::nodes::protocol::LIVE;
use crate::slots::{Broken, Coming, Condition, Lease, OVERDUE, PROCESS, Slot, State as Stands, WATCH};

/// How long a slot that is not ready is waited for: the centre waits better.
const READY_WITHIN: Duration = Duration::from_millis(500);
/// How often the centre hears of a slot that does not change.
const WORD_EVERY: Duration = Duration::from_millis(500);
/// How long a request's body may take to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(60);
/// How long open requests get when the worker has left.
const DRAIN: Duration = Duration::from_secs(2);
/// Headers that are about one connection only.
const HOP: [http::HeaderName; 3] = [header::CONNECTION, header::TRANSFER_ENCODING, header::HOST];

/// Answers the centre until told to stop.
pub(super) async fn serve(
    worker: Arc<Worker>,
    listener: TcpListener,
    config: Arc<ServerConfig>,
    mut stop: watch::Receiver<bool>,
) {
    let router = Router::new()
        .route(LIVE, get(async || Json(())))
        .route(WATCH, get(watch_slot))
        .route(OVERDUE, get(overdue))
        .fallback(forward)
        .layer(axum::middleware::from_fn(only_centres))
        .with_state(worker);
    let terms = Terms {
        connections_max: files::connections_max(),
        // Whoever is let in is the centre, which keeps its connections.
        head_within: None,
        taken_within: Some(Duration::from_secs(limits::CLIENT_STALL_SECONDS_MAX)),
        http2: false,
        drain: DRAIN,
    };
    let routes = |io: &_| router.clone().layer(Extension(Peer::of(io)));
    let told = async move { drop(stop.wait_for(|stop| *stop).await) };
    listen::serve_each(TlsListener::new(listener, config), routes, terms, told).await;
}

/// Lets nobody through but centres: another worker has a certificate, too.
async fn only_centres(
    Extension(peer): Extension<Peer>,
    request: Request,
    next: axum::middleware::Next,
) -> Response {
    match peer.is_centre {
        true => next.run(request).await,
        false => {
            Failure::from(Error::new(Code::PermissionDenied, "only a centre asks a worker")).into_response()
        }
    }
}

fn slot_of(worker: &Worker, request: &Request) -> Option<Arc<Slot>> {
    worker.slot(request.headers().get(PROCESS)?.to_str().ok()?)
}

fn unknown() -> Failure {
    Error::new(Code::NotFound, "no such slot is here").into()
}

async fn overdue(State(worker): State<Arc<Worker>>, request: Request) -> Result<Json<()>, Failure> {
    slot_of(&worker, &request).ok_or_else(unknown)?.report_overdue();
    Ok(Json(()))
}

/// A line for every change of the slot, and now and then without one.
async fn watch_slot(State(worker): State<Arc<Worker>>, request: Request) -> Result<Response, Failure> {
    let slot = slot_of(&worker, &request).ok_or_else(unknown)?;
    let conditions = slot.conditions();
    let lines = stream::unfold((conditions, slot, true), async |(mut conditions, slot, first)| {
        if !first {
            // Whether it changed or time passed, the state is said again.
            let changed = tokio::time::timeout(WORD_EVERY, conditions.changed()).await;
            if matches!(changed, Ok(Err(_))) {
                return None;
            }
        }
        let condition = conditions.borrow_and_update().clone();
        let mut line = serde_json::to_vec(&stands(&slot, condition)).ok()?;
        line.push(b'\n');
        Some((Ok::<_, Infallible>(Bytes::from(line)), (conditions, slot, false)))
    });
    Ok(Body::from_stream(lines).into_response())
}

fn stands(slot: &Slot, condition: Condition) -> Stands {
    Stands {
        // One that is being unloaded says so.
        state: slot.state(),
        generation: condition.generation,
        runtime: condition.runtime,
        task: condition.task,
        problem: condition.problem,
        restarts: condition.restarts,
        last_restart: condition.last_restart,
        failures: condition.failures,
    }
}

/// Has the slot answer a request; its answer goes back as it is written.
async fn forward(State(worker): State<Arc<Worker>>, request: Request) -> Result<Response, Failure> {
    let slot = slot_of(&worker, &request);
    let Some(slot) = slot.filter(|slot| !slot.is_stopping()) else {
        body::linger(request);
        return Err(away("the slot is not here any more"));
    };
    let (parts, body) = request.into_parts();
    let request = Request::from_parts(parts.clone(), body);
    let reading = body::read(request, limits::TENSOR_BODY_BYTES_MAX, |_| Ok(()));
    let body = tokio::time::timeout(BODY_WITHIN, reading)
        .await
        .map_err(|_| Error::new(Code::DeadlineExceeded, "the request did not arrive in time"))??;
    let lease = slot.lease_unseated(Instant::now() + READY_WITHIN).await;
    let lease = lease.map_err(|_| away("the slot is not ready"))?;
    let mut request = Request::builder().method(parts.method).uri(parts.uri).header(header::HOST, "slot");
    for (name, value) in parts.headers.iter().filter(|(name, _)| !HOP.contains(name) && **name != PROCESS) {
        request = request.header(name, value);
    }
    let request = request
        .body(Full::new(body))
        .map_err(|e| Error::new(Code::Internal, "the request cannot be forwarded").because(e))?;
    let deadline = Instant::now() + Duration::from_millis(limits::LANGUAGE_DEADLINE_MS);
    match lease.begin(request, deadline).await {
        Some(Ok((parts, coming))) => answer(parts, lease, coming).await,
        Some(Err(broken)) => {
            let Broken::Lost(why) = broken else {
                return Err(Error::new(Code::TooLarge, "the slot's answer has no end").into());
            };
            lease.lost().await;
            Err(away(&why))
        }
        None => Err(Error::new(Code::DeadlineExceeded, "the slot did not answer in time").into()),
    }
}

/// The gateway asks again, here or elsewhere.
fn away(why: &str) -> Failure {
    Error::new(Code::Unavailable, why).into()
}

async fn answer(parts: http::response::Parts, lease: Lease, coming: Coming) -> Result<Response, Failure> {
    if parts.headers.contains_key(header::CONTENT_LENGTH) {
        // It is there in one piece, and the connection it came by is kept.
        return match coming.whole().await {
            Ok(whole) => Ok(with_head(parts, Body::from(whole))),
            Err(_) => Err(away("the slot's answer broke off")),
        };
    }
    let pieces = stream::unfold((lease, coming), async |(lease, mut coming)| {
        let piece = coming.next().await?.map_err(|broken| match broken {
            Broken::Lost(why) => io::Error::other(why),
            Broken::Oversized => io::Error::other("the answer has no end"),
        });
        Some((piece, (lease, coming)))
    });
    Ok(with_head(parts, Body::from_stream(pieces)))
}

fn with_head(parts: http::response::Parts, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = parts.status;
    for (name, value) in parts.headers.iter().filter(|(name, _)| !HOP.contains(name)) {
        response.headers_mut().append(name, value.clone());
    }
    response
}
