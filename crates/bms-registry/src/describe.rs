//! What people say about models and versions: descriptions and tags.

use bms_wire::api::{Model, Version};
use bms_wire::{Code, Error, Result, limits};
use serde_json::json;

use crate::Registry;
use crate::clock::now_ms;
use crate::database::{Connection, count, reading, to_db, writing};
use crate::registry::Change;
use crate::runs::{check_pairs, check_storable};
use crate::versions::{exists, read_version};

impl Registry {
    /// Says what a model is for.
    ///
    /// # Errors
    /// [`Code::ModelNotFound`], [`Code::TooLarge`].
    pub async fn describe_model(&self, model: &str, description: &str, by: &str) -> Result<Model> {
        check_description(description)?;
        let mut change = self.change().await?;
        exists(change.db(), model).await?;
        sqlx::query("UPDATE models SET description = $2, updated_ms = $3 WHERE name = $1")
            .bind(model)
            .bind(description)
            .bind(now_ms())
            .execute(change.db())
            .await
            .map_err(writing)?;
        change.audit("model.described", model, json!({ "by": by })).await?;
        change.commit().await?;
        self.model(model).await
    }

    /// Says what a version is for.
    ///
    /// # Errors
    /// [`Code::ModelNotFound`], [`Code::VersionNotFound`], [`Code::TooLarge`].
    pub async fn describe_version(
        &self,
        model: &str,
        version: u64,
        description: &str,
        by: &str,
    ) -> Result<Version> {
        check_description(description)?;
        let mut change = self.change().await?;
        read_version(change.db(), model, version).await?;
        sqlx::query("UPDATE versions SET description = $3 WHERE model = $1 AND version = $2")
            .bind(model)
            .bind(to_db(version)?)
            .bind(description)
            .execute(change.db())
            .await
            .map_err(writing)?;
        touch(change.db(), model, version).await?;
        change.audit("version.described", model, json!({ "version": version, "by": by })).await?;
        let version = read_version(change.db(), model, version).await?;
        change.commit().await?;
        Ok(version)
    }

    /// Gives a model a tag, or takes one away; taking away what is not there is fine.
    ///
    /// # Errors
    /// [`Code::ModelNotFound`], [`Code::InvalidRequest`], [`Code::TooLarge`].
    pub async fn tag_model(&self, model: &str, key: &str, value: Option<&str>, by: &str) -> Result<()> {
        check_pairs("tag", &[(key.to_owned(), value.unwrap_or_default().to_owned())])?;
        let mut change = self.change().await?;
        exists(change.db(), model).await?;
        match value {
            Some(value) => set_model_tag(&mut change, model, key, value).await?,
            None => {
                sqlx::query("DELETE FROM model_tags WHERE model = $1 AND key = $2")
                    .bind(model)
                    .bind(key)
                    .execute(change.db())
                    .await
                    .map_err(writing)?;
            }
        }
        change.audit("model.tagged", model, tagged(key, value, by)).await?;
        change.commit().await
    }

    /// Gives a version a tag, or takes one away; taking away what is not there is fine.
    ///
    /// # Errors
    /// [`Code::ModelNotFound`], [`Code::VersionNotFound`], [`Code::InvalidRequest`], [`Code::TooLarge`].
    pub async fn tag_version(
        &self,
        model: &str,
        version: u64,
        key: &str,
        value: Option<&str>,
        by: &str,
    ) -> Result<()> {
        check_pairs("tag", &[(key.to_owned(), value.unwrap_or_default().to_owned())])?;
        let mut change = self.change().await?;
        read_version(change.db(), model, version).await?;
        match value {
            Some(value) => set_version_tag(&mut change, model, version, key, value).await?,
            None => {
                sqlx::query("DELETE FROM version_tags WHERE model = $1 AND version = $2 AND key = $3")
                    .bind(model)
                    .bind(to_db(version)?)
                    .bind(key)
                    .execute(change.db())
                    .await
                    .map_err(writing)?;
            }
        }
        touch(change.db(), model, version).await?;
        change.audit("version.tagged", &format!("{model}@{version}"), tagged(key, value, by)).await?;
        change.commit().await
    }
}

fn tagged(key: &str, value: Option<&str>, by: &str) -> serde_json::Value {
    // The log says that a tag changed, not all of a text that may be long.
    let value = value.map(|value| value.chars().take(200).collect::<String>());
    json!({ "key": key, "value": value, "by": by })
}

/// Gives a model a tag, inside a change.
pub(crate) async fn set_model_tag(change: &mut Change, model: &str, key: &str, value: &str) -> Result<()> {
    sqlx::query(
        "INSERT INTO model_tags (model, key, value) VALUES ($1, $2, $3)
         ON CONFLICT (model, key) DO UPDATE SET value = excluded.value",
    )
    .bind(model)
    .bind(key)
    .bind(value)
    .execute(change.db())
    .await
    .map_err(writing)?;
    sqlx::query("UPDATE models SET updated_ms = $2 WHERE name = $1")
        .bind(model)
        .bind(now_ms())
        .execute(change.db())
        .await
        .map_err(writing)?;
    let row = sqlx::query("SELECT COUNT(*) AS n FROM model_tags WHERE model = $1")
        .bind(model)
        .fetch_one(change.db())
        .await
        .map_err(reading)?;
    check_room(count(&row, "n")?)
}

/// Gives a version a tag, inside a change.
pub(crate) async fn set_version_tag(
    change: &mut Change,
    model: &str,
    version: u64,
    key: &str,
    value: &str,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO version_tags (model, version, key, value) VALUES ($1, $2, $3, $4)
         ON CONFLICT (model, version, key) DO UPDATE SET value = excluded.value",
    )
    .bind(model)
    .bind(to_db(version)?)
    .bind(key)
    .bind(value)
    .execute(change.db())
    .await
    .map_err(writing)?;
    let row = sqlx::query("SELECT COUNT(*) AS n FROM version_tags WHERE model = $1 AND version = $2")
        .bind(model)
        .bind(to_db(version)?)
        .fetch_one(change.db())
        .await
        .map_err(reading)?;
    check_room(count(&row, "n")?)
}

fn check_room(tags: u64) -> Result<()> {
    match tags <= limits::TAGS_MAX {
        true => Ok(()),
        false => Err(Error::new(Code::TooLarge, format!("there are {} tags already", limits::TAGS_MAX))),
    }
}

/// Notes that something said of a version changed.
pub(crate) async fn touch(db: &mut Connection, model: &str, version: u64) -> Result<()> {
    sqlx::query("UPDATE versions SET updated_ms = $3 WHERE model = $1 AND version = $2")
        .bind(model)
        .bind(to_db(version)?)
        .bind(now_ms())
        .execute(db)
        .await
        .map_err(writing)?;
    Ok(())
}

/// Checks a description or comment.
pub(crate) fn check_description(text: &str) -> Result<()> {
    if limits::DESCRIPTION_BYTES_MAX < text.len() {
        let what = format!("a description has at most {} bytes", limits::DESCRIPTION_BYTES_MAX);
        return Err(Error::new(Code::TooLarge, what));
    }
    check_storable("description", text)
}
