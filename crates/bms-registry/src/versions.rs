//! Reading models and versions.

use std::collections::{BTreeMap, HashMap};

use bms_wire::api::{FileRef, Model, Version};
use bms_wire::{Code, Error, Result};

use crate::Registry;
use crate::database::{Connection, Row, count, reading, text, to_db, value};

/// The reference that always means the highest version.
pub(crate) const LATEST: &str = "latest";
/// Generations one lineage answer goes back.
const LINEAGE_MAX: i64 = 1000;

impl Registry {
    /// Every model with its versions, newest first; the files of versions are left out.
    pub async fn models(&self) -> Result<Vec<Model>> {
        let mut tx = self.db.snapshot().await?;
        read_models(&mut tx, None).await
    }

    /// One model with its versions, newest first; the files of versions are left out.
    ///
    /// # Errors
    /// [`Code::ModelNotFound`].
    pub async fn model(&self, name: &str) -> Result<Model> {
        let mut tx = self.db.snapshot().await?;
        read_models(&mut tx, Some(name)).await?.pop().ok_or_else(|| no_model(name))
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

    /// The version followed by what it was made from, nearest first, as far as this registry knows them.
    /// Files are left out.
    ///
    /// # Errors
    /// [`Code::ModelNotFound`], [`Code::VersionNotFound`].
    pub async fn lineage(&self, model: &str, version: u64) -> Result<Vec<Version>> {
        let mut tx = self.db.snapshot().await?;
        let first = read_version(&mut tx, model, version).await?;
        // A digest covers its parent's, so there are no cycles; the bound is for a changed database.
        let chain = sqlx::query(
            "WITH RECURSIVE chain (digest, generation) AS (
                 SELECT digest, 0 FROM versions WHERE digest = $1
                 UNION ALL
                 SELECT v.parent, c.generation + 1 FROM chain c JOIN versions v ON v.digest = c.digest
                 WHERE v.parent IS NOT NULL AND c.generation < $2
             )
             SELECT v.model, v.version FROM chain c JOIN versions v ON v.digest = c.digest ORDER BY c.generation",
        )
        .bind(&first.digest)
        .bind(LINEAGE_MAX)
        .fetch_all(&mut *tx)
        .await
        .map_err(reading)?;
        let mut versions = Vec::with_capacity(chain.len());
        for row in &chain {
            let ancestor = read_version(&mut tx, &text(row, "model")?, count(row, "version")?).await?;
            versions.push(Version { files: Vec::new(), ..ancestor });
        }
        Ok(versions)
    }
}

/// The model or models with their versions, inside a transaction.
async fn read_models(db: &mut Connection, name: Option<&str>) -> Result<Vec<Model>> {
    let rows = sqlx::query("SELECT name, created_ms FROM models WHERE $1 IS NULL OR name = $1 ORDER BY name")
        .bind(name)
        .fetch_all(&mut *db)
        .await
        .map_err(reading)?;
    let mut models = Vec::with_capacity(rows.len());
    for row in &rows {
        models.push(Model {
            name: text(row, "name")?,
            created_ms: value(row, "created_ms")?,
            versions: Vec::new(),
        });
    }
    let mut facts = Facts::read(db, name).await?;
    let rows = sqlx::query("SELECT * FROM versions WHERE $1 IS NULL OR model = $1 ORDER BY version DESC")
        .bind(name)
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
    }
    Ok(models)
}

/// One version with its files, inside a transaction.
pub(crate) async fn read_version(db: &mut Connection, model: &str, version: u64) -> Result<Version> {
    let row = sqlx::query("SELECT * FROM versions WHERE model = $1 AND version = $2")
        .bind(model)
        .bind(to_db(version)?)
        .fetch_optional(&mut *db)
        .await
        .map_err(reading)?;
    let Some(row) = row else {
        latest(db, model).await?;
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
    for file in &files {
        found.files.push(FileRef {
            path: text(file, "path")?,
            size: count(file, "size")?,
            blake3: text(file, "blake3")?,
        });
    }
    Ok(found)
}

/// The highest version of a model.
async fn latest(db: &mut Connection, model: &str) -> Result<u64> {
    let row = sqlx::query("SELECT version FROM versions WHERE model = $1 ORDER BY version DESC LIMIT 1")
        .bind(model)
        .fetch_optional(db)
        .await
        .map_err(reading)?;
    row.map_or_else(|| Err(no_model(model)), |row| count(&row, "version"))
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

/// What belongs to versions in other tables.
struct Facts {
    aliases: HashMap<Key, Vec<String>>,
    metrics: HashMap<Key, BTreeMap<String, f64>>,
}

impl Facts {
    async fn read(db: &mut Connection, model: Option<&str>) -> Result<Self> {
        let mut facts = Facts { aliases: HashMap::new(), metrics: HashMap::new() };
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
        .fetch_all(db)
        .await
        .map_err(reading)?;
        for row in &rows {
            facts.metrics.entry(key(row)?).or_default().insert(text(row, "metric")?, value(row, "value")?);
        }
        Ok(facts)
    }

    fn version(&mut self, row: &Row) -> Result<Version> {
        let key = key(row)?;
        Ok(Version {
            digest: text(row, "digest")?,
            task: text(row, "task")?,
            size_bytes: count(row, "size_bytes")?,
            signer: value(row, "signer")?,
            metrics: self.metrics.remove(&key).unwrap_or_default(),
            parent: value(row, "parent")?,
            created_ms: value(row, "created_ms")?,
            aliases: self.aliases.remove(&key).unwrap_or_default(),
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
