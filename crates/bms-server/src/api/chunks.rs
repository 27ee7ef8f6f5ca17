//! Chunks of files: a push sends those that are not here yet, an edge node fetches those it does not have.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bms_store::{frame, unframe};
use bms_wire::api::{ChunkList, ChunksStored};
use bms_wire::{Code, Error, Result, limits};
use bytes::Bytes;
use http::{HeaderValue, header};
use serde::Serialize;
use tokio::sync::SemaphorePermit;

use super::{Answer, Api};
use crate::body::{self, Document, Segments};
use crate::failure::Failure;

/// Requests whose chunks are in memory at once; more wait.
pub(super) const TRANSFERS_MAX: usize = 4;
/// How long chunks in one request may take to arrive.
const CHUNKS_WITHIN: std::time::Duration = std::time::Duration::from_secs(300);

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/chunks", post(store))
        .route("/chunks/missing", post(missing))
        .route("/chunks/read", post(read))
        .route("/blobs/{blake3}/recipe", get(recipe).put(compose))
}

/// Those of the routes that read.
pub(super) fn reading() -> Router<Arc<Api>> {
    Router::new().route("/chunks/read", post(read)).route("/blobs/{blake3}/recipe", get(recipe))
}

async fn missing(State(api): State<Arc<Api>>, Document(asked): Document<ChunkList>) -> Answer<ChunkList> {
    Ok(axum::Json(ChunkList { chunks: api.registry.missing_chunks(&asked.chunks).await? }))
}

async fn store(State(api): State<Arc<Api>>, request: Request) -> Answer<ChunksStored> {
    let _turn = turn(&api).await?;
    let chunks = unframe(receive(request, limits::CHUNKS_BODY_BYTES_MAX).await?)?;
    Ok(axum::Json(api.registry.put_chunks(chunks).await?))
}

async fn read(
    State(api): State<Arc<Api>>,
    Document(asked): Document<ChunkList>,
) -> Result<Response, Failure> {
    let turn = turn(&api).await?;
    let chunks = api.registry.get_chunks(&asked.chunks).await?;
    let mut bytes = Vec::with_capacity(chunks.iter().map(|(_, chunk)| chunk.len() + 36).sum());
    chunks.iter().for_each(|(id, chunk)| frame(*id, chunk, &mut bytes));
    drop(turn);
    Ok(binary(bytes.into()))
}

async fn recipe(
    State(api): State<Arc<Api>>,
    Segments(blake3): Segments<String>,
) -> Result<Response, Failure> {
    Ok(binary(api.registry.recipe(&blake3).await?.into()))
}

#[derive(Debug, Serialize)]
struct Made {
    blake3: String,
    size: u64,
}

async fn compose(
    State(api): State<Arc<Api>>,
    Segments(blake3): Segments<String>,
    request: Request,
) -> Answer<Made> {
    let recipe = receive(request, limits::RECIPE_BYTES_MAX).await?;
    let size = api.registry.put_recipe(&blake3, &recipe).await?;
    Ok(axum::Json(Made { blake3, size }))
}

async fn turn(api: &Api) -> Result<SemaphorePermit<'_>> {
    let turn = api.transfers.acquire().await;
    turn.map_err(|e| Error::new(Code::Internal, "no chunks are taken any more").because(e))
}

async fn receive(request: Request, limit: usize) -> Result<Bytes> {
    let reading = body::read(request, limit, |_| Ok(()));
    tokio::time::timeout(CHUNKS_WITHIN, reading).await.map_err(|_| {
        let what = format!("the request did not arrive within {} s", CHUNKS_WITHIN.as_secs());
        Error::new(Code::DeadlineExceeded, what)
    })?
}

fn binary(bytes: Bytes) -> Response {
    let mut response = bytes.into_response();
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
