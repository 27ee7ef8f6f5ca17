//! Reading runs with what was logged of them.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use bms_wire::{Result, limits};

use super::{Metric, Page, Run, RunLink, no_run, run_of};
use crate::Registry;
use crate::database::{Connection, reading, text, to_db};
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
    pub async fn metric_history(
        &self,
        run: &str,
        key: &str,
        page: Page,
    ) -> Result<(Vec<Metric>, Option<u64>)> {
        let mut db = self.db.snapshot().await?;
        read(&mut db, run).await?;
        let mut statement = Statement::new("SELECT key, step, at_ms, bits FROM run_metrics WHERE run = ");
        statement.bind(run).text(" AND key = ").bind(key).text(" ORDER BY at_ms, step, bits");
        let (rows, next) = page.fetch_up_to(limits::METRIC_HISTORY_MAX, &mut statement, &mut db).await?;
        Ok((rows.iter().map(Metric::from_row).collect::<Result<_>>()?, next))
    }

    /// The values of one metric of several runs within some steps, for curves: in the order of steps, thinned out
    /// evenly to about `most` of each run, the last one always among them.
    pub async fn metric_curves(
        &self,
        runs: &[String],
        key: &str,
        steps: RangeInclusive<i64>,
        most: usize,
    ) -> Result<Vec<(String, Metric)>> {
        let most = to_db(most.clamp(1, limits::METRIC_HISTORY_MAX) as u64)?;
        let mut db = self.db.snapshot().await?;
        let mut found = Vec::new();
        for run in runs {
            let rows = sqlx::query(
                "SELECT c.key, c.step, c.at_ms, c.bits FROM (
                     SELECT key, step, at_ms, bits, COUNT(*) OVER () AS n,
                            ROW_NUMBER() OVER (ORDER BY step, at_ms, bits) AS place
                     FROM run_metrics WHERE run = $1 AND key = $2 AND step >= $3 AND step <= $4
                 ) AS c
                 WHERE (c.place - 1) % ((c.n + $5 - 1) / $5) = 0 OR c.place = c.n
                 ORDER BY c.step, c.at_ms, c.bits",
            )
            .bind(run)
            .bind(key)
            .bind(*steps.start())
            .bind(*steps.end())
            .bind(most)
            .fetch_all(&mut *db)
            .await
            .map_err(reading)?;
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
