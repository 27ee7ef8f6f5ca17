//! The management API under `/api/v1`, see [`bms_wire::api`].

mod audit;
pub(crate) mod blobs;
mod chunks;
mod deployments;
mod edge;
mod keys;
mod lifecycle;
mod models;
mod overview;
pub(crate) mod person;
mod rollouts;
mod samples;
pub(crate) mod workers;

use std::sync::Arc;

use axum::Router;
use bms_registry::Registry;
use tokio::sync::{Mutex, Notify, Semaphore};

use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::keys::Keys;
use crate::policy::SharedPolicy;

/// What the routes of the management API share.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) registry: Registry,
    /// What every bundle is checked against before it becomes a version.
    pub(crate) policy: SharedPolicy,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) keys: Arc<Keys>,
    /// Rung when what shall be loaded may have changed.
    pub(crate) changed: Arc<Notify>,
    pub(crate) audited: audit::Audited,
    /// Held while a delivery of samples is taken.
    pub(crate) deliveries: Mutex<()>,
    /// Requests whose chunks may be in memory at once.
    pub(crate) transfers: Semaphore,
}

/// What workers read of it.
pub(crate) fn worker_routes(api: &Arc<Api>) -> Router {
    Router::new()
        .merge(blobs::reading())
        .merge(chunks::reading())
        .merge(models::reading())
        .with_state(api.clone())
}

/// What a handler returns.
type Answer<T> = Result<axum::Json<T>, Failure>;

impl Api {
    pub(crate) fn new(
        registry: Registry,
        policy: SharedPolicy,
        gateway: Arc<Gateway>,
        keys: Arc<Keys>,
        changed: Arc<Notify>,
    ) -> Arc<Self> {
        Arc::new(Api {
            registry,
            policy,
            gateway,
            keys,
            changed,
            audited: audit::Audited::default(),
            deliveries: Mutex::default(),
            transfers: Semaphore::new(chunks::TRANSFERS_MAX),
        })
    }

    /// The routes.
    pub(crate) fn routes(self: &Arc<Self>) -> Router {
        let routes = Router::new()
            .merge(audit::routes())
            .merge(blobs::routes())
            .merge(chunks::routes())
            .merge(deployments::routes())
            .merge(edge::routes())
            .merge(keys::routes())
            .merge(lifecycle::routes())
            .merge(models::routes())
            .merge(overview::routes())
            .merge(rollouts::routes())
            .merge(samples::routes());
        Router::new().nest("/api/v1", routes).with_state(self.clone())
    }
}
