//! Edge nodes: their reports, what they shall run, and the samples they were unsure of.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::routing::{get, post};
use bms_wire::api::{Node, NodeOrders, NodeReport, SampleDelivery, VersionRef};
use bms_wire::{Code, Error, Result, limits};
use serde::Serialize;

use super::{Answer, Api};
use crate::body::{self, Document, Segments};

/// Bytes of one delivery: its pictures in base64, and room for what is said about them.
const DELIVERY_BYTES_MAX: usize =
    limits::EDGE_DELIVERY_SAMPLES_MAX * (limits::EDGE_SAMPLE_BYTES_MAX.div_ceil(3) * 4 + (8 << 10));

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/edge/nodes", get(nodes))
        .route("/edge/nodes/{node}", get(node).put(report))
        .route("/edge/nodes/{node}/samples", post(deliver))
}

impl Api {
    async fn node(&self, name: &str) -> Result<Node> {
        let nodes = self.registry.nodes().await?;
        nodes
            .into_iter()
            .find(|node| node.name == name)
            .ok_or_else(|| Error::new(Code::NotFound, format!("no edge node `{name}` has reported yet")))
    }

    /// What a node that runs `model` shall run.
    async fn orders(&self, model: &str) -> Result<NodeOrders> {
        let deployments = self.registry.deployments().await?;
        let deployed = deployments.into_iter().find(|deployment| deployment.model == model);
        let Some(version) = deployed.and_then(|deployment| deployment.version) else {
            return Ok(NodeOrders { desired: None });
        };
        let digest = self.registry.version(model, version).await?.digest;
        Ok(NodeOrders { desired: Some(VersionRef { version, digest }) })
    }
}

async fn nodes(State(api): State<Arc<Api>>) -> Answer<Vec<Node>> {
    Ok(axum::Json(api.registry.nodes().await?))
}

async fn node(State(api): State<Arc<Api>>, Segments(name): Segments<String>) -> Answer<Node> {
    Ok(axum::Json(api.node(&name).await?))
}

async fn report(
    State(api): State<Arc<Api>>,
    Segments(name): Segments<String>,
    Document(report): Document<NodeReport>,
) -> Answer<NodeOrders> {
    api.registry.report_node(&name, &report).await?;
    Ok(axum::Json(api.orders(&report.model).await?))
}

#[derive(Debug, Serialize)]
struct Taken {
    /// Samples that had not been delivered before.
    new: u64,
}

async fn deliver(
    State(api): State<Arc<Api>>,
    Segments(name): Segments<String>,
    request: Request,
) -> Answer<Taken> {
    let node = match api.node(&name).await {
        Ok(node) => node,
        Err(error) => {
            body::linger(request);
            return Err(error.into());
        }
    };
    // One at a time: a delivery may be large, and nodes that have been away all come back at once.
    let _turn = api.deliveries.lock().await;
    let delivery: SampleDelivery = body::read_document(request, DELIVERY_BYTES_MAX).await?;
    let new = api.registry.store_samples(&name, &node.report.model, &delivery).await?;
    Ok(axum::Json(Taken { new }))
}
