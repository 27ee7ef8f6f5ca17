//! What slots of language models say of themselves: `/v1/models` with their adapters, and what they have counted.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bms_wire::api::SlotState;
use bms_wire::language::Reading;
use bms_wire::openai::{Model, ModelList};
use bms_wire::{Code, Error};
use http::{Request, StatusCode};
use http_body_util::Full;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::failure::Dialect;
use crate::gateway::Gateway;
use crate::slots::{Slot, VersionName};

/// Where a slot says what it has counted.
const READINGS: &str = "/v2/readings";
/// How long a slot may take to say what it has.
const SLOT_WITHIN: Duration = Duration::from_secs(2);

pub(super) async fn all(State(gateway): State<Arc<Gateway>>) -> Response {
    axum::Json(ModelList::of(gateway.list_models().await)).into_response()
}

pub(super) async fn one(State(gateway): State<Arc<Gateway>>, Path(id): Path<String>) -> Response {
    let models = gateway.list_models().await;
    let named = models.iter().find(|model| model.id == id).cloned();
    // `name:version` and `name@alias` are names, too.
    let named = named.or_else(|| {
        let (name, _) = gateway.fleet.resolve(&id).ok()?;
        models.into_iter().find(|model| model.id == name).map(|model| Model { id: id.clone(), ..model })
    });
    match named {
        Some(model) => axum::Json(model).into_response(),
        None => {
            let error = Error::new(Code::ModelNotFound, format!("no model `{id}` is deployed here"));
            let error = error.hint("GET /v1/models lists those that are.");
            Dialect::OpenAi.failure(error).into_response()
        }
    }
}

impl Gateway {
    /// What is deployed that takes text, by name.
    pub(super) async fn list_models(&self) -> Vec<Model> {
        let mut models = Vec::new();
        for name in self.fleet.language_models() {
            match self.models_of_slot(&name).await {
                Some(listed) => models.extend(listed),
                // It is loading or busy; that it is deployed is known all the same.
                None => models.push(Model::new(name, 0)),
            }
        }
        models
    }

    /// What a model's slot says of itself: the model, and its adapters.
    async fn models_of_slot(&self, name: &str) -> Option<Vec<Model>> {
        let slot = self.fleet.route(name, None).ok()?.pool.ready().into_iter().next()?;
        let mut models = ask::<ModelList>(&slot, "/v1/models").await?.data;
        // The slot knows the name in the manifest; what counts is the name it is deployed under.
        if let Some(base) = models.iter_mut().find(|model| model.parent.is_none()) {
            name.clone_into(&mut base.id);
        }
        for adapter in models.iter_mut().filter(|model| model.parent.is_some()) {
            adapter.parent = Some(name.to_owned());
        }
        Some(models)
    }

    /// What the engines of all language models have counted. A slot that does not say so at once is left out.
    pub(crate) async fn language_readings(&self) -> Vec<(VersionName, Reading)> {
        let mut asking = tokio::task::JoinSet::new();
        for slot in self.fleet.language_slots() {
            asking.spawn(async move {
                let reading = ask(&slot, READINGS).await?;
                Some((slot.of().clone(), reading))
            });
        }
        let mut readings: Vec<_> = asking.join_all().await.into_iter().flatten().collect();
        readings.sort_by(|(a, _), (b, _)| a.cmp(b));
        readings
    }
}

/// Asks a slot that is ready for a document.
pub(crate) async fn ask<T: DeserializeOwned>(slot: &Arc<Slot>, path: &str) -> Option<T> {
    if slot.state() != SlotState::Ready {
        return None;
    }
    let deadline = Instant::now() + SLOT_WITHIN;
    let lease = slot.lease_unseated(deadline).await.ok()?;
    let request = Request::get(path).header("host", "slot").body(Full::default()).ok()?;
    let (mut parts, coming) = lease.begin(request, deadline).await?.ok()?;
    let body = tokio::time::timeout_at(deadline, coming.whole(&mut parts)).await.ok()?.ok()?;
    if parts.status != StatusCode::OK {
        return None;
    }
    serde_json::from_slice(&body).ok()
}
