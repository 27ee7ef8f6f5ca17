//! The audit log and what was refused.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use bms_bundle::Order;
use bms_registry::Registry;
use bms_wire::api::{AuditEvent, AuditHead, Quarantined, QuarantinedBundle, SignedOrder, Version};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::{Answer, Api};
use crate::body::{Asked, Document, Segments};

/// Events in one answer when the caller does not say how many.
const EVENTS_DEFAULT: u32 = 1000;
/// How long the overview shows the last verification of the whole log.
const VERIFIED_FOR: Duration = Duration::from_secs(15);

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/audit", get(events))
        .route("/audit/verify", get(verify))
        .route("/audit/head", get(audit_head))
        .route("/quarantine", get(quarantined))
        .route("/quarantine/{id}", get(quarantined_bundle))
        .route("/quarantine/{id}/release", post(release))
        .route("/quarantine/{id}/purge", post(purge))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    #[serde(default)]
    after: u64,
    limit: Option<u32>,
}

async fn events(State(api): State<Arc<Api>>, Asked(page): Asked<Page>) -> Answer<Vec<AuditEvent>> {
    let limit = page.limit.unwrap_or(EVENTS_DEFAULT);
    Ok(axum::Json(api.registry.audit_events(page.after, limit).await?))
}

#[derive(Debug, Serialize)]
struct Verified {
    verified: bool,
    /// Length of the log.
    events: u64,
}

async fn verify(State(api): State<Arc<Api>>) -> Answer<Verified> {
    let events = api.registry.audit_verify().await?;
    Ok(axum::Json(Verified { verified: true, events }))
}

async fn quarantined(State(api): State<Arc<Api>>) -> Answer<Vec<Quarantined>> {
    Ok(axum::Json(api.registry.quarantined().await?))
}

async fn audit_head(State(api): State<Arc<Api>>) -> Answer<AuditHead> {
    Ok(axum::Json(AuditHead { head: api.registry.audit_head().await? }))
}

async fn quarantined_bundle(
    State(api): State<Arc<Api>>,
    Segments(id): Segments<String>,
) -> Answer<QuarantinedBundle> {
    Ok(axum::Json(api.registry.quarantined_bundle(&id).await?))
}

async fn release(
    State(api): State<Arc<Api>>,
    Segments(id): Segments<String>,
    Document(order): Document<SignedOrder>,
) -> Answer<Version> {
    let version =
        api.registry.release(&id, &Order::parse(order.order.as_bytes())?, &api.policy.now()).await?;
    api.changed.notify_one();
    Ok(axum::Json(version))
}

async fn purge(
    State(api): State<Arc<Api>>,
    Segments(id): Segments<String>,
    Document(order): Document<SignedOrder>,
) -> Answer<serde_json::Value> {
    api.registry.purge(&id, &Order::parse(order.order.as_bytes())?, &api.policy.now()).await?;
    Ok(axum::Json(serde_json::json!({ "purged": id })))
}

/// Whether the audit log held when it was last verified. Verifying reads all of it, so the overview,
/// which is asked for all the time, does it now and then only.
#[derive(Debug, Default)]
pub(crate) struct Audited(Mutex<Option<(Instant, bool)>>);

impl Audited {
    pub(super) async fn holds(&self, registry: &Registry) -> bool {
        let mut last = self.0.lock().await;
        match *last {
            Some((at, held)) if at.elapsed() < VERIFIED_FOR => held,
            _ => {
                let held = registry.audit_verify().await.is_ok();
                *last = Some((Instant::now(), held));
                held
            }
        }
    }
}
