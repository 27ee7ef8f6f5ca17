//! Deleting models and versions, restoring them, and purging their files for good.
//!
//! Deleting takes a version out of sight and out of use; nothing else changes, and it can be restored. Purging lets its
//! files go. Nothing that an alias, a deployment or an edge node uses is deleted.

use bms_wire::api::Version;
use bms_wire::{Code, Error, Result};
use serde_json::json;

use crate::Registry;
use crate::clock::now_ms;
use crate::database::{Connection, count, reading, text, to_db, value, writing};
use crate::quarantine::is_needed;
use crate::registry::Change;
use crate::rollouts::is_candidate;
use crate::versions::{exists, no_model, no_version, read_version};

impl Registry {
    /// Deletes a version. Aliases that no deployment follows are removed along with it when `aliases` says so.
    ///
    /// # Errors
    /// [`Code::Conflict`] naming what uses it; [`Code::ModelNotFound`], [`Code::VersionNotFound`].
    pub async fn delete_version(&self, model: &str, version: u64, aliases: bool, by: &str) -> Result<()> {
        let mut change = self.change().await?;
        read_version(change.db(), model, version).await?;
        if aliases {
            remove_free_aliases(&mut change, model, version).await?;
        }
        refuse_if_used(change.db(), model, version).await?;
        mark_deleted(&mut change, model, version, now_ms(), by).await?;
        change.commit().await
    }

    /// Restores a version that was deleted.
    ///
    /// # Errors
    /// [`Code::VersionNotFound`] when there is none to restore, or its files were purged; [`Code::ModelNotFound`].
    pub async fn restore_version(&self, model: &str, version: u64, by: &str) -> Result<Version> {
        let mut change = self.change().await?;
        exists(change.db(), model).await?;
        let restored = sqlx::query(
            "UPDATE versions SET deleted_ms = NULL
             WHERE model = $1 AND version = $2 AND deleted_ms IS NOT NULL AND purged_ms IS NULL",
        )
        .bind(model)
        .bind(to_db(version)?)
        .execute(change.db())
        .await
        .map_err(writing)?;
        if restored.rows_affected() == 0 {
            return Err(Error::new(
                Code::VersionNotFound,
                format!("version {version} of `{model}` is not deleted, or was purged"),
            ));
        }
        let details = json!({ "version": version, "by": by });
        change.audit("version.restored", model, details).await?;
        let version = read_version(change.db(), model, version).await?;
        change.commit().await?;
        Ok(version)
    }

    /// Deletes a model with all its versions. Aliases that no deployment follows are removed when `aliases` says so.
    ///
    /// # Errors
    /// [`Code::Conflict`] naming what uses a version; [`Code::ModelNotFound`].
    pub async fn delete_model(&self, model: &str, aliases: bool, by: &str) -> Result<()> {
        let mut change = self.change().await?;
        exists(change.db(), model).await?;
        let now = now_ms();
        for version in live_versions(change.db(), model).await? {
            if aliases {
                remove_free_aliases(&mut change, model, version).await?;
            }
            refuse_if_used(change.db(), model, version).await?;
            mark_deleted(&mut change, model, version, now, by).await?;
        }
        sqlx::query("UPDATE models SET deleted_ms = $2, updated_ms = $2 WHERE name = $1")
            .bind(model)
            .bind(now)
            .execute(change.db())
            .await
            .map_err(writing)?;
        change.audit("model.deleted", model, json!({ "by": by })).await?;
        change.commit().await
    }

    /// Restores a model that was deleted, with the versions that went along with it.
    ///
    /// # Errors
    /// [`Code::ModelNotFound`] when there is none to restore.
    pub async fn restore_model(&self, model: &str, by: &str) -> Result<()> {
        let mut change = self.change().await?;
        sqlx::query(
            "UPDATE versions SET deleted_ms = NULL WHERE model = $1 AND purged_ms IS NULL
             AND deleted_ms = (SELECT deleted_ms FROM models WHERE name = $1)",
        )
        .bind(model)
        .execute(change.db())
        .await
        .map_err(writing)?;
        let restored = sqlx::query(
            "UPDATE models SET deleted_ms = NULL, updated_ms = $2 WHERE name = $1 AND deleted_ms IS NOT NULL",
        )
        .bind(model)
        .bind(now_ms())
        .execute(change.db())
        .await
        .map_err(writing)?;
        if restored.rows_affected() == 0 {
            return Err(no_model(model).hint("Only a model that was deleted can be restored."));
        }
        change.audit("model.restored", model, json!({ "by": by })).await?;
        change.commit().await
    }

    /// Lets the files of a deleted version go, for good. Its number is never given again.
    ///
    /// # Errors
    /// [`Code::Conflict`] when it is not deleted; [`Code::VersionNotFound`].
    pub async fn purge_version(&self, model: &str, version: u64, by: &str) -> Result<()> {
        let mut change = self.change().await?;
        let row = sqlx::query("SELECT deleted_ms, purged_ms FROM versions WHERE model = $1 AND version = $2")
            .bind(model)
            .bind(to_db(version)?)
            .fetch_optional(change.db())
            .await
            .map_err(reading)?
            .ok_or_else(|| no_version(model, version))?;
        if value::<Option<i64>>(&row, "deleted_ms")?.is_none() {
            let what = format!("version {version} of `{model}` is not deleted");
            return Err(
                Error::new(Code::Conflict, what).hint("Delete it first; then it can still be restored.")
            );
        }
        if value::<Option<i64>>(&row, "purged_ms")?.is_some() {
            return Ok(());
        }
        let files = mark_purged(&mut change, model, version, by).await?;
        change.commit().await?;
        self.drop_files(&files).await
    }

    /// Removes the files nothing needs from the store. Under the write lock, since a version that is being published
    /// checks its files under it too. What is interrupted here leaves files that the store's cleaning finds.
    pub(crate) async fn drop_files(&self, digests: &[String]) -> Result<()> {
        let mut change = self.change().await?;
        for digest in digests {
            if !is_needed(&mut change, digest).await? {
                self.store.remove(digest).await?;
            }
        }
        change.commit().await
    }
}

/// Versions that are not deleted, latest first.
pub(crate) async fn live_versions(db: &mut Connection, model: &str) -> Result<Vec<u64>> {
    let rows = sqlx::query(
        "SELECT version FROM versions WHERE model = $1 AND deleted_ms IS NULL ORDER BY version DESC",
    )
    .bind(model)
    .fetch_all(db)
    .await
    .map_err(reading)?;
    rows.iter().map(|row| count(row, "version")).collect()
}

/// What uses a version: aliases, deployments, edge nodes.
pub(crate) async fn users(db: &mut Connection, model: &str, version: u64) -> Result<Vec<String>> {
    let number = to_db(version)?;
    let mut users = Vec::new();
    let rows = sqlx::query(
        "SELECT a.alias AS alias, (SELECT COUNT(*) FROM deployments d WHERE d.model = a.model AND d.alias = a.alias) AS n
         FROM aliases a WHERE a.model = $1 AND a.version = $2 ORDER BY a.alias",
    )
    .bind(model)
    .bind(number)
    .fetch_all(&mut *db)
    .await
    .map_err(reading)?;
    for row in &rows {
        let alias = text(row, "alias")?;
        if 0 < count(row, "n")? {
            users.push(format!("deployment of {alias}"));
        }
        users.push(format!("alias {alias}"));
    }
    let rows = sqlx::query("SELECT name FROM nodes WHERE model = $1 AND version = $2 ORDER BY name LIMIT 20")
        .bind(model)
        .bind(number)
        .fetch_all(&mut *db)
        .await
        .map_err(reading)?;
    for row in &rows {
        users.push(format!("edge node {}", text(row, "name")?));
    }
    if is_candidate(db, model, version).await? {
        users.push("a rollout".to_owned());
    }
    Ok(users)
}

async fn refuse_if_used(db: &mut Connection, model: &str, version: u64) -> Result<()> {
    let users = users(db, model, version).await?;
    match users.is_empty() {
        true => Ok(()),
        false => Err(Error::new(
            Code::Conflict,
            format!("version {version} of `{model}` is in use: {}", users.join(", ")),
        )
        .hint("Move the alias, end the deployment or update the node first.")),
    }
}

async fn remove_free_aliases(change: &mut Change, model: &str, version: u64) -> Result<()> {
    let rows = sqlx::query(
        "SELECT alias FROM aliases WHERE model = $1 AND version = $2
         AND alias NOT IN (SELECT alias FROM deployments WHERE model = $1)",
    )
    .bind(model)
    .bind(to_db(version)?)
    .fetch_all(change.db())
    .await
    .map_err(reading)?;
    for row in &rows {
        let alias = text(row, "alias")?;
        sqlx::query("DELETE FROM aliases WHERE model = $1 AND alias = $2")
            .bind(model)
            .bind(&alias)
            .execute(change.db())
            .await
            .map_err(writing)?;
        change.audit("alias.removed", &format!("{model}/{alias}"), json!({ "version": version })).await?;
    }
    Ok(())
}

/// Takes a version out of sight, inside a change that has made sure that nothing uses it.
pub(crate) async fn mark_deleted(
    change: &mut Change,
    model: &str,
    version: u64,
    now: i64,
    by: &str,
) -> Result<()> {
    sqlx::query("UPDATE versions SET deleted_ms = $3 WHERE model = $1 AND version = $2")
        .bind(model)
        .bind(to_db(version)?)
        .bind(now)
        .execute(change.db())
        .await
        .map_err(writing)?;
    change.audit("version.deleted", model, json!({ "version": version, "by": by })).await?;
    Ok(())
}

/// Lets go of a deleted version's files, inside a change, and gives their digests: they are removed once that is
/// committed. The bundle may be published anew, as another version, so the digest becomes one of no bundle.
pub(crate) async fn mark_purged(
    change: &mut Change,
    model: &str,
    version: u64,
    by: &str,
) -> Result<Vec<String>> {
    let number = to_db(version)?;
    let rows = sqlx::query("SELECT blake3 FROM version_files WHERE model = $1 AND version = $2")
        .bind(model)
        .bind(number)
        .fetch_all(change.db())
        .await
        .map_err(reading)?;
    let files = rows.iter().map(|row| text(row, "blake3")).collect::<Result<Vec<_>>>()?;
    sqlx::query("DELETE FROM version_files WHERE model = $1 AND version = $2")
        .bind(model)
        .bind(number)
        .execute(change.db())
        .await
        .map_err(writing)?;
    sqlx::query(
        "UPDATE versions SET purged_ms = $3, purged_digest = digest, digest = $4 WHERE model = $1 AND version = $2",
    )
    .bind(model)
    .bind(number)
    .bind(now_ms())
    .bind(format!("purged:{model}@{version}"))
    .execute(change.db())
    .await
    .map_err(writing)?;
    let details = json!({ "version": version, "files": files.len(), "by": by });
    change.audit("version.purged", model, details).await?;
    Ok(files)
}
