//! Reading runs with what was logged of them.

use std::collections::HashMap;

use bms_wire::{Result, limits};

use super::{Metric, Page, Run, RunLink, no_run, run_of};
use crate::Registry;
use crate::database::{Connection, reading, text};
use crate::statement::Statement;

impl Registry {
    /// One run with what was logged of it, a deleted one too.
    ///
    /// # Errors
    /// [`bms_wire::Code::NotFound`].
    pub async fn run(&self, id: &str) -> Result<Run> {
        let mut db = self.db.snapshot().await?;
        let mut run = read(&mut db, id).await?;
        fill(&mut db, std::slice::from_mut(&mut run)).await?;
        Ok(run)
    }

    /// Every value of a metric in the order of time, and where the next page begins.
    ///
    /// # Errors
    /// [`bms_wire::Code::NotFound`] when there is no such run.
    pub async fn metric_history(&self, run: &str, key: &str, page: Page) -> Result<(Vec<Metric>, Option<u64>)> {
        let mut db = self.db.snapshot().await?;
        read(&mut db, run).await?;
        let mut statement = Statement::new("SELECT key, step, at_ms, bits FROM run_metrics WHERE run = ");
        statement.bind(run).text(" AND key = ").bind(key).text(" ORDER BY at_ms, step, bits");
        let (rows, next) = page.fetch_up_to(limits::METRIC_HISTORY_MAX, &mut statement, &mut db).await?;
        Ok((rows.iter().map(Metric::from_row).collect::<Result<_>>()?, next))
    }

    /// The values of one metric of several runs, for curves, in the order of steps: at most `limit` of each run.
    pub async fn metric_curves(&self, runs: &[String], key: &str, limit: usize) -> Result<Vec<(String, Metric)>> {
        let mut db = self.db.snapshot().await?;
        let mut found = Vec::new();
        for run in runs {
            let mut statement = Statement::new("SELECT key, step, at_ms, bits FROM run_metrics WHERE run = ");
            statement.bind(run.as_str()).text(" AND key = ").bind(key).text(" ORDER BY step, at_ms, bits");
            let (rows, _) = Page { offset: 0, size: limit }
                .fetch_up_to(limits::METRIC_HISTORY_MAX, &mut statement, &mut db)
                .await?;
            for row in &rows {
                found.push((run.clone(), Metric::from_row(row)?));
            }
        }
        Ok(found)
    }
}

/// A run without what was logged of it.
pub(super) async fn read(db: &mut Connection, id: &str) -> Result<Run> {
    let row =
        sqlx::query("SELECT * FROM runs WHERE id = $1").bind(id).fetch_optional(db).await.map_err(reading)?;
    row.map_or_else(|| Err(no_run(id)), |row| run_of(&row))
}

/// Reads what was logged of runs.
pub(super) async fn fill(db: &mut Connection, runs: &mut [Run]) -> Result<()> {
    if runs.is_empty() {
        return Ok(());
    }
    let places: HashMap<String, usize> =
        runs.iter().enumerate().map(|(place, run)| (run.id.clone(), place)).collect();
    let ids: Vec<String> = runs.iter().map(|run| run.id.clone()).collect();
    let of = |sql: &'static str, order: &'static str| {
        let mut statement = Statement::new(sql);
        statement.text(" WHERE run IN (").listed(ids.clone()).text(") ORDER BY ").text(order);
        statement
    };
    for row in &of("SELECT * FROM run_latest", "key").fetch(db).await? {
        runs[places[&text(row, "run")?]].metrics.push(Metric::from_row(row)?);
    }
    for row in &of("SELECT * FROM run_params", "key").fetch(db).await? {
        runs[places[&text(row, "run")?]].params.push((text(row, "key")?, text(row, "value")?));
    }
    for row in &of("SELECT * FROM run_tags", "key").fetch(db).await? {
        runs[places[&text(row, "run")?]].tags.push((text(row, "key")?, text(row, "value")?));
    }
    for row in &of("SELECT * FROM run_links", "kind, id").fetch(db).await? {
        let link = RunLink {
            kind: text(row, "kind")?,
            id: text(row, "id")?,
            // It was JSON when it was stored; whoever edits the database gets to see that it no longer is.
            details: serde_json::from_str(&text(row, "details")?).unwrap_or_default(),
        };
        runs[places[&text(row, "run")?]].links.push(link);
    }
    Ok(())
}
