//! Which models shall be loaded.

use bms_wire::api::{Deployment, Scale, SetDeployment, SlotNeeds, VersionKind};
use bms_wire::{Code, Error, Result};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::Registry;
use crate::aliases::not_servable;
use crate::clock::now_ms;
use crate::database::{Row, count, reading, text, value, writing};
use crate::names::{check_alias, check_name};
use crate::rollouts::{end_with_deployment, refuse_other_alias_during_rollout};
use crate::versions::{alias_target, no_alias, read_version};

impl Registry {
    /// Asks for the model to be loaded, following the alias wherever it points, by the engine that is named.
    ///
    /// # Errors
    /// [`Code::ModelNotFound`] when there is no such model or alias, [`Code::InvalidRequest`] for a number of slots, or
    /// what one needs, that makes no sense.
    pub async fn set_deployment(&self, model: &str, set: &SetDeployment) -> Result<Deployment> {
        check_alias(&set.alias)?;
        if let Some(engine) = &set.engine {
            check_name("name of an engine", engine)?;
        }
        let mut change = self.change().await?;
        let version = alias_target(change.db(), model, &set.alias).await?;
        let version = version.ok_or_else(|| no_alias(model, &set.alias))?;
        if read_version(change.db(), model, version).await?.kind != VersionKind::Bundle {
            return Err(not_servable(model, version));
        }
        refuse_other_alias_during_rollout(change.db(), model, &set.alias).await?;
        let before = sqlx::query("SELECT scale, needs FROM deployments WHERE model = $1")
            .bind(model)
            .fetch_optional(change.db())
            .await
            .map_err(reading)?;
        let (scale, needs) = match &before {
            Some(row) => (document(row, "scale")?, document(row, "needs")?),
            None => (Scale::default(), SlotNeeds::default()),
        };
        let scale = set.scale.map_or(scale, |change| change.of(scale));
        scale.check()?;
        let needs = set.needs.map_or(needs, |change| needs.changed_by(&change));
        check_needs(&needs, set.engine.as_deref())?;
        let changed = sqlx::query(
            "INSERT INTO deployments (model, alias, updated_ms, engine, scale, needs)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (model) DO UPDATE SET alias = excluded.alias, updated_ms = excluded.updated_ms,
                engine = excluded.engine, scale = excluded.scale, needs = excluded.needs
             WHERE deployments.alias <> excluded.alias OR deployments.scale <> excluded.scale
                OR deployments.needs <> excluded.needs
                OR COALESCE(deployments.engine, '') <> COALESCE(excluded.engine, '')",
        )
        .bind(model)
        .bind(&set.alias)
        .bind(now_ms())
        .bind(set.engine.as_deref())
        .bind(json!(scale).to_string())
        .bind(json!(needs).to_string())
        .execute(change.db())
        .await
        .map_err(writing)?;
        if 0 < changed.rows_affected() {
            let mut details = json!({ "alias": set.alias, "version": version, "scale": scale });
            if !needs.is_empty() {
                details["needs"] = json!(needs);
            }
            if let Some(engine) = &set.engine {
                details["engine"] = json!(engine);
            }
            change.audit("deployment.set", model, details).await?;
        }
        change.commit().await?;
        Ok(Deployment {
            model: model.to_owned(),
            alias: set.alias.clone(),
            version: Some(version),
            engine: set.engine.clone(),
            scale,
            needs,
            problem: None,
        })
    }

    /// Every deployment, by model; `problem` is for whoever runs it to fill in.
    pub async fn deployments(&self) -> Result<Vec<Deployment>> {
        let rows = sqlx::query(
            "SELECT d.model, d.alias, d.engine, d.scale, d.needs, a.version FROM deployments d
             JOIN aliases a ON a.model = d.model AND a.alias = d.alias ORDER BY d.model",
        )
        .fetch_all(&self.db.pool)
        .await
        .map_err(reading)?;
        let mut deployments = Vec::with_capacity(rows.len());
        for row in &rows {
            deployments.push(Deployment {
                model: text(row, "model")?,
                alias: text(row, "alias")?,
                version: Some(count(row, "version")?),
                engine: value(row, "engine")?,
                scale: document(row, "scale")?,
                needs: document(row, "needs")?,
                problem: None,
            });
        }
        Ok(deployments)
    }

    /// Lets the model be unloaded. Its versions and aliases stay.
    ///
    /// # Errors
    /// [`Code::ModelNotFound`] when it is not deployed.
    pub async fn remove_deployment(&self, model: &str) -> Result<()> {
        let mut change = self.change().await?;
        let removed = sqlx::query("DELETE FROM deployments WHERE model = $1")
            .bind(model)
            .execute(change.db())
            .await
            .map_err(writing)?;
        if removed.rows_affected() == 0 {
            return Err(Error::new(Code::ModelNotFound, format!("model `{model}` is not deployed")));
        }
        end_with_deployment(self, &mut change, model).await?;
        change.audit("deployment.removed", model, json!({})).await?;
        change.commit().await
    }
}

/// Refuses what makes no sense, and what whoever runs the slots would ignore.
fn check_needs(needs: &SlotNeeds, engine: Option<&str>) -> Result<()> {
    needs.check()?;
    match (engine, needs.cores) {
        (Some(engine), Some(_)) => {
            let what = format!("the engine `{engine}` has its own threads: its slots are given no cores");
            Err(Error::new(Code::InvalidRequest, what).hint(
                "Say `threads` in the server's engines file, and take the cores back with --slot-cores 0.",
            ))
        }
        _ => Ok(()),
    }
}

/// What a row says of the number of slots, and of what one needs.
fn document<T: DeserializeOwned>(row: &Row, column: &str) -> Result<T> {
    let stored = text(row, column)?;
    serde_json::from_str(&stored).map_err(|e| {
        let what = format!("the registry's {column} of a deployment, `{stored}`, cannot be read");
        Error::new(Code::Internal, what).because(e)
    })
}
