//! Workers: tokens to join with, how each stands, and where slots are placed.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use bms_registry::{Placed, Registry};
use bms_wire::api::{JoinToken, NewJoinToken, Placement, Worker};
use bms_wire::{Code, Error};
use tokio::sync::Notify;

use super::Answer;
use super::person::Person;
use crate::body::{Document, Segments};
use crate::nodes::Centre;

/// What the routes share.
pub(crate) struct Workers {
    pub(crate) registry: Registry,
    /// None when the server takes no workers.
    pub(crate) centre: Option<Arc<Centre>>,
    pub(crate) changed: Arc<Notify>,
}

pub(crate) fn routes(workers: Workers) -> Router {
    Router::new()
        .route("/api/v1/workers", get(all))
        .route("/api/v1/placements", get(placements))
        .route("/api/v1/workers/tokens", post(create_token))
        .route("/api/v1/workers/{worker}/drain", post(drain))
        .route("/api/v1/workers/{worker}/resume", post(resume))
        .route("/api/v1/workers/{worker}/revoke", post(revoke))
        .with_state(Arc::new(workers))
}

async fn all(State(workers): State<Arc<Workers>>) -> Answer<Vec<Worker>> {
    Ok(Json(workers.registry.workers().await?))
}

async fn placements(State(workers): State<Arc<Workers>>) -> Answer<Vec<Placement>> {
    let placement = |placed: Placed| Placement {
        id: placed.id,
        model: placed.model,
        version: placed.version,
        number: placed.number,
        worker: placed.worker,
        memory_bytes: placed.memory_bytes,
        cores: placed.cores,
        leaving: placed.leaving,
        why: placed.why,
    };
    let (placed, _) = workers.registry.placements().await?;
    Ok(Json(placed.into_iter().map(placement).collect()))
}

async fn create_token(
    State(workers): State<Arc<Workers>>,
    person: Person,
    Document(new): Document<NewJoinToken>,
) -> Answer<JoinToken> {
    let centre = workers.centre.as_ref().ok_or_else(|| {
        Error::new(Code::Conflict, "this server takes no workers")
            .hint("Start it with `bms up --nodes-listen HOST:PORT`.")
    })?;
    Ok(Json(centre.create_token(&new, person.said()).await?))
}

async fn drain(
    State(workers): State<Arc<Workers>>,
    person: Person,
    Segments(worker): Segments<String>,
) -> Answer<Worker> {
    let worker = workers.registry.drain_worker(&worker, person.said()).await?;
    workers.changed.notify_one();
    Ok(Json(worker))
}

async fn resume(
    State(workers): State<Arc<Workers>>,
    person: Person,
    Segments(worker): Segments<String>,
) -> Answer<Worker> {
    let worker = workers.registry.resume_worker(&worker, person.said()).await?;
    workers.changed.notify_one();
    Ok(Json(worker))
}

async fn revoke(
    State(workers): State<Arc<Workers>>,
    person: Person,
    Segments(worker): Segments<String>,
) -> Answer<Worker> {
    let worker = workers.registry.revoke_worker(&worker, person.said()).await?;
    workers.changed.notify_one();
    Ok(Json(worker))
}
