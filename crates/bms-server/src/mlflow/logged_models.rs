//! `/logged-models/…`: models that runs logged, before anybody registers them.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{delete, get, patch, post};
use bms_registry::LoggedModel;
use serde_json::json;

use super::call::Call;
use super::experiments::paged;
use super::{Answer, shape};
use crate::api::Api;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/logged-models", post(create))
        .route("/logged-models/search", post(search))
        .route("/logged-models/{id}", get(read).patch(finalize).delete(remove))
        .route("/logged-models/{id}/tags", patch(set_tags))
        .route("/logged-models/{id}/tags/{key}", delete(remove_tag))
        .route("/logged-models/{id}/params", post(log_params))
}

async fn create(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let new = LoggedModel {
        experiment: call.number("experiment_id")?,
        name: call.maybe("name")?.unwrap_or_default().to_owned(),
        model_type: call.maybe("model_type")?.unwrap_or_default().to_owned(),
        run: call.maybe("source_run_id")?.map(str::to_owned),
        params: call.pairs("params")?,
        tags: call.pairs("tags")?,
        ..LoggedModel::default()
    };
    let model = api.registry.create_logged_model(&new).await?;
    Ok(axum::Json(json!({ "model": shape::logged_model(&model) })))
}

async fn read(State(api): State<Arc<Api>>, Path(id): Path<String>) -> Answer {
    let model = api.registry.logged_model(&id).await?;
    Ok(axum::Json(json!({ "model": shape::logged_model(&model) })))
}

async fn finalize(State(api): State<Arc<Api>>, Path(id): Path<String>, call: Call) -> Answer {
    let model = api.registry.finalize_logged_model(&id, call.text("status")?).await?;
    Ok(axum::Json(json!({ "model": shape::logged_model(&model) })))
}

async fn remove(State(api): State<Arc<Api>>, Path(id): Path<String>, call: Call) -> Answer {
    api.registry.delete_logged_model(&id, &call.person).await?;
    Ok(axum::Json(json!({})))
}

async fn set_tags(State(api): State<Arc<Api>>, Path(id): Path<String>, call: Call) -> Answer {
    let model = api.registry.describe_logged_model(&id, &call.pairs("tags")?, &[]).await?;
    Ok(axum::Json(json!({ "model": shape::logged_model(&model) })))
}

async fn remove_tag(State(api): State<Arc<Api>>, Path((id, key)): Path<(String, String)>) -> Answer {
    api.registry.remove_logged_model_tag(&id, &key).await?;
    Ok(axum::Json(json!({})))
}

async fn log_params(State(api): State<Arc<Api>>, Path(id): Path<String>, call: Call) -> Answer {
    api.registry.describe_logged_model(&id, &[], &call.pairs("params")?).await?;
    Ok(axum::Json(json!({})))
}

async fn search(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let asked = call.texts("experiment_ids")?;
    let experiments: Vec<u64> = asked.iter().filter_map(|id| id.parse().ok()).collect();
    if experiments.is_empty() && !asked.is_empty() {
        return Ok(axum::Json(json!({ "models": [] })));
    }
    let filter = call.maybe("filter")?.unwrap_or_default();
    let (models, next) = api.registry.search_logged_models(&experiments, filter, call.page()?).await?;
    let models: Vec<_> = models.iter().map(shape::logged_model).collect();
    Ok(axum::Json(paged(json!({ "models": models }), next)))
}
