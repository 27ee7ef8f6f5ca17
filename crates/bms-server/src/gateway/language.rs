//! Language models at the front door: the body names the model, the answer streams through.
//!
//! An answer goes out as it is written. Until its first piece has come from the slot, the request may be sent to
//! another one; from then on the client holds half an answer. One whose slot marks how far it is goes on in the next
//! slot (see `kept`), of others a slot that dies ends it with an error event. A
//! client that leaves closes the exchange with the slot, which stops computing; one that stays and takes nothing is
//! cut off by its connection (see `listen`), with the same effect.

mod adapters;
mod kept;
mod listing;
mod relay;
mod remember;
mod split;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bms_wire::{Code, Error, Result, limits};
use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use http_body_util::{BodyExt, Full};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::record::Record;
use super::{Gateway, Room, SLOT_PAUSE, Time, time};
use crate::body;
use crate::continuation::{CONTINUABLE, CONTINUES};
use crate::event::{Event, RequestRetried};
use crate::failure::Dialect;
use crate::fleet::{Pool, Route, Want, prefix};
use crate::slots::{Broken, Coming, Lease, Slot, Unavailable};

pub(super) use adapters::Adapters;
use kept::Kept;
pub(crate) use listing::ask as ask_slot;
use relay::{Held, Relay};

/// What is asked of a language model, in the protocols of OpenAI and Anthropic and beside them.
const OPERATIONS: [&str; 10] = [
    "/v1/chat/completions",
    "/v1/completions",
    EMBEDDINGS,
    RESPONSES,
    MESSAGES,
    "/v1/messages/count_tokens",
    "/tokenize",
    "/detokenize",
    LOAD_ADAPTER,
    UNLOAD_ADAPTER,
];
const EMBEDDINGS: &str = "/v1/embeddings";
const MESSAGES: &str = "/v1/messages";
const RESPONSES: &str = "/v1/responses";
/// Of these, those by which a model reads or writes text.
const GENERATING: [&str; 5] = ["/v1/chat/completions", "/v1/completions", EMBEDDINGS, RESPONSES, MESSAGES];
/// Bytes of a request for which a token is taken until it is known better.
const BYTES_A_TOKEN: usize = 4;
/// Tokens of an answer whose length was not said, until it is known better.
const ANSWER_TOKENS: u64 = 256;
/// For whom waits for less time than the server allows.
const LET_IT_WAIT: &str =
    "That is how long the client says it waits: `timeout` in its settings or in the request.";
const LOAD_ADAPTER: &str = "/v1/load_lora_adapter";
const UNLOAD_ADAPTER: &str = "/v1/unload_lora_adapter";

/// Headers that mean something to a slot.
const REQUEST_HEADERS: [HeaderName; 2] = [header::CONTENT_TYPE, header::ACCEPT];
/// Headers of a slot's answer that mean something to a client.
const RESPONSE_HEADERS: [HeaderName; 3] = [header::CONTENT_TYPE, header::RETRY_AFTER, header::CACHE_CONTROL];
/// How long a request's body may take to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(60);

/// The routes.
pub(super) fn routes() -> Router<Arc<Gateway>> {
    let mut router =
        Router::new().route("/v1/models", get(listing::all)).route("/v1/models/{*id}", get(listing::one));
    for operation in OPERATIONS {
        router = router.route(operation, post(forward));
    }
    router
}

async fn forward(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let dialect = Dialect::at(&path);
    let mut record = Record::begin(&gateway);
    let known = record.is_for(request.extensions().get());
    let mut record = Some(record);
    let answered = match known {
        Ok(()) => gateway.forward_language(&path, request, &mut record).await,
        Err(error) => Err(error),
    };
    let response = match answered {
        Ok(response) => response,
        Err(error) => dialect.failure(error).into_response(),
    };
    // One that streams has taken its record along.
    if let Some(record) = record {
        record.end(response.status());
    }
    response
}

/// What of a request's body says where it goes.
#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow, default)]
    model: Option<Cow<'a, str>>,
    #[serde(default)]
    max_tokens: Value,
    #[serde(default)]
    max_completion_tokens: Value,
    #[serde(default)]
    max_output_tokens: Value,
    #[serde(default)]
    timeout: Value,
}

impl Named<'_> {
    /// About how many tokens a request takes: those of its text, and what it allows of an answer.
    fn tokens(&self, path: &str, bytes: usize) -> (u64, u64) {
        let prompt = (bytes / BYTES_A_TOKEN) as u64;
        let asked = [&self.max_tokens, &self.max_completion_tokens, &self.max_output_tokens];
        let answer = match path {
            EMBEDDINGS => 0,
            _ => asked.into_iter().find_map(Value::as_u64).unwrap_or(ANSWER_TOKENS),
        };
        (prompt, answer)
    }
}

impl Gateway {
    /// Has a slot answer a request to a language model under the same path.
    async fn forward_language(
        self: &Arc<Self>,
        path: &str,
        request: Request,
        record: &mut Option<Record>,
    ) -> Result<Response> {
        let whole = Time::of(self.language_deadline);
        let headers = request.headers().clone();
        if headers.contains_key(&CONTINUABLE) || headers.contains_key(&CONTINUES) {
            let what = format!("{CONTINUABLE} and {CONTINUES} are for a gateway and its slots");
            return Err(Error::new(Code::InvalidRequest, what).hint("Leave these headers out."));
        }
        let mut room = self.bodies.room();
        let reading = body::read(request, limits::INFER_BODY_BYTES_MAX, |size| room.widen(size));
        let body = tokio::time::timeout(BODY_WITHIN, reading).await.map_err(|_| {
            let what = format!("the request did not arrive within {} s", BODY_WITHIN.as_secs());
            Error::new(Code::DeadlineExceeded, what)
        })??;
        let named: Named<'_> = serde_json::from_slice(&body).map_err(|e| {
            Error::new(Code::InvalidRequest, format!("the request's body is not the expected JSON: {e}"))
                .because(e)
        })?;
        let target = self.language_target(named.model.as_deref()).await?;
        if let Some(record) = record {
            record.known(&target.model, true)?;
            if GENERATING.contains(&path) {
                record.generates(named.tokens(path, body.len()))?;
            }
        }
        let time = whole.within(time::waits_for(&headers, &named.timeout));
        let ask = Ask { dialect: Dialect::at(path), path, headers, body: &body, time, whole };
        let mut room = Some(room);
        let changes = path == LOAD_ADAPTER || path == UNLOAD_ADAPTER;
        if changes {
            self.adapters.changed();
        }
        let response = self.answer_language_split(&ask, &target, record, &mut room).await;
        if changes {
            self.adapters.changed();
        }
        response
    }

    /// Sends the request, again while nothing has gone out and slots go away. An answer that can go on takes the room of
    /// the request's body along.
    async fn answer_language(
        self: &Arc<Self>,
        ask: &Ask<'_>,
        target: &Target,
        record: &mut Option<Record>,
        room: &mut Option<Room>,
    ) -> Result<Response> {
        let Route { door, pool, .. } = self.language_route(target)?;
        if ask.path == LOAD_ADAPTER {
            check_one_slot(&pool)?;
        }
        let is_measured = GENERATING.contains(&ask.path);
        let allowed = is_measured.then(|| ask.time.left());
        let mut place = door.enter_language(allowed)?;
        let mut avoid = None;
        for attempt in 1..=1 + limits::LANGUAGE_RETRIES_MAX {
            // Timers are coarser than the time a client may have.
            if ask.time.left().is_zero() {
                return Err(too_late(target, ask));
            }
            let lease = self.lease_language(target, ask, avoid.as_ref()).await?;
            if let Some(record) = record {
                record.answered_by(lease.of());
            }
            let of = lease.of().clone();
            let begun = begin(&lease, ask, target).await?;
            let why = match begun {
                Ok((parts, first)) => {
                    let body = match first {
                        First::Whole(body) => {
                            if parts.status.is_success() {
                                place.begins();
                            }
                            axum::body::Body::from(body)
                        }
                        First::Piece(piece, coming) => {
                            let (status, record) = (parts.status, record.take());
                            let held = Held { lease: Some(lease), place, record, status };
                            let model = target.model.clone();
                            let target = Target { model: model.clone(), version: Some(of.version) };
                            let marked = parts.headers.contains_key(&CONTINUABLE);
                            let kept = marked.then(|| Kept::new(self.clone(), target, ask, room.take()));
                            axum::body::Body::new(Relay::new(piece, coming, held, ask, model, kept))
                        }
                    };
                    let mut response = client_response(&parts, body);
                    response.extensions_mut().insert(of);
                    return Ok(response);
                }
                Err(Broken::Refused(error)) => return Err(error),
                Err(Broken::Oversized) => return Err(oversized(target)),
                Err(Broken::Lost(why)) => why,
            };
            door.slot_lost();
            door.repetitions().spend(&target.model)?;
            RequestRetried { of: lease.of(), attempt, why: &why }.emit(&self.metrics);
            avoid = Some(self.leave(lease, attempt, attempt).await);
        }
        let what = format!("the slot of `{}` went away each time it was asked", target.model);
        Err(Error::new(Code::Unavailable, what))
    }

    /// A slot of the target that is ready, `avoid` only when there is no other.
    async fn lease_language(
        &self,
        target: &Target,
        ask: &Ask<'_>,
        avoid: Option<&Arc<Slot>>,
    ) -> Result<Lease> {
        let deadline = ask.time.deadline();
        let want = Want { deadline, seated: false, prefix: Some(prefix(ask.body)), avoid };
        loop {
            let route = self.language_route(target)?;
            let waiting = route.door.waiting();
            let leased = route.pool.lease(want).await;
            drop(waiting);
            match leased {
                // Only now it is certain that its task is known.
                Ok(lease) => return self.language_route(target).map(|_| lease),
                Err(Unavailable::Broken(error)) => return Err(error),
                Err(Unavailable::Deadline) => return Err(too_late(target, ask)),
                // The route names another slot by now, or does within moments.
                Err(Unavailable::Draining) if Instant::now() < deadline => {
                    tokio::time::sleep(SLOT_PAUSE).await;
                }
                Err(Unavailable::Draining) => return Err(too_late(target, ask)),
            }
        }
    }

    /// Where the target is served, unless by something that is no language model.
    fn language_route(&self, target: &Target) -> Result<Route> {
        let route = self.fleet.route(&target.model, target.version)?;
        match route.pool.task() {
            Some(task) if !crate::slots::is_language(&task) => {
                let what = format!("`{}` is no language model, its task is {task}", target.model);
                Err(Error::new(Code::InvalidRequest, what)
                    .hint(format!("Ask it at /v2/models/{}/infer.", target.model)))
            }
            _ => Ok(route),
        }
    }

    /// What a request's `model` stands for: a deployed model, with its version or alias when it says one, or an
    /// adapter some model has loaded. It may be absent where there is but one.
    async fn language_target(&self, name: Option<&str>) -> Result<Target> {
        let Some(name) = name else {
            let mut models = self.fleet.language_models();
            return match (models.pop(), models.is_empty()) {
                (Some(model), true) => Ok(Target { model, version: None }),
                _ => Err(Error::new(Code::InvalidRequest, "`model` is missing")
                    .hint("Name one of those that GET /v1/models lists.")),
            };
        };
        match self.fleet.resolve(name) {
            Ok((model, version)) => Ok(Target { model, version }),
            Err(error) => match self.adapters.model_of(self, name).await {
                Some(model) => Ok(Target { model, version: None }),
                None => Err(error),
            },
        }
    }
}

/// Asks a slot that was borrowed, and waits for the beginning of its answer.
async fn begin(lease: &Lease, ask: &Ask<'_>, target: &Target) -> Result<Result<(Parts, First), Broken>> {
    let deadline = ask.time.deadline();
    match lease.begin(ask.slot_request()?, deadline).await {
        None => Err(too_late(target, ask)),
        Some(Ok((parts, _))) if parts.status == StatusCode::SERVICE_UNAVAILABLE => {
            Ok(Err(Broken::Lost("it says that it is unavailable".to_owned())))
        }
        Some(Ok((mut parts, coming))) => {
            let first = tokio::time::timeout_at(deadline, First::of(&mut parts, coming)).await;
            Ok(first.map_err(|_| too_late(target, ask))?.map(|first| (parts, first)))
        }
        Some(Err(broken)) => Ok(Err(broken)),
    }
}

/// What is said when an answer has not begun in time, or has not come whole.
fn too_late(target: &Target, ask: &Ask<'_>) -> Error {
    let seconds = ask.time.allowed().as_secs_f32();
    let what = format!("`{}` did not answer within {seconds} s", target.model);
    let error = Error::new(Code::DeadlineExceeded, what);
    match ask.time.allowed() < ask.whole.allowed() {
        true => error.hint(LET_IT_WAIT),
        false => error,
    }
}

/// An adapter that a request loads is in one slot: of several, the others would not have it, nor would the next one of a
/// model that goes when nobody asks.
fn check_one_slot(pool: &Pool) -> Result<()> {
    let scale = pool.scale();
    if (scale.min_slots, scale.max_slots) == (1, 1) {
        return Ok(());
    }
    let model = &pool.of().model;
    let what = format!("`{model}` has {} to {} slots", scale.min_slots, scale.max_slots);
    Err(Error::new(Code::NotSupported, what + ": an adapter would be in one of them")
        .hint(format!("Give it one slot that stays: `bms deploy {model} --min-slots 1 --max-slots 1`.")))
}

/// Which model a request is for.
#[derive(Clone, Debug)]
struct Target {
    model: String,
    version: Option<u64>,
}

/// What is asked.
struct Ask<'a> {
    dialect: Dialect,
    path: &'a str,
    headers: HeaderMap,
    body: &'a Bytes,
    /// Within which its answer shall have begun, or come whole.
    time: Time,
    /// Within which it shall have ended.
    whole: Time,
}

impl Ask<'_> {
    /// The request as the slot gets it.
    fn slot_request(&self) -> Result<Request<Full<Bytes>>> {
        let mut request = Request::builder().method(Method::POST).uri(self.path).header(header::HOST, "slot");
        for name in REQUEST_HEADERS {
            if let Some(value) = self.headers.get(&name) {
                request = request.header(name, value);
            }
        }
        if self.body.len() <= limits::CONTINUABLE_BODY_BYTES_MAX {
            request = request.header(CONTINUABLE, "1");
        }
        request
            .body(Full::new(self.body.clone()))
            .map_err(|e| Error::new(Code::Internal, "the request cannot be forwarded").because(e))
    }
}

/// The beginning of an answer, up to where it can go out.
enum First {
    /// An answer that is one document goes out once it is complete.
    Whole(Bytes),
    /// One that streams goes out with its first piece.
    Piece(Bytes, Coming),
}

impl First {
    async fn of(parts: &mut Parts, mut coming: Coming) -> Result<First, Broken> {
        let streams = parts
            .headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        match streams {
            false => coming.whole(parts).await.map(First::Whole),
            true => match coming.next().await.transpose()? {
                Some(piece) => Ok(First::Piece(piece, coming)),
                None => Ok(First::Whole(Bytes::new())),
            },
        }
    }
}

/// The bytes of an answer that is one document. All of it is here already: nothing is waited for.
async fn whole(body: axum::body::Body) -> Result<Bytes> {
    let lost = |e| Error::new(Code::Internal, format!("an answer was lost on its way: {e}"));
    Ok(body.collect().await.map_err(lost)?.to_bytes())
}

fn client_response(parts: &http::response::Parts, body: axum::body::Body) -> Response {
    let mut out = Response::new(body);
    *out.status_mut() = parts.status;
    for name in RESPONSE_HEADERS {
        if let Some(value) = parts.headers.get(&name) {
            out.headers_mut().insert(name, value.clone());
        }
    }
    out
}

fn oversized(target: &Target) -> Error {
    let limit = limits::REPLY_BYTES_MAX;
    Error::new(Code::TooLarge, format!("the answer of `{}` is over the limit of {limit} bytes", target.model))
        .hint("Ask for less in one request.")
}
