//! Aliases, and the evaluation gate before one moves.

use bms_wire::api::{EvaluationGate, SetAlias, Version};
use bms_wire::{Code, Error, Result};
use serde_json::json;

use crate::Registry;
use crate::clock::now_ms;
use crate::database::{Connection, count, reading, text, to_db, value, writing};
use crate::names::check_alias;
use crate::registry::Change;
use crate::rollouts::refuse_during_rollout;
use crate::versions::{alias_target, no_alias, read_version};

impl Registry {
    /// Points `alias` at a version and returns that version. With [`SetAlias::require`] the version must
    /// be no worse than the one the alias points at now, on every evaluation data set they share.
    ///
    /// # Errors
    /// [`Code::QualityRefused`] when it is worse, or when they share no evaluation data;
    /// [`Code::ModelNotFound`], [`Code::VersionNotFound`], [`Code::InvalidRequest`].
    pub async fn set_alias(&self, model: &str, alias: &str, set: &SetAlias) -> Result<Version> {
        check_alias(alias)?;
        let mut change = self.change().await?;
        // Known before it is judged, so that an unknown one says so.
        read_version(change.db(), model, set.version).await?;
        let current = alias_target(change.db(), model, alias).await?;
        if let Some(expected) = set.current.filter(|expected| *expected != current.unwrap_or(0)) {
            let stands = current.map_or("does not exist".to_owned(), |at| format!("points at version {at}"));
            let what = format!("`{alias}` of `{model}` {stands}, not at version {expected}");
            return Err(
                Error::new(Code::Conflict, what).hint("Look at where it points now, then decide again.")
            );
        }
        let judged = match &set.require {
            Some(gate) => judge(change.db(), model, current, set.version, gate).await,
            None => Ok(()),
        };
        match judged {
            Ok(()) => {}
            Err(refusal) if refusal.code() == Code::QualityRefused => {
                let details =
                    json!({ "version": set.version, "current": current, "reason": refusal.message() });
                change.audit("alias.refused", &format!("{model}/{alias}"), details).await?;
                change.commit().await?;
                return Err(refusal);
            }
            Err(error) => return Err(error),
        }
        point(&mut change, model, alias, set.version).await?;
        let version = read_version(change.db(), model, set.version).await?;
        change.commit().await?;
        Ok(version)
    }

    /// Removes an alias.
    ///
    /// # Errors
    /// [`Code::ModelNotFound`] when there is none, [`Code::Conflict`] when a deployment follows it.
    pub async fn remove_alias(&self, model: &str, alias: &str) -> Result<()> {
        let mut change = self.change().await?;
        let version = alias_target(change.db(), model, alias).await?.ok_or_else(|| no_alias(model, alias))?;
        let followed = sqlx::query("SELECT 1 FROM deployments WHERE model = $1 AND alias = $2")
            .bind(model)
            .bind(alias)
            .fetch_optional(change.db())
            .await
            .map_err(reading)?;
        if followed.is_some() {
            return Err(Error::new(Code::Conflict, format!("the deployment of `{model}` follows `{alias}`"))
                .hint("Remove the deployment or let it follow another alias first."));
        }
        sqlx::query("DELETE FROM aliases WHERE model = $1 AND alias = $2")
            .bind(model)
            .bind(alias)
            .execute(change.db())
            .await
            .map_err(writing)?;
        change.audit("alias.removed", &format!("{model}/{alias}"), json!({ "version": version })).await?;
        change.commit().await
    }
}

/// Points an alias inside a change, with its event; nothing happens when it points there already.
pub(crate) async fn point(change: &mut Change, model: &str, alias: &str, version: u64) -> Result<()> {
    let current = alias_target(change.db(), model, alias).await?;
    if current == Some(version) {
        return Ok(());
    }
    check_servable(change.db(), model, alias, version).await?;
    refuse_during_rollout(change.db(), model, alias).await?;
    sqlx::query(
        "INSERT INTO aliases (model, alias, version, updated_ms) VALUES ($1, $2, $3, $4)
         ON CONFLICT (model, alias) DO UPDATE SET previous = aliases.version, version = excluded.version,
                                                  updated_ms = excluded.updated_ms",
    )
    .bind(model)
    .bind(alias)
    .bind(to_db(version)?)
    .bind(now_ms())
    .execute(change.db())
    .await
    .map_err(writing)?;
    let details = json!({ "version": version, "previous": current });
    change.audit("alias.set", &format!("{model}/{alias}"), details).await?;
    Ok(())
}

/// An alias that a deployment follows points at what can be served.
async fn check_servable(db: &mut Connection, model: &str, alias: &str, version: u64) -> Result<()> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS n FROM deployments d
         JOIN versions v ON v.model = d.model AND v.version = $3 AND v.kind <> 'bundle'
         WHERE d.model = $1 AND d.alias = $2",
    )
    .bind(model)
    .bind(alias)
    .bind(to_db(version)?)
    .fetch_one(db)
    .await
    .map_err(reading)?;
    match count(&row, "n")? {
        0 => Ok(()),
        _ => Err(not_servable(model, version)),
    }
}

/// The refusal to serve what is no bundle.
pub(crate) fn not_servable(model: &str, version: u64) -> Error {
    let what = format!("version {version} of `{model}` is files without a bundle, which cannot be served");
    Error::new(Code::UnsupportedModel, what)
        .hint("Package the model with `bms package`, and push the bundle.")
}

/// The evaluation gate: the metric of `next` against that of `current`, on the same data.
pub(crate) async fn judge(
    db: &mut Connection,
    model: &str,
    current: Option<u64>,
    next: u64,
    gate: &EvaluationGate,
) -> Result<()> {
    if !(0.0..).contains(&gate.max_drop) || !gate.max_drop.is_finite() {
        return Err(Error::new(Code::InvalidRequest, "`max_drop` has to be a finite number, not below zero"));
    }
    let metric = &gate.metric;
    let Some(current) = current else { return require_metric(db, model, next, metric).await };
    let shared = sqlx::query(
        "SELECT DISTINCT old.data_name AS data, old.value AS old, new.value AS new
         FROM evaluations old
         JOIN evaluations new ON new.model = old.model AND new.metric = old.metric
                             AND new.data_digest = old.data_digest
         WHERE old.model = $1 AND old.version = $2 AND new.version = $3 AND old.metric = $4",
    )
    .bind(model)
    .bind(to_db(current)?)
    .bind(to_db(next)?)
    .bind(metric)
    .fetch_all(&mut *db)
    .await
    .map_err(reading)?;
    if shared.is_empty() {
        return Err(nothing_in_common(db, model, current, next, metric).await?);
    }
    for row in &shared {
        let (old, new): (f64, f64) = (value(row, "old")?, value(row, "new")?);
        // Written so that a value that compares with nothing is refused.
        let accepted = old - gate.max_drop <= new;
        if !accepted {
            return Err(Error::new(
                Code::QualityRefused,
                format!(
                    "`{metric}` of version {next} on `{}` is {new:.4}, version {current} reaches {old:.4}, \
                     and a drop of at most {:.4} is allowed",
                    text(row, "data")?,
                    gate.max_drop
                ),
            )
            .hint("Train a better version, or allow a larger drop."));
        }
    }
    Ok(())
}

/// Without a version to compare with, the metric must at least have been measured.
async fn require_metric(db: &mut Connection, model: &str, version: u64, metric: &str) -> Result<()> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS n FROM evaluations WHERE model = $1 AND version = $2 AND metric = $3",
    )
    .bind(model)
    .bind(to_db(version)?)
    .bind(metric)
    .fetch_one(db)
    .await
    .map_err(reading)?;
    if 0 < count(&row, "n")? {
        return Ok(());
    }
    Err(Error::new(
        Code::QualityRefused,
        format!("version {version} of `{model}` was not evaluated for `{metric}`"),
    )
    .hint("Evaluate it and publish it with the result."))
}

/// Says on which data the current version was measured, so that one knows what to evaluate on.
async fn nothing_in_common(
    db: &mut Connection,
    model: &str,
    current: u64,
    next: u64,
    metric: &str,
) -> Result<Error> {
    let rows = sqlx::query(
        "SELECT data_name, data_digest FROM evaluations
         WHERE model = $1 AND version = $2 AND metric = $3 ORDER BY position",
    )
    .bind(model)
    .bind(to_db(current)?)
    .bind(metric)
    .fetch_all(db)
    .await
    .map_err(reading)?;
    let mut measured = Vec::new();
    for row in &rows {
        let digest = text(row, "data_digest")?;
        measured.push(format!("`{}` ({:.12}…)", text(row, "data_name")?, digest));
    }
    let hint = match measured.is_empty() {
        true => {
            format!("Version {current} has no `{metric}` to compare with; move the alias without the gate.")
        }
        false => {
            format!("Evaluate version {next} on {} and publish it with the result.", measured.join(" or "))
        }
    };
    Ok(Error::new(
        Code::QualityRefused,
        format!(
            "versions {current} and {next} of `{model}` were not evaluated for `{metric}` on the same data"
        ),
    )
    .hint(hint))
}
