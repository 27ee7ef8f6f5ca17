//! The Open Inference Protocol's view of the models a server has: what it can do, which models there are, loading and
//! unloading.
//!
//! A model is loaded by deploying it, so that what a client of the protocol does and what the management API does is one
//! and the same, with the same audit events.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::routing::{any, get, post};
use bms_wire::api::{Model, SetAlias, SetDeployment, SlotState, VersionKind};
use bms_wire::oip::about::{IndexEntry, IndexRequest, RepositoryRequest};
use bms_wire::oip::{Parameters, ServerMetadata};
use bms_wire::{Code, Error, Result, limits};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::api::Api;
use crate::body::{self, Segments};
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::slots::VersionName;

/// The alias that is deployed when nothing else says which.
const USUAL_ALIAS: &str = "production";
/// How long a request to load or unload waits for it to be done.
const DONE_WITHIN: Duration = Duration::from_secs(300);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The models of a server.
#[derive(Clone, Debug)]
pub(crate) enum Repository {
    /// Those of a registry.
    Registry(Arc<Api>),
    /// The one that is served.
    One(Arc<Gateway>),
}

impl Repository {
    /// The routes.
    pub(crate) fn routes(&self) -> Router {
        let mut router = Router::new()
            .route("/v2", get(server_metadata))
            .route("/v2/repository/index", post(index))
            .route("/v2/repository/models/{model}/load", post(load))
            .route("/v2/repository/models/{model}/unload", post(unload));
        for path in [
            "/v2/trace/setting",
            "/v2/models/{model}/trace/setting",
            "/v2/logging",
            "/v2/systemsharedmemory/{*rest}",
            "/v2/cudasharedmemory/{*rest}",
        ] {
            router = router.route(path, any(not_supported));
        }
        router.with_state(self.clone())
    }

    fn gateway(&self) -> &Arc<Gateway> {
        match self {
            Repository::Registry(api) => &api.gateway,
            Repository::One(gateway) => gateway,
        }
    }

    /// What the server is and can do.
    pub(crate) fn server_metadata(&self) -> ServerMetadata {
        let mut extensions = vec![
            "binary_tensor_data",
            "classification",
            "model_configuration",
            "parameters",
            "schedule_policy",
            "statistics",
        ];
        if let Repository::Registry(_) = self {
            extensions.push("model_repository");
        }
        ServerMetadata {
            name: "bms".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: extensions.into_iter().map(str::to_owned).collect(),
        }
    }

    /// Every version that could be asked, and how it stands.
    pub(crate) async fn index(&self, only_ready: bool) -> Result<Vec<IndexEntry>> {
        let fleet = &self.gateway().fleet;
        let slots = fleet.views();
        let mut versions: Vec<VersionName> = slots
            .iter()
            .map(|slot| VersionName { model: slot.model.clone(), version: slot.version })
            .collect();
        if let Repository::Registry(api) = self {
            for model in api.registry.models().await? {
                let servable = model.versions.iter().filter(|version| version.kind == VersionKind::Bundle);
                versions
                    .extend(servable.map(|v| VersionName { model: model.name.clone(), version: v.version }));
            }
        }
        versions.sort();
        versions.dedup();
        let entry = |of: VersionName| {
            // A version that is loaded again has two slots for a while; the better one counts.
            let states = slots.iter().filter(|slot| (&slot.model, slot.version) == (&of.model, of.version));
            let state = states.map(|slot| state_name(slot.state)).min();
            let reason = match state {
                Some((0, _)) => String::new(),
                // It has no slot because nobody asks; the next request starts one.
                None if fleet.is_asleep(&of) => {
                    return IndexEntry {
                        name: of.model,
                        version: of.version.to_string(),
                        state: "READY".to_owned(),
                        reason: "it sleeps until it is asked".to_owned(),
                    };
                }
                None => "it is not deployed".to_owned(),
                Some(_) => fleet.problem(&of).map(|problem| problem.error).unwrap_or_default(),
            };
            let state = state.map_or("UNAVAILABLE", |(_, name)| name).to_owned();
            IndexEntry { name: of.model, version: of.version.to_string(), state, reason }
        };
        let entries = versions.into_iter().map(entry);
        Ok(entries.filter(|entry| !only_ready || entry.state == "READY").collect())
    }

    /// Deploys a model and waits until it answers.
    pub(crate) async fn load(&self, model: &str, parameters: &Parameters) -> Result<()> {
        let api = self.api("loaded")?;
        if let Some(name) = parameters.keys().next() {
            let what = format!("parameter `{name}`: a model is loaded as it was published");
            return Err(Error::new(Code::NotSupported, what)
                .hint("Publish a version with the files and settings it shall have: `bms push`."));
        }
        let alias = alias_to_deploy(api, model).await?;
        // Loading again is no reason to run it on something else.
        let deployments = api.registry.deployments().await?;
        let engine = deployments.into_iter().find(|d| d.model == model).and_then(|d| d.engine);
        let set = SetDeployment { engine, ..SetDeployment::of(alias) };
        let deployment = api.registry.set_deployment(model, &set).await?;
        let fleet = &api.gateway.fleet;
        fleet.forget_refusals(model);
        api.changed.notify_one();
        let Some(version) = deployment.version else { return Ok(()) };
        let of = VersionName { model: model.to_owned(), version };
        let until = Instant::now() + DONE_WITHIN;
        while api.gateway.check_ready(model, Some(version)).is_err() {
            if let Some(problem) = fleet.problem(&of) {
                return Err(Error::from(problem).while_doing(format_args!("load {of}")));
            }
            wait_on(until, || format!("{of} is still being loaded")).await?;
        }
        Ok(())
    }

    /// Undeploys a model and waits until it answers no more.
    pub(crate) async fn unload(&self, model: &str) -> Result<()> {
        let api = self.api("unloaded")?;
        api.registry.remove_deployment(model).await?;
        api.changed.notify_one();
        let until = Instant::now() + DONE_WITHIN;
        while api.gateway.fleet.route(model, None).is_ok() {
            wait_on(until, || format!("`{model}` is still being unloaded")).await?;
        }
        Ok(())
    }

    fn api(&self, done: &str) -> Result<&Arc<Api>> {
        match self {
            Repository::Registry(api) => Ok(api),
            Repository::One(_) => {
                let what = format!("this server serves one model, which stays: nothing can be {done}");
                Err(Error::new(Code::NotSupported, what).hint("`bms up` serves the models of a registry."))
            }
        }
    }
}

/// The better the smaller the number.
fn state_name(state: SlotState) -> (u8, &'static str) {
    match state {
        SlotState::Ready => (0, "READY"),
        SlotState::Starting | SlotState::Restarting => (1, "LOADING"),
        SlotState::Draining => (2, "UNLOADING"),
        SlotState::Refused => (3, "UNAVAILABLE"),
    }
}

async fn wait_on(until: Instant, still: impl Fn() -> String) -> Result<()> {
    if until <= Instant::now() {
        return Err(Error::new(Code::DeadlineExceeded, still()).hint("It goes on; ask again for its state."));
    }
    tokio::time::sleep(LOOK_EVERY).await;
    Ok(())
}

/// The alias a model is deployed by: the one it is deployed by already, else `production`, else its only one. A model without
/// any gets `production` for its newest version.
async fn alias_to_deploy(api: &Api, name: &str) -> Result<String> {
    let deployments = api.registry.deployments().await?;
    if let Some(deployment) = deployments.into_iter().find(|deployment| deployment.model == name) {
        return Ok(deployment.alias);
    }
    let model: Model = api.registry.model(name).await?;
    let mut aliases: Vec<&String> = model.versions.iter().flat_map(|version| &version.aliases).collect();
    aliases.sort();
    match &aliases[..] {
        [only] => Ok((*only).clone()),
        [] => {
            let servable = model.versions.iter().filter(|version| version.kind == VersionKind::Bundle);
            let newest = servable.map(|version| version.version).max().ok_or_else(|| {
                Error::new(Code::VersionNotFound, format!("`{name}` has no version that can be served"))
            })?;
            // Unless somebody else gave it this alias meanwhile.
            let set = SetAlias { version: newest, require: None, current: Some(0) };
            api.registry.set_alias(name, USUAL_ALIAS, &set).await?;
            Ok(USUAL_ALIAS.to_owned())
        }
        several if several.iter().any(|alias| *alias == USUAL_ALIAS) => Ok(USUAL_ALIAS.to_owned()),
        several => {
            let names: Vec<&str> = several.iter().map(|alias| alias.as_str()).collect();
            let what = format!("`{name}` has the aliases {}, none of which is deployed", names.join(", "));
            Err(Error::new(Code::Conflict, what).hint(format!("Say which: PUT /api/v1/deployments/{name}.")))
        }
    }
}

async fn server_metadata(State(repository): State<Repository>) -> axum::Json<ServerMetadata> {
    axum::Json(repository.server_metadata())
}

async fn index(
    State(repository): State<Repository>,
    request: Request,
) -> Result<axum::Json<Vec<IndexEntry>>, Failure> {
    let asked: IndexRequest = document_or_nothing(request).await?;
    Ok(axum::Json(repository.index(asked.ready).await?))
}

async fn load(
    State(repository): State<Repository>,
    Segments(model): Segments<String>,
    request: Request,
) -> Result<(), Failure> {
    let asked: RepositoryRequest = document_or_nothing(request).await?;
    Ok(repository.load(&model, &asked.parameters).await?)
}

/// Nothing here depends on another model, so `unload_dependents` changes nothing.
async fn unload(
    State(repository): State<Repository>,
    Segments(model): Segments<String>,
    request: Request,
) -> Result<(), Failure> {
    let _: RepositoryRequest = document_or_nothing(request).await?;
    Ok(repository.unload(&model).await?)
}

/// A document that may be left out.
async fn document_or_nothing<T: DeserializeOwned + Default>(request: Request) -> Result<T> {
    let bytes = body::read_document_bytes(request, limits::CONTROL_BODY_BYTES_MAX).await?;
    if bytes.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&bytes).map_err(|e| {
        Error::new(Code::InvalidRequest, format!("the request's body is not the expected JSON: {e}"))
            .because(e)
    })
}

async fn not_supported(request: Request) -> Failure {
    let path = request.uri().path();
    Error::new(Code::NotSupported, format!("this server does not do what is asked for at `{path}`"))
        .hint("GET /v2 lists the extensions it has.")
        .into()
}
