//! What shall be loaded, and the slots that hold it.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use bms_wire::api::{Deployment, Memory, SetDeployment, Slot};
use bms_wire::{Code, Error, Result};
use http::StatusCode;

use super::{Answer, Api};
use crate::body::{Document, Segments};
use crate::failure::Failure;
use crate::slots::VersionName;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/deployments", get(deployments))
        .route("/deployments/{model}", get(deployment).put(deploy).delete(undeploy))
        .route("/slots", get(slots))
        .route("/memory", get(memory))
}

impl Api {
    /// The deployments, each with why it does not serve, when it does not.
    pub(super) async fn deployments(&self) -> Result<Vec<Deployment>> {
        let mut deployments = self.registry.deployments().await?;
        for deployment in &mut deployments {
            let Some(version) = deployment.version else { continue };
            let of = VersionName { model: deployment.model.clone(), version };
            let problem = self.gateway.fleet.problem(&of);
            deployment.problem = problem.map(|problem| format!("{of}: {}", problem.error));
        }
        Ok(deployments)
    }
}

async fn deployments(State(api): State<Arc<Api>>) -> Answer<Vec<Deployment>> {
    Ok(axum::Json(api.deployments().await?))
}

async fn deployment(State(api): State<Arc<Api>>, Segments(model): Segments<String>) -> Answer<Deployment> {
    let deployments = api.deployments().await?;
    match deployments.into_iter().find(|deployment| deployment.model == model) {
        Some(deployment) => Ok(axum::Json(deployment)),
        None => Err(Error::new(Code::ModelNotFound, format!("model `{model}` is not deployed")).into()),
    }
}

/// Deploys, or deploys again: then a version that was refused gets another chance.
async fn deploy(
    State(api): State<Arc<Api>>,
    Segments(model): Segments<String>,
    Document(set): Document<SetDeployment>,
) -> Answer<Deployment> {
    let engines = &api.gateway.fleet.launcher.launch.engines;
    if let Some(engine) = &set.engine {
        engines.check(engine)?;
    }
    if let Some(engine) = engines.serving(&model) {
        let what = format!("`{model}` is what the engine `{}` serves here", engine.name);
        let hint = "Its operator has to give that another name first.";
        return Err(Error::new(Code::Conflict, what).hint(hint).into());
    }
    let deployment = api.registry.set_deployment(&model, &set).await?;
    api.gateway.fleet.forget_refusals(&model);
    api.changed.notify_one();
    Ok(axum::Json(deployment))
}

async fn undeploy(
    State(api): State<Arc<Api>>,
    Segments(model): Segments<String>,
) -> Result<StatusCode, Failure> {
    api.registry.remove_deployment(&model).await?;
    api.changed.notify_one();
    Ok(StatusCode::NO_CONTENT)
}

async fn slots(State(api): State<Arc<Api>>) -> axum::Json<Vec<Slot>> {
    axum::Json(api.gateway.fleet.views())
}

async fn memory(State(api): State<Arc<Api>>) -> axum::Json<Memory> {
    axum::Json(api.gateway.fleet.memory())
}
