//! Edge nodes as they report themselves.

use bms_wire::api::{Node, NodeReport};
use bms_wire::{Code, Error, Result};
use serde_json::json;

use crate::Registry;
use crate::clock::now_ms;
use crate::database::{count, reading, text, to_db, value, writing};
use crate::names::check_name;

/// Nodes one registry knows.
const NODES_MAX: u64 = 10_000;
/// Characters kept of a node's last problem.
const PROBLEM_CHARS_MAX: usize = 1000;

impl Registry {
    /// Takes a node's report; the first one makes it known.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when a name does not fit, [`Code::TooLarge`] when there are too many nodes.
    pub async fn report_node(&self, name: &str, report: &NodeReport) -> Result<()> {
        check_name("node name", name)?;
        check_name("model name", &report.model)?;
        let problem: Option<String> =
            report.problem.as_ref().map(|p| p.chars().take(PROBLEM_CHARS_MAX).collect());
        let mut change = self.change().await?;
        let row = sqlx::query(
            "SELECT COUNT(*) AS nodes, COALESCE(SUM(CASE WHEN name = $1 THEN 1 ELSE 0 END), 0) AS known FROM nodes",
        )
        .bind(name)
        .fetch_one(change.db())
        .await
        .map_err(reading)?;
        let is_new = count(&row, "known")? == 0;
        if is_new && NODES_MAX <= count(&row, "nodes")? {
            return Err(Error::new(Code::TooLarge, format!("the registry knows {NODES_MAX} nodes already")));
        }
        sqlx::query(
            "INSERT INTO nodes (name, seen_ms, model, version, answers, offline_answers, outbox, problem)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             ON CONFLICT (name) DO UPDATE SET
                 seen_ms = excluded.seen_ms, model = excluded.model, version = excluded.version,
                 answers = excluded.answers, offline_answers = excluded.offline_answers,
                 outbox = excluded.outbox, problem = excluded.problem",
        )
        .bind(name)
        .bind(now_ms())
        .bind(&report.model)
        .bind(report.version.map(to_db).transpose()?)
        .bind(to_db(report.answers)?)
        .bind(to_db(report.offline_answers)?)
        .bind(to_db(report.outbox)?)
        .bind(problem)
        .execute(change.db())
        .await
        .map_err(writing)?;
        if is_new {
            change.audit("node.joined", name, json!({ "model": report.model })).await?;
        }
        change.commit().await
    }

    /// Every node with its last report, by name.
    pub async fn nodes(&self) -> Result<Vec<Node>> {
        let rows = sqlx::query("SELECT * FROM nodes ORDER BY name")
            .fetch_all(&self.db.pool)
            .await
            .map_err(reading)?;
        let mut nodes = Vec::with_capacity(rows.len());
        for row in &rows {
            let version: Option<i64> = value(row, "version")?;
            nodes.push(Node {
                name: text(row, "name")?,
                seen_ms: value(row, "seen_ms")?,
                report: NodeReport {
                    model: text(row, "model")?,
                    version: version.and_then(|version| u64::try_from(version).ok()),
                    answers: count(row, "answers")?,
                    offline_answers: count(row, "offline_answers")?,
                    outbox: count(row, "outbox")?,
                    problem: value(row, "problem")?,
                },
            });
        }
        Ok(nodes)
    }
}
