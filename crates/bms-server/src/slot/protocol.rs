//! The Open Inference Protocol as one loaded model answers it, and the same questions and answers in plain form.

mod plain;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use bms_engine::oip::{self, Asked};
use bms_engine::{Answer, Engine};
use bms_wire::oip::about::{ModelConfig, Statistics};
use bms_wire::oip::{ModelMetadata, binary};
use bms_wire::{Code, Error, Preprocess, Result, limits};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::oneshot;

use crate::aside::aside;
use crate::body::{self, Segments};
use crate::failure::{self, Failure};
use crate::listen::{self, FastPath};
use crate::slots::inferring;
use plain::Manner;

/// Bytes of a request or numbers of an answer that are converted without leaving the thread that talks to
/// the network: a fraction of a millisecond of work.
const SMALL: usize = 16 << 10;

/// The routes of one model. The paths name a version; the answers repeat it.
pub(super) fn routes(engine: Arc<Engine>) -> Router {
    let model = "/v2/models/{model}";
    let version = "/v2/models/{model}/versions/{version}";
    let mut router = Router::new()
        .route("/v2/health/live", get(async || axum::Json(json!({ "live": true }))))
        .route("/v2/health/ready", get(async || axum::Json(json!({ "ready": true }))));
    for base in [model, version] {
        router = router
            .route(base, get(metadata))
            .route(&format!("{base}/ready"), get(ready))
            .route(&format!("{base}/config"), get(config))
            .route(&format!("{base}/stats"), get(statistics))
            .route(&format!("{base}/infer"), post(infer));
    }
    router
        .fallback(failure::no_such_route)
        .method_not_allowed_fallback(failure::no_such_method)
        .with_state(engine)
}

/// The segments of a model's path.
#[derive(Debug, Deserialize)]
pub(super) struct Named {
    model: String,
    version: Option<String>,
}

impl Named {
    fn check(&self, engine: &Engine) -> Result<()> {
        let name = &engine.describe().name;
        if &self.model == name {
            return Ok(());
        }
        Err(Error::new(Code::ModelNotFound, format!("this is the slot of `{name}`, not of `{}`", self.model)))
    }
}

async fn ready(
    State(engine): State<Arc<Engine>>,
    Segments(named): Segments<Named>,
) -> Result<axum::Json<serde_json::Value>, Failure> {
    named.check(&engine)?;
    Ok(axum::Json(json!({ "name": named.model, "ready": true })))
}

async fn metadata(
    State(engine): State<Arc<Engine>>,
    Segments(named): Segments<Named>,
) -> Result<axum::Json<ModelMetadata>, Failure> {
    named.check(&engine)?;
    let model = engine.describe();
    Ok(axum::Json(ModelMetadata {
        name: model.name.clone(),
        versions: named.version.into_iter().collect(),
        platform: oip::platform(model),
        inputs: model.inputs.iter().map(oip::tensor_metadata).collect(),
        outputs: model.outputs.iter().map(oip::tensor_metadata).collect(),
    }))
}

async fn infer(
    State(engine): State<Arc<Engine>>,
    Segments(named): Segments<Named>,
    request: Request,
) -> Result<Response, Failure> {
    named.check(&engine)?;
    let headers = request.headers().clone();
    let limit = match headers.contains_key(binary::HEADER_LENGTH) {
        true => limits::TENSOR_BODY_BYTES_MAX,
        false => limits::INFER_BODY_BYTES_MAX,
    };
    let body = body::read(request, limit, |_| Ok(())).await?;
    Ok(answer(&engine, named, &headers, body).await?.map(Body::from))
}

/// Answers inference without a router.
#[derive(Clone, Debug)]
pub(super) struct Fast(Arc<Engine>);

impl Fast {
    pub(super) fn new(engine: Arc<Engine>) -> Self {
        Fast(engine)
    }
}

impl FastPath for Fast {
    type Route = Named;

    fn route(&self, method: &str, path: &str) -> Option<Named> {
        let (model, version) = inferring(path).filter(|_| method == "POST")?;
        Some(Named { model: model.to_owned(), version: version.map(str::to_owned) })
    }

    async fn answer(&self, named: Named, headers: HeaderMap, body: Bytes) -> listen::Answer {
        let answered = match named.check(&self.0) {
            Ok(()) => answer(&self.0, named, &headers, body).await,
            Err(error) => Err(error),
        };
        answered.unwrap_or_else(|error| Failure::from(error).whole()).into()
    }
}

/// Has the engine answer a request that has come whole.
async fn answer(
    engine: &Arc<Engine>,
    named: Named,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<http::Response<Bytes>> {
    let head_bytes = headers.get(binary::HEADER_LENGTH);
    let head_bytes = head_bytes.map(|value| binary::header_length(value.as_bytes())).transpose()?;
    let manner = Manner::of(headers);
    let is_quick = body.len() <= SMALL && !takes_its_time(engine);
    // Dropped with the request: then the engine leaves it out.
    let abandoned = Abandoned(Arc::default());
    let work = {
        let (engine, flag) = (engine.clone(), abandoned.0.clone());
        move || begin(&engine, &body, head_bytes, manner, flag)
    };
    let begun = if is_quick { work() } else { aside(work).await };
    let Begun { answer, asked, picture } = begun?;
    let answer =
        answer.await.map_err(|e| Error::new(Code::Internal, "the engine gave no answer").because(e))??;
    let is_quick = numbers(&answer) <= SMALL && picture.is_none();
    let work = {
        let engine = engine.clone();
        move || match manner.is_plain() {
            true => plain::write(&engine, answer, named.version, picture),
            false => write(&engine, answer, asked, named.version),
        }
    };
    let Written { body, head_bytes, kind } = (if is_quick { work() } else { aside(work).await })?;
    let mut response = http::Response::new(Bytes::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Some(head_bytes) = head_bytes {
        response.headers_mut().insert(binary::HEADER_LENGTH, HeaderValue::from(head_bytes));
    }
    Ok(response)
}

async fn config(
    State(engine): State<Arc<Engine>>,
    Segments(named): Segments<Named>,
) -> Result<axum::Json<ModelConfig>, Failure> {
    named.check(&engine)?;
    Ok(axum::Json(oip::config(&engine)))
}

async fn statistics(
    State(engine): State<Arc<Engine>>,
    Segments(named): Segments<Named>,
) -> Result<axum::Json<Statistics>, Failure> {
    named.check(&engine)?;
    Ok(axum::Json(Statistics { model_stats: vec![oip::statistics(&engine, named.version)] }))
}

/// A request the engine has taken.
struct Begun {
    answer: oneshot::Receiver<Result<Answer>>,
    asked: Asked,
    /// What the answer is to be drawn into.
    picture: Option<Vec<u8>>,
}

/// An answer as it goes out.
struct Written {
    body: Vec<u8>,
    /// How much of it is JSON, when something follows.
    head_bytes: Option<usize>,
    kind: &'static str,
}

/// Says, once dropped, that nobody waits for the answer any more.
struct Abandoned(Arc<AtomicBool>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Reads a request and hands it to the engine.
fn begin(
    engine: &Engine,
    body: &Bytes,
    head_bytes: Option<usize>,
    manner: Manner,
    flag: Arc<AtomicBool>,
) -> Result<Begun> {
    let (input, asked) = match manner.brings_plain {
        true => (oip::plain(engine.describe(), body)?, Asked::default()),
        false => oip::read(engine.describe(), body, head_bytes)?,
    };
    let picture = if manner.wants_picture { Some(plain::one_picture(&input)?) } else { None };
    let (reply, answer) = oneshot::channel();
    engine.submit_while(
        input,
        asked.priority,
        move || !flag.load(Ordering::Relaxed),
        move |answer| {
            // Nobody listens when the request was abandoned while it ran.
            let _ = reply.send(answer);
        },
    )?;
    Ok(Begun { answer, asked, picture })
}

/// The answer in the protocol's form.
fn write(engine: &Engine, answer: Answer, asked: Asked, version: Option<String>) -> Result<Written> {
    let response = oip::answer_to_response(engine.describe(), answer, &asked, version)?;
    let (body, head_bytes) = response.into_body()?;
    let kind = if head_bytes.is_some() { "application/octet-stream" } else { "application/json" };
    Ok(Written { body, head_bytes, kind })
}

/// Whether what a request brings is worked on before the engine takes it.
fn takes_its_time(engine: &Engine) -> bool {
    !matches!(engine.describe().pipeline.preprocess, Preprocess::Tensor {} | Preprocess::Table(_))
}

/// Numbers in an answer, which is what writing it costs.
fn numbers(answer: &Answer) -> usize {
    let values: usize = answer.outputs.iter().map(|(_, tensor)| tensor.data().len()).sum();
    let classes = answer.classes.iter().flatten().map(|class| class.ranked.len()).sum::<usize>();
    let found = answer.found.iter().flatten().map(plain::numbers).sum::<usize>();
    values.saturating_add(classes).saturating_add(found)
}
