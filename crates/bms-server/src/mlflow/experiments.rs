//! `/experiments/…`

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use bms_registry::View;
use bms_wire::{Code, Error, Result};
use serde_json::json;

use super::call::Call;
use super::{Answer, shape};
use crate::api::Api;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/experiments/create", post(create))
        .route("/experiments/get", get(read))
        .route("/experiments/get-by-name", get(by_name))
        .route("/experiments/search", get(search).post(search))
        .route("/experiments/update", post(update))
        .route("/experiments/delete", post(delete))
        .route("/experiments/restore", post(restore))
        .route("/experiments/set-experiment-tag", post(set_tag))
        .route("/experiments/delete-experiment-tag", post(delete_tag))
}

/// Whether deleted things are wanted.
pub(super) fn view(call: &Call, key: &str) -> Result<View> {
    match call.maybe(key)? {
        None | Some("ACTIVE_ONLY") => Ok(View::Active),
        Some("DELETED_ONLY") => Ok(View::Deleted),
        Some("ALL") => Ok(View::All),
        Some(_) => {
            let what = format!("`{key}` is ACTIVE_ONLY, DELETED_ONLY or ALL");
            Err(Error::new(Code::InvalidRequest, what))
        }
    }
}

async fn create(State(api): State<Arc<Api>>, call: Call) -> Answer {
    if let Some(place) =
        call.maybe("artifact_location")?.filter(|place| !place.starts_with("mlflow-artifacts:"))
    {
        let shown: String = place.chars().take(200).collect();
        return Err(Error::new(Code::InvalidRequest, format!("artifacts cannot be kept at `{shown}`"))
            .hint("Leave `artifact_location` away: this server keeps artifacts itself.")
            .into());
    }
    let tags = call.pairs("tags")?;
    let id = api.registry.create_experiment(call.text("name")?, &tags, &call.person).await?;
    Ok(axum::Json(json!({ "experiment_id": id.to_string() })))
}

async fn read(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let found = api.registry.experiment(call.number("experiment_id")?).await?;
    Ok(axum::Json(json!({ "experiment": shape::experiment(&found) })))
}

async fn by_name(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let found = api.registry.experiment_named(call.text("experiment_name")?).await?;
    Ok(axum::Json(json!({ "experiment": shape::experiment(&found) })))
}

async fn search(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let filter = call.maybe("filter")?.unwrap_or_default();
    let (order, view) = (call.texts("order_by")?, view(&call, "view_type")?);
    let (found, next) = api.registry.search_experiments(filter, &order, view, call.page()?).await?;
    let experiments: Vec<_> = found.iter().map(shape::experiment).collect();
    Ok(axum::Json(paged(json!({ "experiments": experiments }), next)))
}

/// Adds where the next page begins.
pub(super) fn paged(mut answer: serde_json::Value, next: Option<u64>) -> serde_json::Value {
    if let Some(next) = next {
        answer["next_page_token"] = json!(next.to_string());
    }
    answer
}

async fn update(State(api): State<Arc<Api>>, call: Call) -> Answer {
    if let Some(name) = call.maybe("new_name")? {
        api.registry.rename_experiment(call.number("experiment_id")?, name, &call.person).await?;
    }
    Ok(axum::Json(json!({})))
}

async fn delete(State(api): State<Arc<Api>>, call: Call) -> Answer {
    api.registry.set_experiment_deleted(call.number("experiment_id")?, true, &call.person).await?;
    Ok(axum::Json(json!({})))
}

async fn restore(State(api): State<Arc<Api>>, call: Call) -> Answer {
    api.registry.set_experiment_deleted(call.number("experiment_id")?, false, &call.person).await?;
    Ok(axum::Json(json!({})))
}

async fn set_tag(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let value = call.maybe("value")?.unwrap_or_default();
    api.registry.tag_experiment(call.number("experiment_id")?, call.text("key")?, Some(value)).await?;
    Ok(axum::Json(json!({})))
}

async fn delete_tag(State(api): State<Arc<Api>>, call: Call) -> Answer {
    api.registry.tag_experiment(call.number("experiment_id")?, call.text("key")?, None).await?;
    Ok(axum::Json(json!({})))
}
