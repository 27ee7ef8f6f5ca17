//! MLflow's REST API, version 2.0: tracking, models that runs log, the model registry and artifacts, as the `mlflow`
//! client speaks it.
//!
//! Paths, field names and error codes are those of `service.proto`, `model_registry.proto` and
//! `mlflow_artifacts.proto` in <https://github.com/mlflow/mlflow/tree/master/mlflow/protos>. Traces, webhooks, prompts
//! and the like are not served: an unknown path answers with `ENDPOINT_NOT_FOUND`.
//!
//! Whatever a client sends is bytes of a stranger. It is stored as it comes, and judged before it becomes a version.

mod artifacts;
mod call;
mod experiments;
mod failure;
mod logged_models;
mod models;
mod runs;
mod shape;
mod uri;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;

use crate::api::Api;

pub(crate) use failure::{body as failure_body, is_path};

/// What a handler of these routes returns.
type Answer = Result<axum::Json<serde_json::Value>, failure::Refused>;

/// The routes.
pub(crate) fn routes(api: &Arc<Api>) -> Router {
    let tracking = Router::new()
        .merge(experiments::routes())
        .merge(logged_models::routes())
        .merge(models::routes())
        .merge(runs::routes())
        .merge(artifacts::listing_routes());
    Router::new()
        .nest("/api/2.0/mlflow", tracking)
        .nest("/api/2.0/mlflow-artifacts", artifacts::routes())
        .route("/api/3.0/mlflow/server-info", get(server_info))
        .with_state(api.clone())
}

/// What clients ask before they use what only some servers have.
async fn server_info() -> axum::Json<serde_json::Value> {
    axum::Json(serde_json::json!({
        "workspaces_enabled": false,
        "trace_archival_enabled": false,
        // A file comes and goes in one request, of whatever size: it streams.
        "multipart_uploads_enabled": false,
        "multipart_downloads_enabled": false,
    }))
}
