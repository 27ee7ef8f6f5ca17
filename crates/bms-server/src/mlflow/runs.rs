//! `/runs/…` and `/metrics/…`

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use bms_registry::{Batch, Metric, NewRun, RunLink, RunSearch};
use bms_wire::{Code, Error, Result, limits};
use serde_json::json;

use super::call::Call;
use super::experiments::{paged, view};
use super::{Answer, shape};
use crate::api::Api;

/// Runs whose curves are asked for at once.
const CURVES_MAX: usize = 100;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/runs/create", post(create))
        .route("/runs/update", post(update))
        .route("/runs/delete", post(delete))
        .route("/runs/restore", post(restore))
        .route("/runs/get", get(read))
        .route("/runs/search", post(search))
        .route("/runs/log-metric", post(log_metric))
        .route("/runs/log-parameter", post(log_param))
        .route("/runs/log-batch", post(log_batch))
        .route("/runs/set-tag", post(set_tag))
        .route("/runs/delete-tag", post(delete_tag))
        .route("/runs/log-inputs", post(log_inputs))
        .route("/runs/outputs", post(log_outputs))
        .route("/runs/log-model", post(log_model))
        .route("/metrics/get-history", get(history))
        .route("/metrics/get-history-bulk-interval", get(curves))
}

async fn create(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let new = NewRun {
        experiment: call.number("experiment_id")?,
        name: call.maybe("run_name")?.unwrap_or_default().to_owned(),
        person: call.maybe("user_id")?.unwrap_or(&call.person).to_owned(),
        start_ms: call.whole("start_time")?.unwrap_or(0),
        tags: call.pairs("tags")?,
    };
    let run = api.registry.create_run(&new).await?;
    Ok(axum::Json(json!({ "run": shape::run(&run) })))
}

async fn update(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let run = api
        .registry
        .update_run(call.run()?, call.maybe("status")?, call.whole("end_time")?, call.maybe("run_name")?)
        .await?;
    Ok(axum::Json(json!({ "run_info": shape::run_info(&run) })))
}

async fn delete(State(api): State<Arc<Api>>, call: Call) -> Answer {
    api.registry.set_run_deleted(call.run()?, true, &call.person).await?;
    Ok(axum::Json(json!({})))
}

async fn restore(State(api): State<Arc<Api>>, call: Call) -> Answer {
    api.registry.set_run_deleted(call.run()?, false, &call.person).await?;
    Ok(axum::Json(json!({})))
}

async fn read(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let run = api.registry.run(call.run()?).await?;
    Ok(axum::Json(json!({ "run": shape::run(&run) })))
}

async fn search(State(api): State<Arc<Api>>, call: Call) -> Answer {
    // Ids of other servers are text; no run here belongs to one of those.
    let experiments = call.texts("experiment_ids")?.iter().filter_map(|id| id.parse().ok()).collect();
    let search = RunSearch {
        experiments,
        filter: call.maybe("filter")?.unwrap_or_default().to_owned(),
        order: call.texts("order_by")?,
        view: view(&call, "run_view_type")?,
        page: call.page()?,
    };
    let (runs, next) = api.registry.search_runs(&search).await?;
    let runs: Vec<_> = runs.iter().map(shape::run).collect();
    Ok(axum::Json(paged(json!({ "runs": runs }), next)))
}

fn metric(call: &Call) -> Result<Metric> {
    Ok(Metric {
        key: call.text("key")?.to_owned(),
        value: call.double("value")?,
        at_ms: call.whole("timestamp")?.unwrap_or(0),
        step: call.whole("step")?.unwrap_or(0),
    })
}

async fn log_metric(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let batch = Batch { metrics: vec![metric(&call)?], ..Batch::default() };
    api.registry.log_batch(call.run()?, &batch).await?;
    Ok(axum::Json(json!({})))
}

async fn log_param(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let value = call.maybe("value")?.unwrap_or_default().to_owned();
    let batch = Batch { params: vec![(call.text("key")?.to_owned(), value)], ..Batch::default() };
    api.registry.log_batch(call.run()?, &batch).await?;
    Ok(axum::Json(json!({})))
}

async fn log_batch(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let batch = Batch {
        metrics: call.objects("metrics")?.iter().map(metric).collect::<Result<_>>()?,
        params: call.pairs("params")?,
        tags: call.pairs("tags")?,
    };
    api.registry.log_batch(call.run()?, &batch).await?;
    Ok(axum::Json(json!({})))
}

async fn set_tag(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let value = call.maybe("value")?.unwrap_or_default().to_owned();
    let batch = Batch { tags: vec![(call.text("key")?.to_owned(), value)], ..Batch::default() };
    api.registry.log_batch(call.run()?, &batch).await?;
    Ok(axum::Json(json!({})))
}

async fn delete_tag(State(api): State<Arc<Api>>, call: Call) -> Answer {
    api.registry.remove_run_tag(call.run()?, call.text("key")?).await?;
    Ok(axum::Json(json!({})))
}

async fn log_inputs(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let mut links = models(&call, "model-in")?;
    for input in call.objects("datasets")? {
        let raw = input.raw();
        let field = |key: &str| raw["dataset"][key].as_str().unwrap_or_default();
        let id = format!("{}:{}", field("name"), field("digest"));
        links.push(RunLink { kind: "data".to_owned(), id, details: raw });
    }
    api.registry.link_run(call.run()?, &links).await?;
    Ok(axum::Json(json!({})))
}

async fn log_outputs(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let links = models(&call, "model-out")?;
    api.registry.link_run(call.run()?, &links).await?;
    Ok(axum::Json(json!({})))
}

fn models(call: &Call, kind: &str) -> Result<Vec<RunLink>> {
    let link = |model: &Call| {
        let id = model.text("model_id")?.to_owned();
        Ok(RunLink { kind: kind.to_owned(), id, details: model.raw() })
    };
    call.objects("models")?.iter().map(link).collect()
}

/// What clients before version 3 say of a model they logged: kept as a tag of the run, a list.
async fn log_model(State(api): State<Arc<Api>>, call: Call) -> Answer {
    const HISTORY: &str = "mlflow.log-model.history";
    let model: serde_json::Value = serde_json::from_str(call.text("model_json")?)
        .map_err(|e| Error::new(Code::InvalidRequest, format!("`model_json` is not JSON: {e}")))?;
    let run = api.registry.run(call.run()?).await?;
    let before = run.tags.iter().find(|(key, _)| key == HISTORY).map(|(_, value)| value.as_str());
    let mut history: Vec<serde_json::Value> =
        before.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    history.push(model);
    let tags = vec![(HISTORY.to_owned(), json!(history).to_string())];
    api.registry.log_batch(&run.id, &Batch { tags, ..Batch::default() }).await?;
    Ok(axum::Json(json!({})))
}

async fn history(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let mut page = call.page()?;
    if call.whole("max_results")?.is_none() {
        page.size = limits::METRIC_HISTORY_MAX;
    }
    let (found, next) = api.registry.metric_history(call.run()?, call.text("metric_key")?, page).await?;
    let metrics: Vec<_> = found.iter().map(shape::metric).collect();
    Ok(axum::Json(paged(json!({ "metrics": metrics }), next)))
}

/// The curves of several runs, thinned out to what a picture shows.
async fn curves(State(api): State<Arc<Api>>, call: Call) -> Answer {
    let runs = call.texts("run_ids")?;
    if CURVES_MAX < runs.len() {
        let what = format!("at most {CURVES_MAX} runs can be compared at once");
        return Err(Error::new(Code::InvalidRequest, what).into());
    }
    // All curves together stay within one answer.
    let most = call.page()?.size.min(limits::METRIC_HISTORY_MAX / runs.len().max(1));
    let steps = call.whole("start_step")?.unwrap_or(i64::MIN)..=call.whole("end_step")?.unwrap_or(i64::MAX);
    let found = api.registry.metric_curves(&runs, call.text("metric_key")?, steps, most).await?;
    let point = |(run, metric): &(String, Metric)| {
        let mut point = shape::metric(metric);
        point["run_id"] = json!(run);
        point
    };
    let metrics: Vec<_> = found.iter().map(point).collect();
    Ok(axum::Json(json!({ "metrics": metrics })))
}
