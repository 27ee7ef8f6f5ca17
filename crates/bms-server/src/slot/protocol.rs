//! The Open Inference Protocol as one loaded model answers it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bms_engine::{Answer, Engine, oip};
use bms_wire::oip::{InferRequest, ModelMetadata};
use bms_wire::{Code, Error, Preprocess, Result, limits};
use bytes::Bytes;
use http::{HeaderValue, header};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::oneshot;

use crate::body::{self, Segments};
use crate::failure::{self, Failure};

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
            .route(&format!("{base}/infer"), post(infer));
    }
    router
        .fallback(failure::no_such_route)
        .method_not_allowed_fallback(failure::no_such_method)
        .with_state(engine)
}

/// The segments of a model's path.
#[derive(Debug, Deserialize)]
struct Named {
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
    if request.headers().contains_key("inference-header-content-length") {
        return Err(Error::new(Code::InvalidRequest, "tensors in binary form are not supported")
            .hint("Send the tensors' data as JSON.")
            .into());
    }
    let body = body::read(request, limits::INFER_BODY_BYTES_MAX, |_| Ok(())).await?;
    let is_quick = body.len() <= SMALL && !takes_pictures(&engine);
    let work = {
        let engine = engine.clone();
        move || begin(&engine, &body)
    };
    let begun = if is_quick { work() } else { aside(work).await };
    let Begun { answer, asked, abandoned: _abandoned } = begun?;
    let answer =
        answer.await.map_err(|e| Error::new(Code::Internal, "the engine gave no answer").because(e))??;
    let is_quick = numbers(&answer) <= SMALL;
    let work = move || write(&engine, answer, asked, named.version);
    let json = if is_quick { work() } else { aside(work).await };
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], Body::from(json?))
        .into_response())
}

/// A request the engine has taken.
struct Begun {
    answer: oneshot::Receiver<Result<Answer>>,
    asked: Asked,
    /// Dropped with the request: then the engine leaves it out.
    abandoned: Abandoned,
}

/// What of the request the answer needs.
struct Asked {
    id: Option<String>,
    outputs: Vec<String>,
}

/// Says, once dropped, that nobody waits for the answer any more.
struct Abandoned(Arc<AtomicBool>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Reads a request and hands it to the engine.
fn begin(engine: &Engine, body: &Bytes) -> Result<Begun> {
    let request: InferRequest = serde_json::from_slice(body).map_err(|e| {
        Error::new(Code::InvalidRequest, format!("the body is not an inference request: {e}")).because(e)
    })?;
    let outputs = request.outputs.iter().map(|output| output.name.clone()).collect();
    let asked = Asked { id: request.id.clone(), outputs };
    let input = oip::request_to_input(engine.describe(), request)?;
    let (reply, answer) = oneshot::channel();
    let abandoned = Abandoned(Arc::default());
    let flag = abandoned.0.clone();
    engine.submit_while(
        input,
        move || !flag.load(Ordering::Relaxed),
        move |answer| {
            // Nobody listens when the request was abandoned while it ran.
            let _ = reply.send(answer);
        },
    )?;
    Ok(Begun { answer, asked, abandoned })
}

/// The answer as it goes out.
fn write(engine: &Engine, answer: Answer, asked: Asked, version: Option<String>) -> Result<Vec<u8>> {
    let response = oip::answer_to_response(engine.describe(), answer, asked.id, version, &asked.outputs);
    serde_json::to_vec(&response)
        .map_err(|e| Error::new(Code::Internal, "the answer cannot be written as JSON").because(e))
}

fn takes_pictures(engine: &Engine) -> bool {
    matches!(engine.describe().pipeline.preprocess, Preprocess::Image(_))
}

/// Numbers in an answer, which is what writing it costs.
fn numbers(answer: &Answer) -> usize {
    let values: usize = answer.outputs.iter().map(|(_, tensor)| tensor.data().len()).sum();
    let classes = answer.classes.iter().flatten().map(|class| class.ranked.len()).sum::<usize>();
    values.saturating_add(classes)
}

/// Does work on a thread that may take its time.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(Error::new(Code::Internal, "the request broke its handler").because(e)))
}
