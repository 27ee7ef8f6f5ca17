//! The front door: requests are admitted, sent to their model's slot as they are, and sent again when the slot goes
//! away under them. Here for the Open Inference Protocol; for the protocols of language models in `language`.
//!
//! Inference changes nothing, so a request whose slot died may be asked again; the answer goes out
//! only once it has arrived complete. Overload is refused before the body is read.

mod bodies;
mod door;
mod language;
mod record;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bms_wire::{Code, Error, Result, limits, oip};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use http_body_util::Full;
use tokio::time::Instant;

use crate::body::{self, Segments};
use crate::event::{Event, RequestRetried};
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::metrics::Metrics;
use crate::slots::{Broken, Lease, Unavailable};
use crate::traffic::Traffic;

use bodies::Bodies;
pub(crate) use door::Door;
use language::Adapters;
use record::Record;

/// The pause before a slot is asked again that says it cannot answer now.
const SLOT_PAUSE: Duration = Duration::from_millis(20);

/// Says where the JSON part of a body with binary tensors ends.
const INFERENCE_HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");
/// Headers that mean something to a slot.
const REQUEST_HEADERS: [HeaderName; 3] = [header::CONTENT_TYPE, header::ACCEPT, INFERENCE_HEADER_LENGTH];
/// Headers of a slot's answer that mean something to a client.
const RESPONSE_HEADERS: [HeaderName; 3] =
    [header::CONTENT_TYPE, header::RETRY_AFTER, INFERENCE_HEADER_LENGTH];

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
}

/// What a request asks of which model.
struct Target<'a> {
    model: &'a str,
    version: Option<u64>,
    method: Method,
    /// What follows the version in the path, e.g. `/infer`.
    operation: &'a str,
}

impl Gateway {
    pub(crate) fn new(
        fleet: Arc<Fleet>,
        metrics: Arc<Metrics>,
        deadline: Duration,
        language_deadline: Duration,
    ) -> Arc<Self> {
        Arc::new(Gateway {
            fleet,
            metrics,
            traffic: Traffic::new(),
            deadline,
            language_deadline,
            bodies: Bodies::default(),
            adapters: Adapters::default(),
        })
    }

    /// The routes of the protocol.
    pub(crate) fn routes(self: &Arc<Self>) -> Router {
        let mut router = Router::new()
            .route("/v2", get(server_metadata))
            .route("/v2/health/live", get(live))
            .route("/v2/health/ready", get(ready));
        for model in ["/v2/models/{model}", "/v2/models/{model}/versions/{version}"] {
            router = router
                .route(model, get(metadata))
                .route(&format!("{model}/ready"), get(model_ready))
                .route(&format!("{model}/infer"), post(infer));
        }
        router.merge(language::routes()).with_state(self.clone())
    }

    /// Has a slot answer, whatever happens to slots meanwhile.
    async fn answer(&self, target: &Target<'_>, request: Request, record: &mut Record) -> Result<Response> {
        let deadline = Instant::now() + self.deadline;
        let route = self.fleet.route(target.model, target.version)?;
        record.known(target.model);
        let _place = match route.door.enter() {
            Ok(place) => place,
            Err(full) => {
                body::linger(request);
                return Err(full);
            }
        };
        let headers = request.headers().clone();
        let mut room = self.bodies.room();
        let reading = body::read(request, limits::INFER_BODY_BYTES_MAX, |size| room.widen(size));
        let body = tokio::time::timeout_at(deadline, reading).await.map_err(|_| self.too_late(target))??;
        for attempt in 1..=1 + limits::SLOT_RETRIES_MAX {
            let waiting = route.door.waiting();
            let lease = self.lease(target, deadline).await?;
            drop(waiting);
            record.answered_by(lease.of());
            let slot_request = slot_request(&lease, target, &headers, body.clone())?;
            let hung_after = self.fleet.launcher.launch.hung_after;
            let why = match lease.exchange(slot_request, deadline, hung_after).await {
                None => return Err(self.too_late(target)),
                Some(Err(Broken::Oversized)) => return Err(oversized(target)),
                Some(Ok(response)) if response.status() != StatusCode::SERVICE_UNAVAILABLE => {
                    return Ok(client_response(response));
                }
                Some(Ok(_)) => "it says that it is unavailable".to_owned(),
                Some(Err(Broken::Lost(why))) => why,
            };
            RequestRetried { of: lease.of(), attempt, why: &why }.emit(&self.metrics);
            lease.lost().await;
            tokio::time::sleep(SLOT_PAUSE.mul_f64((attempt - 1) as f64)).await;
        }
        Err(Error::new(
            Code::Unavailable,
            format!("the slot of `{}` went away each time it was asked", target.model),
        ))
    }

    /// A slot of the target that is ready.
    async fn lease(&self, target: &Target<'_>, deadline: Instant) -> Result<Lease> {
        loop {
            let route = self.fleet.route(target.model, target.version)?;
            match route.slot.lease(deadline).await {
                Ok(lease) => return Ok(lease),
                Err(Unavailable::Broken(error)) => return Err(error),
                Err(Unavailable::Deadline) => return Err(self.too_late(target)),
                // The route names another slot by now, or does within moments.
                Err(Unavailable::Draining) if Instant::now() < deadline => {
                    tokio::time::sleep(SLOT_PAUSE).await
                }
                Err(Unavailable::Draining) => return Err(self.too_late(target)),
            }
        }
    }

    fn too_late(&self, target: &Target<'_>) -> Error {
        let seconds = self.deadline.as_secs_f32();
        Error::new(Code::DeadlineExceeded, format!("`{}` did not answer within {seconds} s", target.model))
    }

    /// Whether the model's slot answers now.
    fn check_ready(&self, model: &str, version: Option<u64>) -> Result<()> {
        let slot = self.fleet.route(model, version)?.slot;
        if slot.state() == bms_wire::api::SlotState::Ready {
            return Ok(());
        }
        let why = slot.problem().map_or_else(|| "it is loading".to_owned(), |problem| problem.error);
        Err(Error::new(Code::Unavailable, format!("`{model}` is not ready: {why}")))
    }
}

fn oversized(target: &Target<'_>) -> Error {
    let limit = limits::REPLY_BYTES_MAX;
    Error::new(Code::TooLarge, format!("the answer of `{}` is over the limit of {limit} bytes", target.model))
        .hint("Ask for fewer rows in one request.")
}

/// The request as the slot gets it. The path names the version, so that the answer can.
fn slot_request(
    lease: &Lease,
    target: &Target<'_>,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<Request<Full<Bytes>>> {
    let of = lease.of();
    let path = format!("/v2/models/{}/versions/{}{}", of.model, of.version, target.operation);
    let mut request = Request::builder().method(target.method.clone()).uri(path).header(header::HOST, "slot");
    for name in REQUEST_HEADERS {
        if let Some(value) = headers.get(&name) {
            request = request.header(name, value);
        }
    }
    request
        .body(Full::new(body))
        .map_err(|e| Error::new(Code::Internal, "the request cannot be forwarded").because(e))
}

fn client_response(response: http::Response<Bytes>) -> Response {
    let (parts, body) = response.into_parts();
    let mut out = Response::new(Body::from(body));
    *out.status_mut() = parts.status;
    for name in RESPONSE_HEADERS {
        if let Some(value) = parts.headers.get(&name) {
            out.headers_mut().insert(name, value.clone());
        }
    }
    out
}

/// The segments of a model's path: the model, and the version when the path names one.
#[derive(Debug, serde::Deserialize)]
struct Named {
    model: String,
    version: Option<String>,
}

impl Named {
    fn version(&self) -> Result<Option<u64>> {
        let Some(version) = &self.version else { return Ok(None) };
        match version.parse() {
            Ok(version) => Ok(Some(version)),
            Err(_) => {
                Err(Error::new(Code::VersionNotFound, format!("`{version}` is not the number of a version")))
            }
        }
    }
}

async fn infer(
    State(gateway): State<Arc<Gateway>>,
    Segments(named): Segments<Named>,
    request: Request,
) -> Response {
    let mut record = Record::begin(&gateway);
    let answered = async {
        let target = Target {
            model: &named.model,
            version: named.version()?,
            method: Method::POST,
            operation: "/infer",
        };
        gateway.answer(&target, request, &mut record).await
    };
    let answered = answered.await;
    let response = answered.unwrap_or_else(|error| Failure::from(error).into_response());
    record.end(response.status());
    response
}

async fn metadata(
    State(gateway): State<Arc<Gateway>>,
    Segments(named): Segments<Named>,
    request: Request,
) -> Result<Response, Failure> {
    let target =
        Target { model: &named.model, version: named.version()?, method: Method::GET, operation: "" };
    let mut unrecorded = Record::none(&gateway);
    Ok(gateway.answer(&target, request, &mut unrecorded).await?)
}

async fn model_ready(
    State(gateway): State<Arc<Gateway>>,
    Segments(named): Segments<Named>,
) -> Result<Response, Failure> {
    gateway.check_ready(&named.model, named.version()?)?;
    Ok(axum::Json(serde_json::json!({ "name": named.model, "ready": true })).into_response())
}

async fn server_metadata() -> axum::Json<oip::ServerMetadata> {
    axum::Json(oip::ServerMetadata {
        name: "bms".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: Vec::new(),
    })
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
