//! The front door: requests are admitted, sent to their model's slot as they are, and sent again when the slot goes
//! away under them. Here for the Open Inference Protocol; for the protocols of language models in `language`.
//!
//! Inference changes nothing, so a request whose slot died may be asked again; the answer goes out
//! only once it has arrived complete. Overload is refused before the body is read.

mod answers;
mod bodies;
mod budget;
mod door;
mod fast;
mod health;
mod language;
mod pace;
mod record;
mod split;
mod statistics;
mod time;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use bms_wire::{Code, Error, Result, limits};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use tokio::time::Instant;

use crate::body::{self, Segments};
use crate::event::{Event, RequestRetried};
use crate::failure::Failure;
use crate::fleet::{Fleet, Route, Want};
use crate::metrics::Metrics;
use crate::rollout::Rollouts;
use crate::slots::{Broken, INFER, INFERENCE_HEADER_LENGTH, Lease, Slot, Unavailable, for_slot, of_version};
use crate::traffic::Traffic;

pub use answers::CacheSettings;
use answers::{Answers, CACHED};
use bodies::Bodies;
pub(crate) use bodies::Room;
pub(crate) use door::Door;
pub(crate) use fast::Fast;
use language::Adapters;
pub(crate) use language::ask_slot;
pub(crate) use record::Record;
pub(crate) use split::{Once, ask_once};
pub(crate) use time::Time;

/// The pause before a slot is asked again that says it cannot answer now.
const SLOT_PAUSE: Duration = Duration::from_millis(20);

/// Headers of a slot's answer that mean something to a client.
const RESPONSE_HEADERS: [HeaderName; 4] =
    [header::CONTENT_TYPE, header::RETRY_AFTER, INFERENCE_HEADER_LENGTH, CACHED];

/// Headers of an answer, about.
const ANSWER_HEADERS: usize = 16;

/// What the routes of the gateway share.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) traffic: Traffic,
    /// The time a request may take.
    deadline: Duration,
    /// The time a request to a language model may take.
    language_deadline: Duration,
    bodies: Bodies,
    adapters: Adapters,
    /// Answers that are kept, where the operator wants that.
    answers: Option<Arc<Answers>>,
    pub(crate) rollouts: Arc<Rollouts>,
}

/// What a request asks of which model.
pub(crate) struct Target<'a> {
    pub(crate) model: &'a str,
    pub(crate) version: Option<u64>,
    pub(crate) method: Method,
    /// What follows the version in the path, e.g. `/infer`.
    pub(crate) operation: &'a str,
}

/// A request that was read and let in.
pub(crate) struct Call<'a> {
    target: &'a Target<'a>,
    headers: &'a HeaderMap,
    body: Bytes,
    time: Time,
    /// Where its model's requests went when it was let in.
    route: &'a Route,
}

impl Gateway {
    pub(crate) fn new(
        fleet: Arc<Fleet>,
        metrics: Arc<Metrics>,
        deadline: Duration,
        language_deadline: Duration,
        cache: Option<CacheSettings>,
    ) -> Arc<Self> {
        Arc::new(Gateway {
            fleet,
            metrics,
            traffic: Traffic::new(),
            deadline,
            language_deadline,
            bodies: Bodies::default(),
            adapters: Adapters::default(),
            answers: cache.map(Answers::new),
            rollouts: Arc::default(),
        })
    }

    /// The routes of the protocol.
    pub(crate) fn routes(self: &Arc<Self>) -> Router {
        let mut router = Router::new()
            .route("/v2/models/stats", get(statistics::all))
            .route("/v2/health/live", get(live))
            .route("/v2/health/ready", get(ready))
            .route("/v2/health/progress", get(health::server));
        for model in ["/v2/models/{model}", "/v2/models/{model}/versions/{version}"] {
            router = router
                .route(model, about(""))
                .route(&format!("{model}/config"), about("/config"))
                .route(&format!("{model}/stats"), about("/stats"))
                .route(&format!("{model}/ready"), get(model_ready))
                .route(&format!("{model}/progress"), get(health::model))
                .route(&format!("{model}/infer"), post(infer));
        }
        router.merge(language::routes()).with_state(self.clone())
    }

    /// The time an inference request has from now on.
    pub(crate) fn time(&self) -> Time {
        Time::of(self.deadline)
    }

    /// Room for the bytes of one request.
    pub(crate) fn room(&self) -> Room {
        self.bodies.room()
    }

    /// Reads a request and has a slot answer it.
    async fn answer(&self, target: &Target<'_>, request: Request, record: &mut Record) -> Result<Response> {
        let time = self.time();
        let route = self.fleet.route(target.model, target.version)?;
        let admitted = record
            .known(target.model, false)
            .and_then(|()| route.door.enter(time.allowed()))
            .and_then(|place| check_plain(request.headers()).map(|()| place));
        let _place = match admitted {
            Ok(place) => place,
            Err(refusal) => {
                body::linger(request);
                return Err(refusal);
            }
        };
        let headers = request.headers().clone();
        let limit = match headers.contains_key(&INFERENCE_HEADER_LENGTH) {
            true => limits::TENSOR_BODY_BYTES_MAX,
            false => limits::INFER_BODY_BYTES_MAX,
        };
        let mut room = self.room();
        let reading = body::read(request, limit, |size| room.widen(size));
        let body = tokio::time::timeout_at(time.deadline(), reading).await;
        let body = body.map_err(|_| too_late(target, time))??;
        let time = time.within(time::asked_for(&headers, &body));
        route.door.check_wait(time.allowed())?;
        let call = Call { target, headers: &headers, body, time, route: &route };
        Ok(client_response(self.ask_split(&call, record).await?).map(Body::from))
    }

    /// Lets a request in that has been read already and has a slot answer it.
    pub(crate) async fn admit_and_ask(
        &self,
        target: &Target<'_>,
        headers: &HeaderMap,
        body: Bytes,
        time: Time,
        record: &mut Record,
    ) -> Result<http::Response<Bytes>> {
        let route = self.fleet.route(target.model, target.version)?;
        record.known(target.model, false)?;
        let _place = route.door.enter(time.allowed())?;
        self.ask_split(&Call { target, headers, body, time, route: &route }, record).await
    }

    /// Has a slot answer a request that was let in, whatever happens to slots meanwhile.
    async fn ask(&self, call: &Call<'_>, record: &mut Record) -> Result<http::Response<Bytes>> {
        let &Call { target, headers, ref body, time, route } = call;
        let door = &route.door;
        let mut avoid = None;
        for attempt in 1..=1 + limits::SLOT_RETRIES_MAX {
            // Timers are coarser than the time a request may ask for.
            if time.deadline() <= Instant::now() {
                return Err(too_late(target, time));
            }
            let waiting = door.waiting();
            let lease = self.lease(call, avoid.as_ref()).await?;
            drop(waiting);
            record.answered_by(lease.of());
            let hung_after = self.fleet.launcher.launch.hung_after;
            let exchanged = if target.operation == INFER {
                lease.infer(headers, body, time.deadline(), hung_after).await
            } else {
                // The path names the version, so that the answer can.
                let path = of_version(lease.of(), target.operation);
                let request = for_slot(target.method.clone(), &path, headers, body.clone())?;
                Box::pin(lease.exchange(request, time.deadline(), hung_after)).await
            };
            let why = match exchanged {
                None => return Err(too_late(target, time)),
                Some(Err(Broken::Refused(error))) => return Err(error),
                Some(Err(Broken::Oversized)) => return Err(oversized(target)),
                Some(Ok(response)) if response.status() != StatusCode::SERVICE_UNAVAILABLE => {
                    return Ok(response);
                }
                Some(Ok(_)) => "it says that it is unavailable".to_owned(),
                Some(Err(Broken::Lost(why))) => why,
            };
            door.slot_lost();
            door.repetitions().spend(target.model)?;
            RequestRetried { of: lease.of(), attempt, why: &why }.emit(&self.metrics);
            avoid = Some(self.leave(lease, attempt, attempt - 1).await);
        }
        Err(Error::new(
            Code::Unavailable,
            format!("the slot of `{}` went away each time it was asked", target.model),
        ))
    }

    /// Lets go of a slot that was lost in this attempt. When another is ready it is asked at once; else the supervisor gets
    /// a moment to notice, and `pauses` pass.
    async fn leave(&self, lease: Lease, attempt: usize, pauses: usize) -> Arc<Slot> {
        let slot = lease.slot().clone();
        // Each of the others once; then it is not the slots.
        if attempt <= self.fleet.siblings(&slot) {
            return slot;
        }
        lease.lost().await;
        tokio::time::sleep(SLOT_PAUSE.mul_f64(pauses as f64)).await;
        slot
    }

    /// A slot of the target that is ready, `avoid` only when there is no other.
    async fn lease(&self, call: &Call<'_>, avoid: Option<&Arc<Slot>>) -> Result<Lease> {
        let &Call { target, time, route, .. } = call;
        let want = Want { deadline: time.deadline(), seated: true, prefix: None, avoid };
        if avoid.is_none()
            && let Some(lease) = route.pool.lease_at_once(want)
        {
            return Ok(lease);
        }
        loop {
            let route = self.fleet.route(target.model, target.version)?;
            match route.pool.lease(want).await {
                Ok(lease) => return Ok(lease),
                Err(Unavailable::Broken(error)) => return Err(error),
                Err(Unavailable::Deadline) => return Err(too_late(target, time)),
                // The route names another slot by now, or does within moments.
                Err(Unavailable::Draining) if Instant::now() < time.deadline() => {
                    tokio::time::sleep(SLOT_PAUSE).await
                }
                Err(Unavailable::Draining) => return Err(too_late(target, time)),
            }
        }
    }

    /// Whether one of the model's slots answers now.
    pub(crate) fn check_ready(&self, model: &str, version: Option<u64>) -> Result<()> {
        self.fleet.route(model, version)?.pool.check_ready()
    }
}

fn too_late(target: &Target<'_>, time: Time) -> Error {
    let seconds = time.allowed().as_secs_f32();
    Error::new(Code::DeadlineExceeded, format!("`{}` did not answer within {seconds} s", target.model))
}

/// Bodies are taken as they are.
fn check_plain(headers: &HeaderMap) -> Result<()> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(coding) if !coding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            Err(Error::new(Code::NotSupported, format!("the request's body is encoded as {coding:?}"))
                .hint("Send it uncompressed."))
        }
        _ => Ok(()),
    }
}

fn oversized(target: &Target<'_>) -> Error {
    let limit = limits::REPLY_BYTES_MAX;
    Error::new(Code::TooLarge, format!("the answer of `{}` is over the limit of {limit} bytes", target.model))
        .hint("Ask for fewer rows in one request.")
}

/// A slot's answer as its client gets it.
fn client_response(response: http::Response<Bytes>) -> http::Response<Bytes> {
    if response.headers().keys().all(|name| RESPONSE_HEADERS.contains(name)) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let mut out = http::Response::new(body);
    *out.status_mut() = parts.status;
    // With room for what is said of limits and to browsers.
    *out.headers_mut() = HeaderMap::with_capacity(ANSWER_HEADERS);
    for (name, value) in &parts.headers {
        if RESPONSE_HEADERS.contains(name) {
            out.headers_mut().insert(name, value.clone());
        }
    }
    out
}

/// The segments of a model's path: the model, and the version when the path names one.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Named {
    model: String,
    version: Option<String>,
}

impl Named {
    fn version(&self) -> Result<Option<u64>> {
        self.version.as_deref().map(version_number).transpose()
    }
}

/// The number of a version.
pub(crate) fn version_number(version: &str) -> Result<u64> {
    version
        .parse()
        .map_err(|_| Error::new(Code::VersionNotFound, format!("`{version}` is not the number of a version")))
}

async fn infer(
    State(gateway): State<Arc<Gateway>>,
    Segments(named): Segments<Named>,
    request: Request,
) -> Response {
    let mut record = Record::begin(&gateway);
    let answered = async {
        record.is_for(request.extensions().get())?;
        let target =
            Target { model: &named.model, version: named.version()?, method: Method::POST, operation: INFER };
        gateway.answer(&target, request, &mut record).await
    };
    let answered = answered.await;
    let response = answered.unwrap_or_else(|error| Failure::from(error).into_response());
    record.end(response.status());
    response
}

/// Passes on what a slot says of its model.
fn about(operation: &'static str) -> MethodRouter<Arc<Gateway>> {
    get(
        async move |State(gateway): State<Arc<Gateway>>,
                    Segments(named): Segments<Named>,
                    request: Request| {
            let target =
                Target { model: &named.model, version: named.version()?, method: Method::GET, operation };
            let mut unrecorded = Record::none(&gateway);
            Ok::<_, Failure>(gateway.answer(&target, request, &mut unrecorded).await?)
        },
    )
}

async fn model_ready(
    State(gateway): State<Arc<Gateway>>,
    Segments(named): Segments<Named>,
) -> Result<Response, Failure> {
    gateway.check_ready(&named.model, named.version()?)?;
    Ok(axum::Json(serde_json::json!({ "name": named.model, "ready": true })).into_response())
}

async fn live() -> axum::Json<serde_json::Value> {
    axum::Json(serde_json::json!({ "live": true }))
}

/// Ready once every version deployed at the start either answers or cannot be loaded.
async fn ready(State(gateway): State<Arc<Gateway>>) -> Result<axum::Json<serde_json::Value>, Failure> {
    if gateway.fleet.is_ready() {
        return Ok(axum::Json(serde_json::json!({ "ready": true })));
    }
    Err(Error::new(Code::Unavailable, "models are being loaded or the server is stopping").into())
}
