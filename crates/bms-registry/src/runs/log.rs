//! Logging: metrics with their history, parameters, tags.

use std::collections::HashMap;

use bms_wire::{Code, Error, Result, limits};

use super::writing::{set_tag, writable};
use super::{Batch, Metric, check_key, check_pairs};
use crate::Registry;
use crate::database::{Connection, count, reading, text};
use crate::statement::{Bound, Statement};

/// Rows of one statement.
const ROWS: usize = 500;

impl Registry {
    /// Logs a batch, all of it or none. A batch that is sent twice is logged once: every value of a metric has its
    /// step and time.
    ///
    /// # Errors
    /// [`Code::NotFound`]; [`Code::InvalidRequest`] when a parameter has another value already or a name does not
    /// fit; [`Code::TooLarge`] over a limit.
    pub async fn log_batch(&self, run: &str, batch: &Batch) -> Result<()> {
        let size = batch.metrics.len() + batch.params.len() + batch.tags.len();
        if limits::RUN_BATCH_MAX < size {
            return Err(Error::new(
                Code::TooLarge,
                format!("{size} values were logged at once, at most {} can be", limits::RUN_BATCH_MAX),
            )
            .hint("Log them in several batches."));
        }
        batch.metrics.iter().try_for_each(|metric| check_key("metric", &metric.key))?;
        check_pairs("parameter", &batch.params)?;
        check_pairs("tag", &batch.tags)?;
        let mut change = self.change().await?;
        writable(&mut change, run).await?;
        log_params(change.db(), run, &batch.params).await?;
        for (key, value) in &batch.tags {
            set_tag(change.db(), run, key, value).await?;
        }
        log_metrics(change.db(), run, &batch.metrics).await?;
        check_room(change.db(), run, !batch.tags.is_empty()).await?;
        change.commit().await
    }
}

async fn log_params(db: &mut Connection, run: &str, params: &[(String, String)]) -> Result<()> {
    if params.is_empty() {
        return Ok(());
    }
    let mut wanted: HashMap<&str, &str> = HashMap::new();
    for (key, value) in params {
        if *wanted.entry(key).or_insert(value) != value.as_str() {
            return Err(changed(key));
        }
    }
    let mut insert = Statement::new("INSERT INTO run_params (run, key, value) VALUES ");
    insert.rows(wanted.iter().map(|(key, value)| vec![run.into(), (*key).into(), (*value).into()]));
    insert.text(" ON CONFLICT (run, key) DO NOTHING");
    if insert.execute(db).await? == wanted.len() as u64 {
        return Ok(());
    }
    let mut stored = Statement::new("SELECT key, value FROM run_params WHERE run = ");
    stored.bind(run).text(" AND key IN (").listed(wanted.keys().copied()).text(")");
    for row in &stored.fetch(db).await? {
        let key = text(row, "key")?;
        if wanted.get(key.as_str()).copied() != Some(text(row, "value")?.as_str()) {
            return Err(changed(&key));
        }
    }
    Ok(())
}

fn changed(key: &str) -> Error {
    Error::new(Code::InvalidRequest, format!("the parameter `{key}` has another value already"))
        .hint("Parameters stay as they are first logged; use a tag or a metric for what changes.")
}

async fn log_metrics(db: &mut Connection, run: &str, metrics: &[Metric]) -> Result<()> {
    let row_of = |metric: &Metric| -> Vec<Bound> {
        vec![
            run.into(),
            metric.key.as_str().into(),
            metric.step.into(),
            metric.at_ms.into(),
            metric.bits().into(),
        ]
    };
    for part in metrics.chunks(ROWS) {
        let mut insert = Statement::new("INSERT INTO run_metrics (run, key, step, at_ms, bits) VALUES ");
        insert.rows(part.iter().map(row_of)).text(" ON CONFLICT (run, key, step, at_ms, bits) DO NOTHING");
        insert.execute(db).await?;
    }
    // One row of a statement for each key: a statement may change a row once only.
    let mut latest: HashMap<&str, &Metric> = HashMap::new();
    for metric in metrics {
        let last = latest.entry(&metric.key).or_insert(metric);
        if !is_later(last, metric) {
            *last = metric;
        }
    }
    let latest: Vec<&Metric> = latest.into_values().collect();
    for part in latest.chunks(ROWS) {
        let mut upsert =
            Statement::new("INSERT INTO run_latest (run, key, step, at_ms, bits, value) VALUES ");
        upsert.rows(part.iter().map(|metric| {
            let mut row = row_of(metric);
            row.push(metric.value.into());
            row
        }));
        upsert.text(
            " ON CONFLICT (run, key) DO UPDATE SET
                 step = excluded.step, at_ms = excluded.at_ms, bits = excluded.bits, value = excluded.value
             WHERE excluded.step > run_latest.step
                OR (excluded.step = run_latest.step AND excluded.at_ms > run_latest.at_ms)
                OR (excluded.step = run_latest.step AND excluded.at_ms = run_latest.at_ms
                    AND (run_latest.value IS NULL OR excluded.value > run_latest.value))",
        );
        upsert.execute(db).await?;
    }
    Ok(())
}

/// Whether the first is the last value of the two, by step, time and size.
fn is_later(first: &Metric, second: &Metric) -> bool {
    let place = |metric: &Metric| (metric.step, metric.at_ms);
    match place(first).cmp(&place(second)) {
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => second.value.is_nan() || second.value <= first.value,
    }
}

/// Whether a run stays within its limits with what was just added.
async fn check_room(db: &mut Connection, run: &str, tags: bool) -> Result<()> {
    let row = sqlx::query(
        "SELECT (SELECT COUNT(*) FROM run_params WHERE run = $1) AS params,
                (SELECT COUNT(*) FROM run_latest WHERE run = $1) AS metrics,
                (SELECT COUNT(*) FROM run_tags WHERE run = $1) AS tags",
    )
    .bind(run)
    .fetch_one(db)
    .await
    .map_err(reading)?;
    let over = |what: &str| -> Result<bool> { Ok(limits::RUN_KEYS_MAX < count(&row, what)?) };
    if over("params")? || over("metrics")? || (tags && over("tags")?) {
        let what = format!("a run has at most {} metrics, parameters and tags each", limits::RUN_KEYS_MAX);
        return Err(Error::new(Code::TooLarge, what));
    }
    Ok(())
}
