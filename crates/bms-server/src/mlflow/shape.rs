//! Things as MLflow's messages describe them.

use bms_registry::{Experiment, LoggedModel, Metric, Run};
use bms_wire::api::{Model, Version, VersionKind};
use serde_json::{Value, json};

use super::uri;

/// The pairs of tags and parameters.
pub(super) fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a String, &'a String)>) -> Value {
    pairs.into_iter().map(|(key, value)| json!({ "key": key, "value": value })).collect()
}

fn listed(list: &[(String, String)]) -> Value {
    pairs(list.iter().map(|(key, value)| (key, value)))
}

fn lifecycle(deleted: bool) -> &'static str {
    if deleted { "deleted" } else { "active" }
}

pub(super) fn experiment(experiment: &Experiment) -> Value {
    json!({
        "experiment_id": experiment.id.to_string(),
        "name": experiment.name,
        "artifact_location": uri::experiment(experiment.id),
        "lifecycle_stage": lifecycle(experiment.deleted),
        "creation_time": experiment.created_ms,
        "last_update_time": experiment.updated_ms,
        "tags": listed(&experiment.tags),
    })
}

/// A double as protobuf writes it in JSON.
fn double(value: f64) -> Value {
    match value {
        _ if value.is_nan() => json!("NaN"),
        f64::INFINITY => json!("Infinity"),
        f64::NEG_INFINITY => json!("-Infinity"),
        value => json!(value),
    }
}

pub(super) fn metric(metric: &Metric) -> Value {
    json!({
        "key": metric.key,
        "value": double(metric.value),
        "timestamp": metric.at_ms,
        "step": metric.step,
    })
}

pub(super) fn run_info(run: &Run) -> Value {
    let mut info = json!({
        "run_id": run.id,
        "run_uuid": run.id,
        "run_name": run.name,
        "experiment_id": run.experiment.to_string(),
        "user_id": run.person,
        "status": run.status,
        "start_time": run.start_ms,
        "artifact_uri": uri::run(run.experiment, &run.id),
        "lifecycle_stage": lifecycle(run.deleted),
    });
    // Absent while it runs: zero would be a time.
    if let Some(end_ms) = run.end_ms {
        info["end_time"] = json!(end_ms);
    }
    info
}

pub(super) fn run(run: &Run) -> Value {
    let links = |kind: &str| -> Vec<&Value> {
        run.links.iter().filter(|link| link.kind == kind).map(|link| &link.details).collect()
    };
    json!({
        "info": run_info(run),
        "data": {
            "metrics": run.metrics.iter().map(metric).collect::<Vec<_>>(),
            "params": listed(&run.params),
            "tags": listed(&run.tags),
        },
        "inputs": { "dataset_inputs": links("data"), "model_inputs": links("model-in") },
        "outputs": { "model_outputs": links("model-out") },
    })
}

pub(super) fn logged_model(model: &LoggedModel) -> Value {
    json!({
        "info": {
            "model_id": model.id,
            "experiment_id": model.experiment.to_string(),
            "name": model.name,
            "creation_timestamp_ms": model.created_ms,
            "last_updated_timestamp_ms": model.updated_ms,
            "artifact_uri": uri::logged_model(model.experiment, &model.id),
            "status": model.status,
            "model_type": model.model_type,
            "source_run_id": model.run.as_deref().unwrap_or_default(),
            "tags": listed(&model.tags),
        },
        "data": { "params": listed(&model.params) },
    })
}

/// A stage as MLflow writes it.
fn stage(stage: &str) -> String {
    let mut letters = stage.chars();
    letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
}

pub(super) fn version(version: &Version) -> Value {
    let message = match version.kind {
        VersionKind::Bundle => "passed the gate: it can be deployed",
        VersionKind::Artifacts => {
            "files without a bundle: scanned and kept, but this server cannot serve them; package the model with \
             `bms package` to get a version that can be deployed"
        }
    };
    json!({
        "name": version.model,
        "version": version.version.to_string(),
        "creation_timestamp": version.created_ms,
        "last_updated_timestamp": version.updated_ms,
        "current_stage": stage(&version.stage),
        "description": version.description,
        "source": version.source.clone().unwrap_or_else(|| uri::version(&version.model, version.version)),
        "run_id": version.run.as_deref().unwrap_or_default(),
        "status": "READY",
        "status_message": message,
        "tags": pairs(&version.tags),
        "aliases": version.aliases,
    })
}

pub(super) fn model(model: &Model) -> Value {
    let mut aliases = Vec::new();
    let mut latest: Vec<&Version> = Vec::new();
    for version in &model.versions {
        let number = version.version.to_string();
        aliases.extend(version.aliases.iter().map(|alias| json!({ "alias": alias, "version": number })));
        // Newest first: the first of a stage is its latest.
        if !latest.iter().any(|other| other.stage == version.stage) {
            latest.push(version);
        }
    }
    json!({
        "name": model.name,
        "creation_timestamp": model.created_ms,
        "last_updated_timestamp": model.updated_ms,
        "description": model.description,
        "latest_versions": latest.into_iter().map(version).collect::<Vec<_>>(),
        "tags": pairs(&model.tags),
        "aliases": aliases,
    })
}
