//! What happens to models and versions after they were published.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post, put};
use bms_registry::Page;
use bms_wire::api::{
    ApplyRetention, Decision, Describe, Found, Lineage, Model, NewTransition, RetentionReport, RetentionRule,
    SetTag, StageRule, Transition, Version, VersionName,
};
use bms_wire::{Code, Error, Result};
use http::StatusCode;
use serde::Deserialize;

use super::person::Person;
use super::{Answer, Api};
use crate::body::{Asked, Document, Segments};
use crate::failure::Failure;

/// Things in one page of a search when the caller does not say how many.
const PAGE_DEFAULT: usize = 100;

pub(super) fn routes() -> Router<Arc<Api>> {
    const VERSION: &str = "/models/{model}/versions/{version}";
    Router::new()
        .route("/search/models", get(search_models))
        .route("/search/versions", get(search_versions))
        .route("/models/{model}/restore", post(restore_model))
        .route("/models/{model}/tags/{key}", put(tag_model).delete(untag_model))
        .route(&format!("{VERSION}/restore"), post(restore_version))
        .route(&format!("{VERSION}/purge"), post(purge_version))
        .route(&format!("{VERSION}/tags/{{key}}"), put(tag_version).delete(untag_version))
        .route(&format!("{VERSION}/transitions"), post(request))
        .route(&format!("{VERSION}/lineage"), get(lineage))
        .route("/lineage/data/{digest}", get(trained_on))
        .route("/transitions", get(transitions))
        .route("/transitions/{id}", get(transition))
        .route("/transitions/{id}/approve", post(approve))
        .route("/transitions/{id}/reject", post(reject))
        .route("/stage-rules", get(stage_rules).put(set_stage_rule))
        .route("/retention", get(retention).put(set_retention).delete(remove_retention))
        .route("/retention/apply", post(apply_retention))
}

/// The number of a version: what changes a version names it exactly.
fn number(version: &str) -> Result<u64> {
    version.parse().map_err(|_| {
        let shown: String = version.chars().take(80).collect();
        Error::new(Code::InvalidRequest, format!("`{shown}` is not the number of a version"))
            .hint("Aliases move; name the version itself.")
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Search {
    #[serde(default)]
    filter: String,
    /// By what it is ordered, separated by commas.
    #[serde(default)]
    order: String,
    #[serde(default)]
    offset: u64,
    limit: Option<usize>,
}

impl Search {
    fn page(&self) -> Page {
        Page { offset: self.offset, size: self.limit.unwrap_or(PAGE_DEFAULT) }
    }

    fn order(&self) -> Vec<String> {
        self.order.split(',').map(str::trim).filter(|order| !order.is_empty()).map(str::to_owned).collect()
    }
}

async fn search_models(State(api): State<Arc<Api>>, Asked(search): Asked<Search>) -> Answer<Found<Model>> {
    let (items, next) = api.registry.search_models(&search.filter, &search.order(), search.page()).await?;
    Ok(axum::Json(Found { items, next }))
}

async fn search_versions(
    State(api): State<Arc<Api>>,
    Asked(search): Asked<Search>,
) -> Answer<Found<Version>> {
    let (items, next) = api.registry.search_versions(&search.filter, &search.order(), search.page()).await?;
    Ok(axum::Json(Found { items, next }))
}

pub(super) async fn describe_model(
    State(api): State<Arc<Api>>,
    Segments(model): Segments<String>,
    by: Person,
    Document(describe): Document<Describe>,
) -> Answer<Model> {
    Ok(axum::Json(api.registry.describe_model(&model, &describe.description, by.said()).await?))
}

pub(super) async fn delete_model(
    State(api): State<Arc<Api>>,
    Segments(model): Segments<String>,
    by: Person,
) -> Result<StatusCode, Failure> {
    api.registry.delete_model(&model, false, by.said()).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn restore_model(
    State(api): State<Arc<Api>>,
    Segments(model): Segments<String>,
    by: Person,
) -> Answer<Model> {
    api.registry.restore_model(&model, by.said()).await?;
    Ok(axum::Json(api.registry.model(&model).await?))
}

async fn tag_model(
    State(api): State<Arc<Api>>,
    Segments((model, key)): Segments<(String, String)>,
    by: Person,
    Document(tag): Document<SetTag>,
) -> Answer<Model> {
    api.registry.tag_model(&model, &key, Some(&tag.value), by.said()).await?;
    Ok(axum::Json(api.registry.model(&model).await?))
}

async fn untag_model(
    State(api): State<Arc<Api>>,
    Segments((model, key)): Segments<(String, String)>,
    by: Person,
) -> Result<StatusCode, Failure> {
    api.registry.tag_model(&model, &key, None, by.said()).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn describe_version(
    State(api): State<Arc<Api>>,
    Segments((model, version)): Segments<(String, String)>,
    by: Person,
    Document(describe): Document<Describe>,
) -> Answer<Version> {
    let described =
        api.registry.describe_version(&model, number(&version)?, &describe.description, by.said()).await?;
    Ok(axum::Json(described))
}

pub(super) async fn delete_version(
    State(api): State<Arc<Api>>,
    Segments((model, version)): Segments<(String, String)>,
    by: Person,
) -> Result<StatusCode, Failure> {
    api.registry.delete_version(&model, number(&version)?, false, by.said()).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn restore_version(
    State(api): State<Arc<Api>>,
    Segments((model, version)): Segments<(String, String)>,
    by: Person,
) -> Answer<Version> {
    Ok(axum::Json(api.registry.restore_version(&model, number(&version)?, by.said()).await?))
}

async fn purge_version(
    State(api): State<Arc<Api>>,
    Segments((model, version)): Segments<(String, String)>,
    by: Person,
) -> Result<StatusCode, Failure> {
    api.registry.purge_version(&model, number(&version)?, by.said()).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn tag_version(
    State(api): State<Arc<Api>>,
    Segments((model, version, key)): Segments<(String, String, String)>,
    by: Person,
    Document(tag): Document<SetTag>,
) -> Answer<Version> {
    let version = number(&version)?;
    api.registry.tag_version(&model, version, &key, Some(&tag.value), by.said()).await?;
    Ok(axum::Json(api.registry.version(&model, version).await?))
}

async fn untag_version(
    State(api): State<Arc<Api>>,
    Segments((model, version, key)): Segments<(String, String, String)>,
    by: Person,
) -> Result<StatusCode, Failure> {
    api.registry.tag_version(&model, number(&version)?, &key, None, by.said()).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn request(
    State(api): State<Arc<Api>>,
    Segments((model, version)): Segments<(String, String)>,
    by: Person,
    Document(new): Document<NewTransition>,
) -> Answer<Transition> {
    let of = VersionName { model, version: number(&version)? };
    Ok(axum::Json(api.registry.request_transition(&of, &new, &by.0).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    model: Option<String>,
    /// Only those that are not decided.
    #[serde(default)]
    pending: bool,
}

async fn transitions(State(api): State<Arc<Api>>, Asked(which): Asked<Which>) -> Answer<Vec<Transition>> {
    Ok(axum::Json(api.registry.transitions(which.model.as_deref(), which.pending).await?))
}

async fn transition(State(api): State<Arc<Api>>, Segments(id): Segments<u64>) -> Answer<Transition> {
    Ok(axum::Json(api.registry.transition(id).await?))
}

async fn approve(
    State(api): State<Arc<Api>>,
    Segments(id): Segments<u64>,
    by: Person,
    Document(decision): Document<Decision>,
) -> Answer<Transition> {
    Ok(axum::Json(api.registry.approve_transition(id, &decision.comment, &by.0).await?))
}

async fn reject(
    State(api): State<Arc<Api>>,
    Segments(id): Segments<u64>,
    by: Person,
    Document(decision): Document<Decision>,
) -> Answer<Transition> {
    Ok(axum::Json(api.registry.reject_transition(id, &decision.comment, &by.0).await?))
}

async fn stage_rules(State(api): State<Arc<Api>>) -> Answer<Vec<StageRule>> {
    Ok(axum::Json(api.registry.stage_rules().await?))
}

async fn set_stage_rule(
    State(api): State<Arc<Api>>,
    by: Person,
    Document(rule): Document<StageRule>,
) -> Answer<StageRule> {
    api.registry.set_stage_rule(&rule, by.said()).await?;
    Ok(axum::Json(rule))
}

async fn retention(State(api): State<Arc<Api>>) -> Answer<Vec<RetentionRule>> {
    Ok(axum::Json(api.registry.retention_rules().await?))
}

async fn set_retention(
    State(api): State<Arc<Api>>,
    by: Person,
    Document(rule): Document<RetentionRule>,
) -> Answer<RetentionRule> {
    api.registry.set_retention(&rule, by.said()).await?;
    Ok(axum::Json(rule))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfModel {
    model: Option<String>,
}

async fn remove_retention(
    State(api): State<Arc<Api>>,
    Asked(of): Asked<OfModel>,
    by: Person,
) -> Result<StatusCode, Failure> {
    api.registry.remove_retention(of.model.as_deref(), by.said()).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn apply_retention(
    State(api): State<Arc<Api>>,
    by: Person,
    Document(apply): Document<ApplyRetention>,
) -> Answer<RetentionReport> {
    Ok(axum::Json(api.registry.apply_retention(apply.dry_run, by.said()).await?))
}

async fn lineage(
    State(api): State<Arc<Api>>,
    Segments((model, version)): Segments<(String, String)>,
) -> Answer<Lineage> {
    let version = api.registry.resolve(&model, &version).await?.version;
    Ok(axum::Json(api.registry.lineage_graph(&model, version).await?))
}

async fn trained_on(
    State(api): State<Arc<Api>>,
    Segments(digest): Segments<String>,
) -> Answer<Vec<VersionName>> {
    Ok(axum::Json(api.registry.trained_on(&digest).await?))
}
