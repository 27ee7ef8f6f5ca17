//! What each route is for: the one table of who may do what.
//!
//! A route that is not in the table is for admins alone, and a test refuses it.

use bms_wire::api::Role;
use http::Method;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Anybody: whether the server is well, and the files of the dashboard, which then asks for a key.
    Open,
    /// The metrics: anybody where the server says so, else anybody with a key.
    Metrics,
    /// What a request to a model is about. Counts against no limit.
    About,
    /// A request to a model.
    Ask,
    /// A stream of requests to a model, of which each counts.
    AskMany,
    /// What an edge node does, and a deployer can.
    Edge,
    /// Models, versions, deployments, rollouts, runs.
    Deploy,
    /// Everything else.
    Admin,
}

use Access::{About, Admin, Ask, AskMany, Deploy, Edge, Metrics, Open};

impl Access {
    pub(super) fn is_for(self, role: Role) -> bool {
        match self {
            Access::Open | Access::Metrics => true,
            Access::About | Access::Ask | Access::AskMany => role != Role::Edge,
            Access::Edge => role != Role::User,
            Access::Deploy => matches!(role, Role::Deployer | Role::Admin),
            Access::Admin => role == Role::Admin,
        }
    }

    /// Names of the roles it is for.
    pub(super) fn roles(self) -> Vec<&'static str> {
        Role::ALL.into_iter().filter(|role| self.is_for(*role)).map(Role::as_str).collect()
    }
}

/// By route: who may read (`GET` and `HEAD`), and who may do anything else.
const ROUTES: &[(&str, Access, Access)] = &[
    // Whether the server is well.
    ("/v2/health/live", Open, Admin),
    ("/v2/health/ready", Open, Admin),
    ("/grpc.health.v1.Health/{method}", Open, Open),
    ("/v2/health/progress", About, Admin),
    ("/metrics", Metrics, Admin),
    // The dashboard's files.
    ("/", Open, Admin),
    ("/app.js", Open, Admin),
    ("/key.js", Open, Admin),
    ("/runs", Open, Admin),
    ("/runs.js", Open, Admin),
    ("/chat", Open, Admin),
    ("/chat.js", Open, Admin),
    ("/style.css", Open, Admin),
    // The Open Inference Protocol.
    ("/v2", About, Admin),
    ("/v2/models/stats", About, Admin),
    ("/v2/models/{model}", About, Admin),
    ("/v2/models/{model}/config", About, Admin),
    ("/v2/models/{model}/stats", About, Admin),
    ("/v2/models/{model}/ready", About, Admin),
    ("/v2/models/{model}/progress", About, Admin),
    ("/v2/models/{model}/infer", Admin, Ask),
    ("/v2/models/{model}/versions/{version}", About, Admin),
    ("/v2/models/{model}/versions/{version}/config", About, Admin),
    ("/v2/models/{model}/versions/{version}/stats", About, Admin),
    ("/v2/models/{model}/versions/{version}/ready", About, Admin),
    ("/v2/models/{model}/versions/{version}/progress", About, Admin),
    ("/v2/models/{model}/versions/{version}/infer", Admin, Ask),
    ("/v2/repository/index", About, About),
    ("/v2/repository/models/{model}/load", Deploy, Deploy),
    ("/v2/repository/models/{model}/unload", Deploy, Deploy),
    ("/v2/trace/setting", About, Admin),
    ("/v2/models/{model}/trace/setting", About, Admin),
    ("/v2/logging", About, Admin),
    ("/v2/systemsharedmemory/{*rest}", About, About),
    ("/v2/cudasharedmemory/{*rest}", About, About),
    // By gRPC the method stands in the path. One written in another way is no method, and is for deployers.
    ("/inference.GRPCInferenceService/{method}", Deploy, Deploy),
    // Language models.
    ("/v1/models", About, Admin),
    ("/v1/models/{*id}", About, Admin),
    ("/v1/chat/completions", Admin, Ask),
    ("/v1/completions", Admin, Ask),
    ("/v1/embeddings", Admin, Ask),
    ("/v1/responses", Admin, Ask),
    ("/v1/messages", Admin, Ask),
    ("/v1/messages/count_tokens", Admin, Ask),
    ("/tokenize", Admin, Ask),
    ("/detokenize", Admin, Ask),
    ("/v1/load_lora_adapter", Admin, Deploy),
    ("/v1/unload_lora_adapter", Admin, Deploy),
    // Keys and what was refused.
    ("/api/v1/keys", Admin, Admin),
    ("/api/v1/keys/{name}", Admin, Admin),
    ("/api/v1/keys/{name}/revoke", Admin, Admin),
    ("/api/v1/audit", Deploy, Admin),
    ("/api/v1/audit/verify", Deploy, Admin),
    ("/api/v1/audit/head", Deploy, Admin),
    ("/api/v1/quarantine", Deploy, Admin),
    ("/api/v1/quarantine/{id}", Deploy, Admin),
    ("/api/v1/quarantine/{id}/release", Admin, Admin),
    ("/api/v1/quarantine/{id}/purge", Admin, Admin),
    // Files: nodes fetch them, deployers send them.
    ("/api/v1/blobs/{blake3}", Edge, Deploy),
    ("/api/v1/blobs/{blake3}/recipe", Edge, Deploy),
    ("/api/v1/chunks", Admin, Deploy),
    ("/api/v1/chunks/missing", Admin, Deploy),
    ("/api/v1/chunks/read", Admin, Edge),
    // Edge nodes.
    ("/api/v1/edge/nodes", Deploy, Admin),
    ("/api/v1/edge/nodes/{node}", Edge, Edge),
    ("/api/v1/edge/nodes/{node}/samples", Admin, Edge),
    ("/api/v1/models/{model}/versions/{version}", Edge, Deploy),
    // Models and versions.
    ("/api/v1/overview", Deploy, Admin),
    ("/api/v1/models", Deploy, Admin),
    ("/api/v1/models/{model}", Deploy, Deploy),
    ("/api/v1/models/{model}/versions", Deploy, Deploy),
    ("/api/v1/models/{model}/aliases/{alias}", Deploy, Deploy),
    ("/api/v1/models/{model}/restore", Admin, Deploy),
    ("/api/v1/models/{model}/tags/{key}", Admin, Deploy),
    ("/api/v1/models/{model}/versions/{version}/restore", Admin, Deploy),
    ("/api/v1/models/{model}/versions/{version}/purge", Admin, Admin),
    ("/api/v1/models/{model}/versions/{version}/tags/{key}", Admin, Deploy),
    ("/api/v1/models/{model}/versions/{version}/transitions", Admin, Deploy),
    ("/api/v1/models/{model}/versions/{version}/lineage", Deploy, Admin),
    ("/api/v1/search/models", Deploy, Admin),
    ("/api/v1/search/versions", Deploy, Admin),
    ("/api/v1/lineage/data/{digest}", Deploy, Admin),
    ("/api/v1/transitions", Deploy, Admin),
    ("/api/v1/transitions/{id}", Deploy, Admin),
    ("/api/v1/transitions/{id}/approve", Admin, Deploy),
    ("/api/v1/transitions/{id}/reject", Admin, Deploy),
    ("/api/v1/stage-rules", Deploy, Admin),
    ("/api/v1/retention", Deploy, Admin),
    ("/api/v1/retention/apply", Admin, Admin),
    ("/api/v1/samples", Deploy, Admin),
    ("/api/v1/samples/{id}", Deploy, Admin),
    ("/api/v1/samples/{id}/label", Admin, Deploy),
    // Deployments.
    ("/api/v1/deployments", Deploy, Admin),
    ("/api/v1/deployments/{model}", Deploy, Deploy),
    ("/api/v1/deployments/{model}/rollback", Admin, Deploy),
    ("/api/v1/rollouts", Deploy, Admin),
    ("/api/v1/rollouts/{model}", Deploy, Deploy),
    ("/api/v1/rollouts/{model}/{order}", Admin, Deploy),
    ("/api/v1/slots", Deploy, Admin),
    ("/api/v1/memory", Deploy, Admin),
    // Workers.
    ("/api/v1/workers", Deploy, Admin),
    ("/api/v1/placements", Deploy, Admin),
    ("/api/v1/workers/tokens", Admin, Admin),
    ("/api/v1/workers/{worker}/drain", Admin, Admin),
    ("/api/v1/workers/{worker}/resume", Admin, Admin),
    ("/api/v1/workers/{worker}/revoke", Admin, Admin),
    // The Hugging Face Hub's downloads.
    ("/api/models/{model}", Deploy, Admin),
    ("/api/models/{model}/refs", Deploy, Admin),
    ("/api/models/{model}/revision/{revision}", Deploy, Admin),
    ("/api/models/{model}/tree/{revision}", Deploy, Admin),
    ("/api/models/{model}/tree/{revision}/{*path}", Deploy, Admin),
    ("/{model}/resolve/{revision}/{*path}", Deploy, Admin),
    ("/api/3.0/mlflow/server-info", Deploy, Admin),
];

/// Routes that begin so are all for one thing: MLflow's tracking, registry and artifacts.
const BEGINNINGS: &[(&str, Access)] = &[("/api/2.0/mlflow/", Deploy), ("/api/2.0/mlflow-artifacts/", Deploy)];

/// Methods of gRPC, by their whole path.
const METHODS: &[(&str, Access)] = &[
    ("/inference.GRPCInferenceService/ServerLive", Open),
    ("/inference.GRPCInferenceService/ServerReady", Open),
    ("/inference.GRPCInferenceService/ServerMetadata", About),
    ("/inference.GRPCInferenceService/ModelReady", About),
    ("/inference.GRPCInferenceService/ModelMetadata", About),
    ("/inference.GRPCInferenceService/ModelConfig", About),
    ("/inference.GRPCInferenceService/ModelStatistics", About),
    ("/inference.GRPCInferenceService/RepositoryIndex", About),
    ("/inference.GRPCInferenceService/ModelInfer", Ask),
    ("/inference.GRPCInferenceService/ModelStreamInfer", AskMany),
];

/// What a request asks, by the route it matched and its path.
pub(super) fn of(route: &str, path: &str, method: &Method) -> Access {
    known(route, path, method).unwrap_or(Admin)
}

fn known(route: &str, path: &str, method: &Method) -> Option<Access> {
    if let Some((_, access)) = METHODS.iter().find(|(known, _)| *known == path) {
        return Some(*access);
    }
    if let Some((_, read, other)) = ROUTES.iter().find(|(known, ..)| *known == route) {
        let is_read = matches!(*method, Method::GET | Method::HEAD);
        return Some(if is_read { *read } else { *other });
    }
    BEGINNINGS.iter().find(|(beginning, _)| route.starts_with(beginning)).map(|(_, access)| *access)
}

/// Whether the table has a line for a route.
#[cfg(test)]
pub(crate) fn has_a_line(route: &str) -> bool {
    known(route, route, &Method::GET).is_some()
}

#[cfg(test)]
mod tests;
