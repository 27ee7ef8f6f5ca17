//! `/registered-models/…` and `/model-versions/…`

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::{delete, get, patch, post};
use bms_registry::NewArtifactVersion;
use bms_wire::api::{NewTransition, SetAlias, TransitionState, Version, VersionName};
use bms_wire::{Code, Error, Result};
use serde_json::json;

use super::call::Call;
use super::experiments::paged;
use super::{Answer, shape, uri};
use crate::api::Api;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/registered-models/create", post(create))
        .route("/registered-models/rename", post(rename))
        .route("/registered-models/update", patch(update))
        .route("/registered-models/delete", delete(remove))
        .route("/registered-models/get", get(read))
        .route("/registered-models/search", get(search))
        .route("/registered-models/get-latest-versions", get(latest).post(latest))
        .route("/registered-models/set-tag", post(set_tag))
        .route("/registered-models/delete-tag", delete(remove_tag))
        .route("/registered-models/alias", get(by_alias).post(set_alias).delete(remove_alias))
        .route("/model-versions/create", post(create_version))
        .route("/model-versions/update", patch(update_version))
        .route("/model-versions/transition-stage", post(transition))
        .route("/model-versions/delete", delete(remove_version))
        .route("/model-versions/get", get(read_version))
        .route("/model-versions/search", get(search_versions))
        .route("/model-versions/get-download-uri", get(download_uri))
        .route("/model-versions/set-tag", post(set_version_tag))
        .route("/model-versions/delete-tag", delete(remove_version_tag))
}

async fn create(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let description = call.maybe("description")?.unwrap_or_default();
    let tags = call.pairs("tags")?;
    let model = api.registry.create_model(call.text("name")?, description, &tags, &call.person).await?;
    Ok(axum::Json(json!({ "registered_model": shape::model(&model) })))
}

async fn rename(call: Call) -> Answer {
    let what = format!("`{}` keeps its name: signed bundles carry it", call.text("name")?);
    Err(Error::new(Code::InvalidRequest, what).hint("Register the model under the other name.").into())
}

async fn update(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let description = call.maybe("description")?.unwrap_or_default();
    let model = api.registry.describe_model(call.text("name")?, description, &call.person).await?;
    Ok(axum::Json(json!({ "registered_model": shape::model(&model) })))
}

async fn remove(State(api): State<Arc<Api>>, call: Call) -> Answer {
    api.registry.delete_model(call.text("name")?, true, &call.person).await?;
    Ok(axum::Json(json!({})))
}

async fn read(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let model = api.registry.model(call.text("name")?).await?;
    Ok(axum::Json(json!({ "registered_model": shape::model(&model) })))
}

async fn search(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let filter = call.maybe("filter")?.unwrap_or_default();
    let (models, next) = api.registry.search_models(filter, &call.texts("order_by")?, call.page()?).await?;
    let models: Vec<_> = models.iter().map(shape::model).collect();
    Ok(axum::Json(paged(json!({ "registered_models": models }), next)))
}

async fn latest(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let model = api.registry.model(call.text("name")?).await?;
    let stages: Vec<String> = call.texts("stages")?.iter().map(|stage| stage.to_ascii_lowercase()).collect();
    let mut found: Vec<&Version> = Vec::new();
    for version in &model.versions {
        let wanted = stages.is_empty() || stages.contains(&version.stage);
        if wanted && !found.iter().any(|other| other.stage == version.stage) {
            found.push(version);
        }
    }
    let versions: Vec<_> = found.into_iter().map(shape::version).collect();
    Ok(axum::Json(json!({ "model_versions": versions })))
}

async fn set_tag(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let value = call.maybe("value")?.unwrap_or_default();
    api.registry.tag_model(call.text("name")?, call.text("key")?, Some(value), &call.person).await?;
    Ok(axum::Json(json!({})))
}

async fn remove_tag(State(api): State<Arc<Api>>, call: Call) -> Answer {
    api.registry.tag_model(call.text("name")?, call.text("key")?, None, &call.person).await?;
    Ok(axum::Json(json!({})))
}

async fn by_alias(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let version = api.registry.resolve(call.text("name")?, call.text("alias")?).await?;
    Ok(axum::Json(json!({ "model_version": shape::version(&version) })))
}

async fn set_alias(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let set = SetAlias { version: call.number("version")?, require: None, current: None };
    api.registry.set_alias(call.text("name")?, call.text("alias")?, &set).await?;
    api.changed.notify_one();
    Ok(axum::Json(json!({})))
}

async fn remove_alias(State(api): State<Arc<Api>>, call: Call) -> Answer {
    api.registry.remove_alias(call.text("name")?, call.text("alias")?).await?;
    api.changed.notify_one();
    Ok(axum::Json(json!({})))
}

async fn create_version(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let (name, source) = (call.text("name")?, call.text("source")?);
    // Only a model that was made before gets versions this way.
    api.registry.model(name).await?;
    let (owner, path) = uri::source(source)?;
    let run = match call.maybe("run_id")? {
        Some(run) => Some(run.to_owned()),
        None if owner.starts_with("m-") => api.registry.logged_model(&owner).await?.run,
        None => None,
    };
    let new = NewArtifactVersion {
        owner,
        path,
        source: source.to_owned(),
        run,
        description: call.maybe("description")?.unwrap_or_default().to_owned(),
        tags: call.pairs("tags")?,
    };
    let version = api.registry.register_artifacts(name, new, &api.policy.now(), &call.person).await?;
    api.changed.notify_one();
    Ok(axum::Json(json!({ "model_version": shape::version(&version) })))
}

/// The version that a call names.
fn named(call: &Call) -> Result<(&str, u64)> {
    Ok((call.text("name")?, call.number("version")?))
}

async fn update_version(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let (name, version) = named(&call)?;
    let description = call.maybe("description")?.unwrap_or_default();
    let version = api.registry.describe_version(name, version, description, &call.person).await?;
    Ok(axum::Json(json!({ "model_version": shape::version(&version) })))
}

async fn transition(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let (name, version) = named(&call)?;
    let of = VersionName { model: name.to_owned(), version };
    let new = NewTransition {
        stage: call.text("stage")?.to_ascii_lowercase(),
        comment: String::new(),
        archive_others: call.flag("archive_existing_versions")?,
    };
    let now = api.registry.version(name, version).await?;
    if now.stage != new.stage {
        let asked = api.registry.request_transition(&of, &new, &call.person).await?;
        if asked.state == TransitionState::Pending {
            let what = format!(
                "transition {} to `{}` needs {} approvals",
                asked.id, asked.to, asked.approvals_needed
            );
            return Err(Error::new(Code::PermissionDenied, what)
                .hint(format!("It is pending: `bms stage approve {} --by NAME` agrees to it.", asked.id))
                .into());
        }
    }
    let version = api.registry.version(name, version).await?;
    Ok(axum::Json(json!({ "model_version": shape::version(&version) })))
}

async fn remove_version(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let (name, version) = named(&call)?;
    api.registry.delete_version(name, version, true, &call.person).await?;
    Ok(axum::Json(json!({})))
}

async fn read_version(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let (name, version) = named(&call)?;
    let version = api.registry.version(name, version).await?;
    Ok(axum::Json(json!({ "model_version": shape::version(&version) })))
}

async fn search_versions(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let filter = call.maybe("filter")?.unwrap_or_default();
    let (versions, next) =
        api.registry.search_versions(filter, &call.texts("order_by")?, call.page()?).await?;
    let versions: Vec<_> = versions.iter().map(shape::version).collect();
    Ok(axum::Json(paged(json!({ "model_versions": versions }), next)))
}

async fn download_uri(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let (name, version) = named(&call)?;
    let version = api.registry.version(name, version).await?;
    Ok(axum::Json(json!({ "artifact_uri": uri::version(&version.model, version.version) })))
}

async fn set_version_tag(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let (name, version) = named(&call)?;
    let value = call.maybe("value")?.unwrap_or_default();
    api.registry.tag_version(name, version, call.text("key")?, Some(value), &call.person).await?;
    Ok(axum::Json(json!({})))
}

async fn remove_version_tag(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let (name, version) = named(&call)?;
    api.registry.tag_version(name, version, call.text("key")?, None, &call.person).await?;
    Ok(axum::Json(json!({})))
}
