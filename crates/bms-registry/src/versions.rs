//! Reading models and versions.

use std::collections::{BTreeMap, HashMap};

use bms_wire::api::{Model, Version, VersionKind};
use bms_wire::{Code, Error, Result};

use crate::Registry;
use crate::View;
use crate::artifacts::file_of;
use crate::database::{Connection, Row, count, reading, text, to_db, value};

/// The reference that always means the highest version.
pub(crate) const LATEST: &str = "latest";

impl Registry {
    /// Every model with its versions, newest first; what was deleted and the files of versions are left out.
    pub async fn models(&self) -> Result<Vec<Model>> {
        let mut tx = self.db.snapshot().await?;
        read_models(&mut tx, None, View::Active).await
    }

    /// What was deleted and can be restored: models with those of their versions, newest first.
    pub async fn deleted_models(&self) -> Result<Vec<Model>> {
        let mut tx = self.db.snapshot().await?;
        let mut models = read_models(&mut tx, None, View::All).await?;
        for model in &mut models {
            model.versions.retain(|version| version.deleted_ms.is_some());
        }
        models.retain(|model| model.deleted_ms.is_some() || !model.versions.is_empty());
        Ok(models)
    }

    /// One model with its versions, newest first; the files of versions are left out.
    ///
    /// # Errors
    /// [`Code::ModelNotFound`].
    pub async fn model(&self, name: &str) -> Result<Model> {
        let mut tx = self.db.snapshot().await?;
        read_models(&mut tx, Some(name), View::Active).await?.pop().ok_or_else(|| no_model(name))
    }

    /// One version with its files.
    ///
    /// # Errors
    /// [`Code::ModelNotFound`], [`Code::VersionNotFound`].
    pub async fn version(&self, model: &str, version: u64) -> Result<Version> {
        let mut tx = self.db.snapshot().await?;
        read_version(&mut tx, model, version).await
    }

    /// The version that `reference` means: a number, an alias, or `latest`.
    ///
    /// # Errors
    /// [`Code::ModelNotFound`] when there is no such model or alias, [`Code::VersionNotFound`].
    pub async fn resolve(&self, model: &str, reference: &str) -> Result<Version> {
        let mut tx = self.db.snapshot().await?;
        let version = match reference.parse::<u64>() {
            Ok(version) => version,
            Err(_) if reference == LATEST => latest(&mut tx, model).await?,
            Err(_) => {
                alias_target(&mut tx, model, reference).await?.ok_or_else(|| no_alias(model, reference))?
            }
        };
        read_version(&mut tx, model, version).await
    }
}

/// The model or models with their versions, inside a transaction. Purged versions are never listed.
pub(crate) async fn read_models(db: &mut Connection, name: Option<&str>, view: View) -> Result<Vec<Model>> {
    let all = i64::from(view == View::All);
    let rows = sqlx::query(
        "SELECT * FROM models WHERE ($1 IS NULL OR name = $1) AND ($2 = 1 OR deleted_ms IS NULL) ORDER BY name",
    )
        .bind(name)
        .bind(all)
        .fetch_all(&mut *db)
        .await
        .map_err(reading)?;
    let mut models = Vec::with_capacity(rows.len());
    for row in &rows {
        let (name, created_ms) = (text(row, "name")?, value(row, "created_ms")?);
        models.push(Model {
            description: text(row, "description")?,
            tags: BTreeMap::new(),
            updated_ms: value::<Option<i64>>(row, "updated_ms")?.unwrap_or(created_ms),
            deleted_ms: value(row, "deleted_ms")?,
            versions: Vec::new(),
            name,
            created_ms,
        });
    }
    let mut facts = Facts::read(db, name).await?;
    let rows = sqlx::query(
        "SELECT * FROM versions
         WHERE ($1 IS NULL OR model = $1) AND ($2 = 1 OR deleted_ms IS NULL) AND purged_ms IS NULL
         ORDER BY version DESC",
    )
    .bind(name)
    .bind(all)
    .fetch_all(&mut *db)
    .await
    .map_err(reading)?;
    let mut versions: HashMap<String, Vec<Version>> = HashMap::new();
    for row in &rows {
        let version = facts.version(row)?;
        versions.entry(version.model.clone()).or_default().push(version);
    }
    for model in &mut models {
        model.versions = versions.remove(&model.name).unwrap_or_default();
        model.tags = facts.model_tags.remove(&model.name).unwrap_or_default();
    }
    Ok(models)
}

/// One version with its files, inside a transaction.
pub(crate) async fn read_version(db: &mut Connection, model: &str, version: u64) -> Result<Version> {
    let row = sqlx::query("SELECT * FROM versions WHERE model = $1 AND version = $2 AND deleted_ms IS NULL")
        .bind(model)
        .bind(to_db(version)?)
        .fetch_optional(&mut *db)
        .await
        .map_err(reading)?;
    let Some(row) = row else {
        exists(db, model).await?;
        return Err(no_version(model, version));
    };
    let mut found = Facts::read(db, Some(model)).await?.version(&row)?;
    let files = sqlx::query(
        "SELECT path, size, blake3 FROM version_files WHERE model = $1 AND version = $2 ORDER BY path",
    )
    .bind(model)
    .bind(to_db(version)?)
    .fetch_all(db)
    .await
    .map_err(reading)?;
    found.files = files.iter().map(file_of).collect::<Result<_>>()?;
    Ok(found)
}

/// Checks that there is a model, and that it was not deleted.
///
/// # Errors
/// [`Code::ModelNotFound`].
pub(crate) async fn exists(db: &mut Connection, model: &str) -> Result<()> {
    let row = sqlx::query("SELECT deleted_ms FROM models WHERE name = $1")
        .bind(model)
        .fetch_optional(db)
        .await
        .map_err(reading)?;
    match row.map(|row| value::<Option<i64>>(&row, "deleted_ms")).transpose()? {
        Some(None) => Ok(()),
        Some(Some(_)) => {
            Err(Error::new(Code::ModelNotFound, format!("model `{model}` was deleted"))
                .hint("Restore it first."))
        }
        None => Err(no_model(model)),
    }
}

/// The highest version of a model.
async fn latest(db: &mut Connection, model: &str) -> Result<u64> {
    exists(db, model).await?;
    let row = sqlx::query(
        "SELECT version FROM versions WHERE model = $1 AND deleted_ms IS NULL ORDER BY version DESC LIMIT 1",
    )
    .bind(model)
    .fetch_optional(db)
    .await
    .map_err(reading)?;
    let none = || Error::new(Code::VersionNotFound, format!("model `{model}` has no version"));
    row.map_or_else(|| Err(none()), |row| count(&row, "version"))
}

/// The version an alias points at.
pub(crate) async fn alias_target(db: &mut Connection, model: &str, alias: &str) -> Result<Option<u64>> {
    let row = sqlx::query("SELECT version FROM aliases WHERE model = $1 AND alias = $2")
        .bind(model)
        .bind(alias)
        .fetch_optional(db)
        .await
        .map_err(reading)?;
    row.map(|row| count(&row, "version")).transpose()
}

type Key = (String, u64);

/// What belongs to models and versions in other tables.
#[derive(Default)]
struct Facts {
    aliases: HashMap<Key, Vec<String>>,
    metrics: HashMap<Key, BTreeMap<String, f64>>,
    tags: HashMap<Key, BTreeMap<String, String>>,
    model_tags: HashMap<String, BTreeMap<String, String>>,
}

impl Facts {
    async fn read(db: &mut Connection, model: Option<&str>) -> Result<Self> {
        let mut facts = Facts::default();
        let rows = sqlx::query(
            "SELECT model, version, alias FROM aliases WHERE $1 IS NULL OR model = $1 ORDER BY alias",
        )
        .bind(model)
        .fetch_all(&mut *db)
        .await
        .map_err(reading)?;
        for row in &rows {
            facts.aliases.entry(key(row)?).or_default().push(text(row, "alias")?);
        }
        // The manifest's first evaluation is the one it leads with.
        let rows = sqlx::query(
            "SELECT model, version, metric, value FROM evaluations
             WHERE position = 0 AND ($1 IS NULL OR model = $1)",
        )
        .bind(model)
        .fetch_all(&mut *db)
        .await
        .map_err(reading)?;
        for row in &rows {
            facts.metrics.entry(key(row)?).or_default().insert(text(row, "metric")?, value(row, "value")?);
        }
        let rows = sqlx::query("SELECT * FROM version_tags WHERE $1 IS NULL OR model = $1")
            .bind(model)
            .fetch_all(&mut *db)
            .await
            .map_err(reading)?;
        for row in &rows {
            facts.tags.entry(key(row)?).or_default().insert(text(row, "key")?, text(row, "value")?);
        }
        let rows = sqlx::query("SELECT * FROM model_tags WHERE $1 IS NULL OR model = $1")
            .bind(model)
            .fetch_all(db)
            .await
            .map_err(reading)?;
        for row in &rows {
            let tags = facts.model_tags.entry(text(row, "model")?).or_default();
            tags.insert(text(row, "key")?, text(row, "value")?);
        }
        Ok(facts)
    }

    fn version(&mut self, row: &Row) -> Result<Version> {
        let key = key(row)?;
        let created_ms = value(row, "created_ms")?;
        Ok(Version {
            digest: text(row, "digest")?,
            task: text(row, "task")?,
            size_bytes: count(row, "size_bytes")?,
            signer: value(row, "signer")?,
            metrics: self.metrics.remove(&key).unwrap_or_default(),
            parent: value(row, "parent")?,
            created_ms,
            aliases: self.aliases.remove(&key).unwrap_or_default(),
            kind: match text(row, "kind")?.as_str() {
                "artifacts" => VersionKind::Artifacts,
                _ => VersionKind::Bundle,
            },
            stage: text(row, "stage")?,
            description: text(row, "description")?,
            tags: self.tags.remove(&key).unwrap_or_default(),
            run: value(row, "run")?,
            source: value(row, "source")?,
            updated_ms: value::<Option<i64>>(row, "updated_ms")?.unwrap_or(created_ms),
            deleted_ms: value(row, "deleted_ms")?,
            files: Vec::new(),
            model: key.0,
            version: key.1,
        })
    }
}

fn key(row: &Row) -> Result<Key> {
    Ok((text(row, "model")?, count(row, "version")?))
}

pub(crate) fn no_model(model: &str) -> Error {
    Error::new(Code::ModelNotFound, format!("there is no model `{model}`"))
        .hint("Check the name, or publish a version of it first.")
}

pub(crate) fn no_version(model: &str, version: u64) -> Error {
    Error::new(Code::VersionNotFound, format!("model `{model}` has no version {version}"))
}

pub(crate) fn no_alias(model: &str, alias: &str) -> Error {
    Error::new(Code::ModelNotFound, format!("model `{model}` has no alias `{alias}`"))
        .hint("Point the alias at a version first.")
}
