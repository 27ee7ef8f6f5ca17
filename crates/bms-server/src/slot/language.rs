//! The text-generation protocols as one loaded language model answers them.
//!
//! ```text
//! body ─▶ wire types ─▶ prompt (template, tokens) ─▶ engine ─▶ steps (thoughts, text, calls) ─▶ writer of the protocol
//! ```
//!
//! All protocols share everything but their first and last arrow. A streamed answer is written as its client reads
//! it: what the client has not read waits in a bounded queue, and a client that stops reading loses its answer, not
//! the engine its pace. A client that leaves cancels its request.

mod adapters;
mod anthropic;
mod assembly;
mod call;
mod embeddings;
mod job;
mod marks;
mod openai;
mod prompt;
mod reader;
mod readings;
mod script;
mod shield;
mod step;
mod stream;
mod tokens;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::{get, post};
use bms_engine::Progress;
use bms_engine::lm::LanguageEngine;
use bms_wire::{Code, Error, Result, limits};
use bytes::Bytes;

use crate::body;
use crate::failure::Dialect;
pub(super) use embeddings::GROUP_TOKENS;
use reader::Form;
pub(crate) use script::Script;
use shield::Shield;

/// The path at which a slot gives its readings to the server.
pub(crate) const READINGS: &str = "/v2/readings";

/// One loaded language model.
#[derive(Debug)]
pub(crate) struct Language {
    /// What requests call it.
    name: String,
    engine: LanguageEngine,
    script: Box<dyn Script>,
    /// How it writes calls of functions, and whether its template shows it functions at all.
    form: Form,
    template_knows_tools: bool,
    thinks: bool,
    shield: Shield,
    /// Control tokens that stand for marks in what it writes.
    marks: Vec<(u32, &'static str)>,
    /// Folders from which adapters may be loaded.
    adapter_folders: Vec<PathBuf>,
    loaded_at: u64,
    /// Numbers answers, so that their identifiers differ.
    answers: AtomicU64,
}

impl Language {
    /// A model under a name. Adapters are loaded from `adapter_folders` alone.
    pub(crate) fn new(
        name: String,
        engine: LanguageEngine,
        script: Box<dyn Script>,
        adapter_folders: Vec<PathBuf>,
    ) -> Self {
        let form = prompt::form_of(&*script);
        let template_knows_tools = script.template_mentions("tools");
        let thinks = script.template_mentions(reader::THINK);
        let marks = reader::MARKS.iter().filter_map(|mark| Some((script.control_token(mark)?, *mark)));
        let marks = marks.collect();
        Language {
            name,
            engine,
            form,
            template_knows_tools,
            thinks,
            shield: Shield::of(&*script),
            marks,
            script,
            adapter_folders,
            loaded_at: now(),
            answers: AtomicU64::new(0),
        }
    }

    /// The adapter a request's model names, when it names one: as `adapter` or `name:adapter`. `name` may also be
    /// followed by a version or an alias, which the gateway has followed.
    ///
    /// # Errors
    /// [`Code::ModelNotFound`] when this is another model, or it has no such adapter.
    fn adapter(&self, model: Option<&str>) -> Result<Option<String>> {
        let Some(asked) = model else { return Ok(None) };
        let adapters = self.engine.adapters();
        let own =
            asked.strip_prefix(&self.name).filter(|rest| rest.is_empty() || rest.starts_with([':', '@']));
        let adapter = own.map_or(asked, |rest| rest.trim_start_matches(':'));
        if adapters.iter().any(|known| known == adapter) {
            return Ok(Some(adapter.to_owned()));
        }
        if own.is_some() {
            return Ok(None);
        }
        let what =
            format!("there is no model or adapter `{asked}` here, this is the slot of `{}`", self.name);
        Err(Error::new(Code::ModelNotFound, what).about("model"))
    }

    /// How far the engine's work is.
    pub(crate) fn progress(&self) -> Progress {
        self.engine.progress()
    }

    /// An identifier no other answer of this slot has.
    fn identifier(&self, prefix: &str) -> String {
        let number = self.answers.fetch_add(1, Ordering::Relaxed);
        format!("{prefix}{:08x}{:08x}", self.loaded_at & 0xffff_ffff, number)
    }
}

/// The routes of a language model.
pub(crate) fn routes(language: Arc<Language>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(openai::chat::answer))
        .route("/v1/completions", post(openai::completion::answer))
        .route("/v1/responses", post(openai::responses::answer))
        .route("/v1/embeddings", post(embeddings::answer))
        .route("/v1/models", get(openai::models::list))
        .route("/v1/models/{model}", get(openai::models::one))
        .route("/v1/messages", post(anthropic::answer))
        .route("/v1/messages/count_tokens", post(anthropic::count))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/v1/load_lora_adapter", post(adapters::load))
        .route("/v1/unload_lora_adapter", post(adapters::unload))
        .route(READINGS, get(readings::read))
        .with_state(language)
}

/// Reads a request's body and works on it on a thread that may take its time: templates, tokenisers and grammars
/// do not belong on the thread that talks to the network.
async fn prepared<T: Send + 'static>(
    language: Arc<Language>,
    request: Request,
    work: impl FnOnce(&Language, &Bytes) -> Result<T> + Send + 'static,
) -> Result<T> {
    let body = body::read(request, limits::INFER_BODY_BYTES_MAX, |_| Ok(())).await?;
    aside(move || work(&language, &body)).await
}

/// Does work on a thread that may take its time.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(Error::new(Code::Internal, "the request broke its handler").because(e)))
}

/// An answer, or the error in the protocol's shape.
fn answered(dialect: Dialect, answer: Result<Response>) -> Response {
    use axum::response::IntoResponse;
    answer.unwrap_or_else(|error| dialect.failure(error).into_response())
}

/// A JSON answer.
fn json(value: &impl serde::Serialize) -> Result<Response> {
    use axum::response::IntoResponse;
    let bytes = serde_json::to_vec(value)
        .map_err(|e| Error::new(Code::Internal, "the answer cannot be written as JSON").because(e))?;
    let kind = (http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    Ok(([kind], bytes).into_response())
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
