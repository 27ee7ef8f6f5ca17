//! Which versions go by themselves: rules, what they would do, and doing it.

use bms_wire::api::{KeptVersion, RetentionReport, RetentionRule, VersionName};
use bms_wire::{Code, Error, Result};
use serde_json::json;

use crate::Registry;
use crate::clock::now_ms;
use crate::database::{Connection, Row, count, reading, text, to_db, value, writing};
use crate::deletion::{mark_deleted, mark_purged, users};
use crate::versions::exists;

/// Stages whose versions stay.
const KEPT_STAGES: [&str; 2] = ["staging", "production"];

impl Registry {
    /// Sets the rule of a model, or of all that have none.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] for a negative time, [`Code::ModelNotFound`].
    pub async fn set_retention(&self, rule: &RetentionRule, by: &str) -> Result<()> {
        if rule.older_than_ms < 0 || rule.purge_after_ms.is_some_and(|after| after < 0) {
            return Err(Error::new(Code::InvalidRequest, "an age is not below zero"));
        }
        let mut change = self.change().await?;
        if let Some(model) = &rule.model {
            exists(change.db(), model).await?;
        }
        sqlx::query(
            "INSERT INTO retention_rules (model, keep_last, older_than_ms, purge_after_ms) VALUES ($1, $2, $3, $4)
             ON CONFLICT (model) DO UPDATE SET keep_last = excluded.keep_last,
                 older_than_ms = excluded.older_than_ms, purge_after_ms = excluded.purge_after_ms",
        )
        .bind(rule.model.as_deref().unwrap_or_default())
        .bind(to_db(rule.keep_last)?)
        .bind(rule.older_than_ms)
        .bind(rule.purge_after_ms)
        .execute(change.db())
        .await
        .map_err(writing)?;
        let details = json!({ "rule": rule, "by": by });
        change.audit("retention.set", rule.model.as_deref().unwrap_or("*"), details).await?;
        change.commit().await
    }

    /// Removes the rule of a model, or of all that have none of their own.
    ///
    /// # Errors
    /// [`Code::NotFound`].
    pub async fn remove_retention(&self, model: Option<&str>, by: &str) -> Result<()> {
        let mut change = self.change().await?;
        let removed = sqlx::query("DELETE FROM retention_rules WHERE model = $1")
            .bind(model.unwrap_or_default())
            .execute(change.db())
            .await
            .map_err(writing)?;
        if removed.rows_affected() == 0 {
            return Err(Error::new(Code::NotFound, "there is no such rule"));
        }
        change.audit("retention.removed", model.unwrap_or("*"), json!({ "by": by })).await?;
        change.commit().await
    }

    /// The rules, that for all models first.
    pub async fn retention_rules(&self) -> Result<Vec<RetentionRule>> {
        let mut db = self.db.snapshot().await?;
        read_rules(&mut db).await
    }

    /// Deletes and purges what the rules let go, or says what they would. A version that an alias, a deployment or an
    /// edge node uses stays, and so does one in staging or production.
    ///
    /// # Errors
    /// Storage errors. What had been deleted before stays deleted.
    pub async fn apply_retention(&self, dry_run: bool, by: &str) -> Result<RetentionReport> {
        // One change: what is in use is judged under the lock under which aliases move.
        let mut change = self.change().await?;
        let mut report = RetentionReport { dry_run, ..RetentionReport::default() };
        plan(change.db(), &mut report).await?;
        if dry_run {
            return Ok(report);
        }
        let now = now_ms();
        for version in &report.deleted {
            mark_deleted(&mut change, &version.model, version.version, now, by).await?;
        }
        let mut files = Vec::new();
        for version in &report.purged {
            files.extend(mark_purged(&mut change, &version.model, version.version, by).await?);
        }
        change.commit().await?;
        files.sort_unstable();
        files.dedup();
        self.drop_files(&files).await?;
        Ok(report)
    }
}

async fn read_rules(db: &mut Connection) -> Result<Vec<RetentionRule>> {
    let rows =
        sqlx::query("SELECT * FROM retention_rules ORDER BY model").fetch_all(db).await.map_err(reading)?;
    let rule = |row: &Row| {
        let model = text(row, "model")?;
        Ok(RetentionRule {
            model: Some(model).filter(|model| !model.is_empty()),
            keep_last: count(row, "keep_last")?,
            older_than_ms: value(row, "older_than_ms")?,
            purge_after_ms: value(row, "purge_after_ms")?,
        })
    };
    rows.iter().map(rule).collect()
}

async fn plan(db: &mut Connection, report: &mut RetentionReport) -> Result<()> {
    let rules = read_rules(db).await?;
    let rows =
        sqlx::query("SELECT name FROM models ORDER BY name").fetch_all(&mut *db).await.map_err(reading)?;
    let now = now_ms();
    for row in &rows {
        let model = text(row, "name")?;
        let own = rules.iter().find(|rule| rule.model.as_deref() == Some(&model));
        let Some(rule) = own.or_else(|| rules.iter().find(|rule| rule.model.is_none())) else { continue };
        plan_deletions(db, &model, rule, now, report).await?;
        if let Some(after) = rule.purge_after_ms {
            plan_purges(db, &model, now.saturating_sub(after), report).await?;
        }
    }
    Ok(())
}

async fn plan_deletions(
    db: &mut Connection,
    model: &str,
    rule: &RetentionRule,
    now: i64,
    report: &mut RetentionReport,
) -> Result<()> {
    let rows = sqlx::query(
        "SELECT version, stage, created_ms FROM versions WHERE model = $1 AND deleted_ms IS NULL
         ORDER BY version DESC",
    )
    .bind(model)
    .fetch_all(&mut *db)
    .await
    .map_err(reading)?;
    let before = now.saturating_sub(rule.older_than_ms);
    for row in rows.iter().skip(usize::try_from(rule.keep_last).unwrap_or(usize::MAX)) {
        if before <= value::<i64>(row, "created_ms")? {
            continue;
        }
        let (version, stage) = (count(row, "version")?, text(row, "stage")?);
        let mut because = users(db, model, version).await?;
        if KEPT_STAGES.contains(&stage.as_str()) {
            because.push(format!("stage {stage}"));
        }
        let model = model.to_owned();
        match because.is_empty() {
            true => report.deleted.push(VersionName { model, version }),
            false => report.kept.push(KeptVersion { model, version, because }),
        }
    }
    Ok(())
}

async fn plan_purges(
    db: &mut Connection,
    model: &str,
    before: i64,
    report: &mut RetentionReport,
) -> Result<()> {
    let rows = sqlx::query(
        "SELECT version FROM versions WHERE model = $1 AND deleted_ms < $2 AND purged_ms IS NULL ORDER BY version",
    )
    .bind(model)
    .bind(before)
    .fetch_all(&mut *db)
    .await
    .map_err(reading)?;
    for row in &rows {
        let version = count(row, "version")?;
        let because = users(db, model, version).await?;
        let model = model.to_owned();
        match because.is_empty() {
            true => report.purged.push(VersionName { model, version }),
            // An edge node may have gone on with a version that was deleted here.
            false => report.kept.push(KeptVersion { model, version, because }),
        }
    }
    Ok(())
}
