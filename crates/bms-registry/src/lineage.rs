//! Where versions come from, and what came of them.

use std::collections::{BTreeSet, VecDeque};

use bms_wire::api::{Lineage, LineageData, LineageNode, Version, VersionName};
use bms_wire::{Result, limits};

use crate::Registry;
use crate::database::{Connection, Row, count, reading, text, to_db, value};
use crate::versions::read_version;

/// A version's digest also after it was purged.
const COLUMNS: &str =
    "SELECT model, version, COALESCE(purged_digest, digest) AS digest, parent, job, run, deleted_ms
                       FROM versions";

impl Registry {
    /// The version followed by what it was made from, nearest first, as far as this registry knows them and has not
    /// deleted them. Files are left out.
    ///
    /// # Errors
    /// [`bms_wire::Code::ModelNotFound`], [`bms_wire::Code::VersionNotFound`].
    pub async fn lineage(&self, model: &str, version: u64) -> Result<Vec<Version>> {
        let graph = self.lineage_graph(model, version).await?;
        let mut versions = vec![self.version(model, version).await?];
        for ancestor in graph.ancestors.iter().filter(|ancestor| !ancestor.deleted) {
            if let (Some(model), Some(version)) = (&ancestor.model, ancestor.version) {
                versions.push(self.version(model, version).await?);
            }
        }
        Ok(versions.into_iter().map(|version| Version { files: Vec::new(), ..version }).collect())
    }

    /// A version with its ancestors and descendants, deleted ones too, at most [`limits::LINEAGE_VERSIONS_MAX`].
    ///
    /// # Errors
    /// [`bms_wire::Code::ModelNotFound`], [`bms_wire::Code::VersionNotFound`].
    pub async fn lineage_graph(&self, model: &str, version: u64) -> Result<Lineage> {
        let mut db = self.db.snapshot().await?;
        let digest = read_version(&mut db, model, version).await?.digest;
        let of = by_digest(&mut db, &digest, 0).await?;
        let mut seen = BTreeSet::from([digest.clone()]);
        let mut ancestors: Vec<LineageNode> = Vec::new();
        let mut next = of.parent.clone();
        // A digest covers its parent's, so there are no cycles; what was seen is for a changed database.
        while let Some(parent) = next.filter(|parent| seen.insert(parent.clone())) {
            if limits::LINEAGE_VERSIONS_MAX <= ancestors.len() {
                break;
            }
            let node = by_digest(&mut db, &parent, ancestors.len() as u64 + 1).await?;
            next = node.parent.clone();
            ancestors.push(node);
        }
        let (descendants, truncated) = descendants(&mut db, &digest, &mut seen).await?;
        let truncated = truncated || limits::LINEAGE_VERSIONS_MAX <= ancestors.len();
        Ok(Lineage { version: of, ancestors, descendants, truncated })
    }

    /// The versions that were trained on a data set, latest first, deleted ones left out.
    pub async fn trained_on(&self, data: &str) -> Result<Vec<VersionName>> {
        let rows = sqlx::query(
            "SELECT v.model, v.version FROM version_data d
             JOIN versions v ON v.model = d.model AND v.version = d.version
             WHERE d.digest = $1 AND v.deleted_ms IS NULL ORDER BY v.created_ms DESC, v.model, v.version LIMIT $2",
        )
        .bind(data)
        .bind(to_db(limits::LINEAGE_VERSIONS_MAX as u64)?)
        .fetch_all(&self.db.pool)
        .await
        .map_err(reading)?;
        let name =
            |row: &Row| Ok(VersionName { model: text(row, "model")?, version: count(row, "version")? });
        rows.iter().map(name).collect()
    }
}

/// The version of this digest; one without a name when the registry does not know it.
async fn by_digest(db: &mut Connection, digest: &str, distance: u64) -> Result<LineageNode> {
    let sql = format!("{COLUMNS} WHERE digest = $1 OR purged_digest = $1 ORDER BY version DESC LIMIT 1");
    let row = sqlx::query(&sql).bind(digest).fetch_optional(&mut *db).await.map_err(reading)?;
    match row {
        Some(row) => node(db, &row, distance).await,
        None => Ok(LineageNode {
            model: None,
            version: None,
            digest: digest.to_owned(),
            parent: None,
            distance,
            data: Vec::new(),
            job: None,
            run: None,
            deleted: false,
        }),
    }
}

async fn descendants(
    db: &mut Connection,
    digest: &str,
    seen: &mut BTreeSet<String>,
) -> Result<(Vec<LineageNode>, bool)> {
    let sql = format!("{COLUMNS} WHERE parent = $1 ORDER BY model, version");
    let mut found = Vec::new();
    let mut open = VecDeque::from([(digest.to_owned(), 1)]);
    while let Some((parent, distance)) = open.pop_front() {
        let rows = sqlx::query(&sql).bind(&parent).fetch_all(&mut *db).await.map_err(reading)?;
        for row in &rows {
            if limits::LINEAGE_VERSIONS_MAX <= found.len() {
                return Ok((found, true));
            }
            let child = node(db, row, distance).await?;
            if seen.insert(child.digest.clone()) {
                open.push_back((child.digest.clone(), distance + 1));
                found.push(child);
            }
        }
    }
    Ok((found, false))
}

async fn node(db: &mut Connection, row: &Row, distance: u64) -> Result<LineageNode> {
    let (model, version) = (text(row, "model")?, count(row, "version")?);
    let rows =
        sqlx::query("SELECT name, digest FROM version_data WHERE model = $1 AND version = $2 ORDER BY name")
            .bind(&model)
            .bind(to_db(version)?)
            .fetch_all(db)
            .await
            .map_err(reading)?;
    let data = |row: &Row| Ok(LineageData { name: text(row, "name")?, digest: text(row, "digest")? });
    Ok(LineageNode {
        model: Some(model),
        version: Some(version),
        digest: text(row, "digest")?,
        parent: value(row, "parent")?,
        distance,
        data: rows.iter().map(data).collect::<Result<_>>()?,
        job: value(row, "job")?,
        run: value(row, "run")?,
        deleted: value::<Option<i64>>(row, "deleted_ms")?.is_some(),
    })
}
