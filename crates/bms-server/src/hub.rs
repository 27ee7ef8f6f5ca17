//! The part of the Hugging Face Hub's API that downloads: `huggingface_hub` with `HF_ENDPOINT` set to this server fetches
//! from the registry.
//!
//! Paths, fields and headers are those of `hf_api.py` and `file_download.py` in
//! <https://github.com/huggingface/huggingface_hub>. A model's versions are revisions of a repository without owner; nothing
//! can be uploaded this way. Every file is told as a large one is: its entity tag is its SHA-256, which the store found when
//! the file came in, so that nothing needs to be read to answer.

mod failure;
mod files;
mod revision;
mod shape;

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Extension, Router};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::Value;

pub(crate) use self::failure::{Refused, is_path};
use crate::api::Api;
use crate::body::{Asked, Segments};

/// What a handler of these routes returns.
type Answer = Result<axum::Json<Value>, Refused>;

/// How the server is asked: `http` or `https`.
#[derive(Clone, Copy, Debug)]
struct Scheme(&'static str);

/// The routes, on a server that is asked by `http` or `https`.
pub(crate) fn routes(api: &Arc<Api>, scheme: &'static str) -> Router {
    Router::new()
        .route("/api/models/{model}", get(info))
        .route("/api/models/{model}/refs", get(refs))
        .route("/api/models/{model}/revision/{revision}", get(info_at))
        .route("/api/models/{model}/tree/{revision}", get(tree_root))
        .route("/api/models/{model}/tree/{revision}/{*path}", get(tree))
        .route("/{model}/resolve/{revision}/{*path}", get(files::download))
        .layer(Extension(Scheme(scheme)))
        .with_state(api.clone())
}

#[derive(Debug, Deserialize)]
struct InfoQuery {
    /// Whether sizes and digests of files are told as well.
    #[serde(default)]
    blobs: String,
}

#[derive(Debug, Deserialize)]
struct TreeQuery {
    #[serde(default)]
    recursive: String,
    /// The path after which the page begins.
    #[serde(default)]
    cursor: String,
}

/// As Python and JavaScript write it.
fn is_true(text: &str) -> bool {
    matches!(text, "true" | "True" | "1")
}

async fn info(
    State(api): State<Arc<Api>>,
    Segments(model): Segments<String>,
    query: Asked<InfoQuery>,
) -> Answer {
    info_of(&api, &model, revision::DEFAULT, query).await
}

async fn info_at(
    State(api): State<Arc<Api>>,
    Segments((model, revision)): Segments<(String, String)>,
    query: Asked<InfoQuery>,
) -> Answer {
    info_of(&api, &model, &revision, query).await
}

async fn info_of(api: &Api, model: &str, revision: &str, Asked(query): Asked<InfoQuery>) -> Answer {
    let found = revision::find(api, model, revision).await?;
    Ok(axum::Json(shape::info(api, &found, is_true(&query.blobs)).await?))
}

async fn refs(State(api): State<Arc<Api>>, Segments(model): Segments<String>) -> Answer {
    Ok(axum::Json(shape::refs(&api, &model).await?))
}

async fn tree_root(
    state: State<Arc<Api>>,
    scheme: Extension<Scheme>,
    Segments((model, revision)): Segments<(String, String)>,
    query: Asked<TreeQuery>,
    headers: HeaderMap,
) -> Result<shape::Listed, Refused> {
    tree(state, scheme, Segments((model, revision, String::new())), query, headers).await
}

async fn tree(
    State(api): State<Arc<Api>>,
    Extension(Scheme(scheme)): Extension<Scheme>,
    Segments((model, revision, path)): Segments<(String, String, String)>,
    Asked(query): Asked<TreeQuery>,
    headers: HeaderMap,
) -> Result<shape::Listed, Refused> {
    let found = revision::find(&api, &model, &revision).await?;
    let page = shape::PageOf {
        folder: path.trim_matches('/'),
        after: &query.cursor,
        deep: is_true(&query.recursive),
        scheme,
    };
    Ok(shape::tree(&api, &found, &page, &headers).await?)
}
