//! Models, their versions and aliases.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, put};
use bms_wire::api::{Model, NewVersion, SetAlias, Version};
use http::StatusCode;
use serde::Deserialize;

use super::{Answer, Api, lifecycle};
use crate::body::{Asked, Document, Segments};
use crate::failure::Failure;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/models", get(models))
        .route("/models/{model}", get(model).patch(lifecycle::describe_model).delete(lifecycle::delete_model))
        .route("/models/{model}/versions", get(versions).post(publish))
        .route(
            "/models/{model}/versions/{version}",
            get(version).patch(lifecycle::describe_version).delete(lifecycle::delete_version),
        )
        .route("/models/{model}/aliases/{alias}", put(set_alias).delete(remove_alias))
}

/// Those of the routes that workers read.
pub(super) fn reading() -> Router<Arc<Api>> {
    Router::new().route("/models/{model}/versions/{version}", get(version))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    /// What was deleted instead.
    #[serde(default)]
    deleted: bool,
}

async fn models(State(api): State<Arc<Api>>, Asked(which): Asked<Which>) -> Answer<Vec<Model>> {
    let models = match which.deleted {
        true => api.registry.deleted_models().await?,
        false => api.registry.models().await?,
    };
    Ok(axum::Json(models))
}

async fn model(State(api): State<Arc<Api>>, Segments(model): Segments<String>) -> Answer<Model> {
    Ok(axum::Json(api.registry.model(&model).await?))
}

async fn versions(State(api): State<Arc<Api>>, Segments(model): Segments<String>) -> Answer<Vec<Version>> {
    Ok(axum::Json(api.registry.model(&model).await?.versions))
}

async fn version(
    State(api): State<Arc<Api>>,
    Segments((model, version)): Segments<(String, String)>,
) -> Answer<Version> {
    Ok(axum::Json(api.registry.resolve(&model, &version).await?))
}

async fn publish(
    State(api): State<Arc<Api>>,
    Segments(model): Segments<String>,
    Document(new): Document<NewVersion>,
) -> Answer<Version> {
    let version = api.registry.publish(&model, new, &api.policy.now()).await?;
    api.changed.notify_one();
    Ok(axum::Json(version))
}

async fn set_alias(
    State(api): State<Arc<Api>>,
    Segments((model, alias)): Segments<(String, String)>,
    Document(set): Document<SetAlias>,
) -> Answer<Version> {
    let version = api.registry.set_alias(&model, &alias, &set).await?;
    api.changed.notify_one();
    Ok(axum::Json(version))
}

async fn remove_alias(
    State(api): State<Arc<Api>>,
    Segments((model, alias)): Segments<(String, String)>,
) -> Result<StatusCode, Failure> {
    api.registry.remove_alias(&model, &alias).await?;
    api.changed.notify_one();
    Ok(StatusCode::NO_CONTENT)
}
