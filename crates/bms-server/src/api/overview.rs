//! Everything the dashboard's first page shows, in one answer.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use bms_wire::api::{AuditEvent, Deployment, Memory, Model, Node, Quarantined, Slot};
use serde::Serialize;

use super::{Answer, Api};
use crate::traffic::Summary;

/// Audit events shown.
const EVENTS: u32 = 20;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/overview", get(overview))
}

#[derive(Debug, Serialize)]
struct Overview {
    models: Vec<Model>,
    deployments: Vec<Deployment>,
    slots: Vec<Slot>,
    memory: Memory,
    nodes: Vec<Node>,
    quarantine: Vec<Quarantined>,
    /// The last events, newest first.
    audit: Vec<AuditEvent>,
    audit_verified: bool,
    traffic: Summary,
    samples: Samples,
    version: &'static str,
    uptime_seconds: u64,
}

#[derive(Debug, Serialize)]
struct Samples {
    total: u64,
    unlabelled: u64,
}

async fn overview(State(api): State<Arc<Api>>) -> Answer<Overview> {
    let (registry, gateway) = (&api.registry, &api.gateway);
    let counts = registry.sample_counts().await?;
    Ok(axum::Json(Overview {
        models: registry.models().await?,
        deployments: api.deployments().await?,
        slots: gateway.fleet.views(),
        memory: gateway.fleet.memory(),
        nodes: registry.nodes().await?,
        quarantine: registry.quarantined().await?,
        audit: registry.audit_latest(EVENTS).await?,
        audit_verified: api.audited.holds(registry).await,
        traffic: gateway.traffic.summary(),
        samples: Samples { total: counts.total, unlabelled: counts.unlabelled },
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: gateway.traffic.uptime().as_secs(),
    }))
}
