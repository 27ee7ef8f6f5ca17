//! Models and versions that come from runs.
//!
//! What a run left behind is bytes of a stranger. A folder with a manifest is a bundle: it goes through the gate like
//! any other and becomes a version that can be served. What has none is scanned all the same, and kept as a version of
//! files that says so.

use bms_bundle::{Content, MANIFEST, Nature, Policy, Severity, scan};
use bms_wire::api::{FileRef, Model, NewVersion, Version};
use bms_wire::{Code, Error, Result};
use serde_json::json;

use crate::clock::now_ms;
use crate::database::{reading, to_db, writing};
use crate::describe::{check_description, set_model_tag, set_version_tag};
use crate::names::check_name;
use crate::publish::{insert_files, next_version};
use crate::quarantine::Refusal;
use crate::runs::check_pairs;
use crate::versions::read_version;
use crate::{Registry, artifacts};

/// The least severity of an attack for which files are refused, whatever a policy says of bundles.
const REFUSED_FROM: Severity = Severity::High;

/// A version to be made of what a run or logged model left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewArtifactVersion {
    /// The run or logged model.
    pub owner: String,
    /// The folder or file among its artifacts; all of them when empty.
    pub path: String,
    /// Where the client says it is from, as text.
    pub source: String,
    /// The run that made it.
    pub run: Option<String>,
    /// What it is for.
    pub description: String,
    /// Tags.
    pub tags: Vec<(String, String)>,
}

impl Registry {
    /// Makes a model without a version.
    ///
    /// # Errors
    /// [`Code::Conflict`] when there is one, also a deleted one; [`Code::InvalidRequest`], [`Code::TooLarge`].
    pub async fn create_model(
        &self,
        model: &str,
        description: &str,
        tags: &[(String, String)],
        by: &str,
    ) -> Result<Model> {
        check_name("model name", model)?;
        check_description(description)?;
        check_pairs("tag", tags)?;
        let mut change = self.change().await?;
        let known = sqlx::query("SELECT 1 FROM models WHERE name = $1")
            .bind(model)
            .fetch_optional(change.db())
            .await
            .map_err(reading)?;
        if known.is_some() {
            return Err(Error::new(Code::Conflict, format!("there is a model `{model}` already"))
                .hint("Take another name; a model that was deleted can be restored."));
        }
        sqlx::query("INSERT INTO models (name, created_ms, description) VALUES ($1, $2, $3)")
            .bind(model)
            .bind(now_ms())
            .bind(description)
            .execute(change.db())
            .await
            .map_err(writing)?;
        for (key, value) in tags {
            set_model_tag(&mut change, model, key, value).await?;
        }
        change.audit("model.created", model, json!({ "by": by })).await?;
        change.commit().await?;
        self.model(model).await
    }

    /// Makes a version of what a run or logged model left behind: one that can be served when it is a bundle that
    /// passes the gate, one of files when it is not and nothing in them attacks whoever reads them.
    ///
    /// # Errors
    /// [`Code::ModelNotFound`]; [`Code::NotFound`] when there is nothing at the path; the gate's code when it refuses,
    /// [`Code::MaliciousContent`] when the scan does. What was refused is in quarantine.
    pub async fn register_artifacts(
        &self,
        model: &str,
        new: NewArtifactVersion,
        policy: &Policy,
        by: &str,
    ) -> Result<Version> {
        check_name("model name", model)?;
        check_description(&new.description)?;
        check_pairs("tag", &new.tags)?;
        let files = self.listing(&new).await?;
        let version = match files.iter().any(|file| file.path == MANIFEST) {
            true => {
                let listed = NewVersion { files, aliases: Vec::new() };
                self.publish(model, listed, policy).await?
            }
            false => self.scanned(model, files, by).await?,
        };
        self.note_origin(model, version.version, &new).await
    }

    /// The files of a version, with paths inside it.
    async fn listing(&self, new: &NewArtifactVersion) -> Result<Vec<FileRef>> {
        let mut db = self.db.snapshot().await?;
        let found = artifacts::list(&mut db, &new.owner, &new.path).await?;
        if found.is_empty() {
            let shown: String = new.source.chars().take(200).collect();
            return Err(Error::new(Code::NotFound, format!("there are no artifacts at `{shown}`"))
                .hint("Log the model's files first; files that lie elsewhere cannot be registered."));
        }
        let below = new.path.trim_matches('/');
        let inside = |file: FileRef| {
            let path = match file.path.strip_prefix(below).map(|rest| rest.trim_start_matches('/')) {
                // The path names one file.
                Some("") | None => file.path.rsplit('/').next().unwrap_or_default().to_owned(),
                Some(rest) => rest.to_owned(),
            };
            FileRef { path, ..file }
        };
        Ok(found.into_iter().map(inside).collect())
    }

    /// Scans files and makes a version of them.
    async fn scanned(&self, model: &str, files: Vec<FileRef>, by: &str) -> Result<Version> {
        // Whoever removes the artifacts meanwhile takes away all else that says these files are needed.
        let lease = self.store.chunks.lease().await?;
        // Mapped or in memory: bounded by the number of gates, as bundles are.
        let place = self.gates.acquire().await;
        let place = place.map_err(|e| Error::new(Code::Internal, "the gates are closed").because(e))?;
        let contents = self.assemble(&files).await?;
        let (findings, refused) = tokio::task::spawn_blocking(move || scan_all(&contents))
            .await
            .map_err(|e| Error::new(Code::Internal, format!("the scan failed: {e}")).because(e))?;
        drop(place);
        if let Some(reason) = refused {
            let refusal =
                Refusal { model: model.to_owned(), code: Code::MaliciousContent, reason, findings, files };
            self.quarantine(&refusal).await.map_err(|e| e.while_doing("quarantine refused files"))?;
            return Err(Error::new(Code::MaliciousContent, refusal.reason)
                .hint("Do not load this model anywhere; tell whoever made it."));
        }
        let mut change = self.change().await?;
        self.check_still_there(&files).await?;
        lease.check().await?;
        let version = next_version(&mut change, model).await?;
        let listing: Vec<_> = files.iter().map(|file| (&file.path, &file.blake3)).collect();
        let identity = json!({ "model": model, "version": version, "artifacts": listing }).to_string();
        let digest = blake3::hash(identity.as_bytes()).to_hex().to_string();
        sqlx::query(
            "INSERT INTO versions (model, version, digest, task, size_bytes, development, created_ms, kind)
             VALUES ($1, $2, $3, 'artifacts', $4, 0, $5, 'artifacts')",
        )
        .bind(model)
        .bind(to_db(version)?)
        .bind(&digest)
        .bind(to_db(files.iter().map(|file| file.size).sum())?)
        .bind(now_ms())
        .execute(change.db())
        .await
        .map_err(writing)?;
        insert_files(&mut change, model, version, &files).await?;
        let details = json!({ "version": version, "digest": digest, "kind": "artifacts", "findings": findings.len(), "by": by });
        change.audit("version.registered", model, details).await?;
        let made = read_version(change.db(), model, version).await?;
        change.commit().await?;
        lease.end().await;
        Ok(made)
    }

    /// Notes where a version is from and what is said of it.
    async fn note_origin(&self, model: &str, version: u64, new: &NewArtifactVersion) -> Result<Version> {
        let mut change = self.change().await?;
        sqlx::query(
            "UPDATE versions SET source = $3, run = $4, updated_ms = $5,
                 description = CASE WHEN $6 = '' THEN description ELSE $6 END
             WHERE model = $1 AND version = $2",
        )
        .bind(model)
        .bind(to_db(version)?)
        .bind(&new.source)
        .bind(&new.run)
        .bind(now_ms())
        .bind(&new.description)
        .execute(change.db())
        .await
        .map_err(writing)?;
        for (key, value) in &new.tags {
            set_version_tag(&mut change, model, version, key, value).await?;
        }
        let made = read_version(change.db(), model, version).await?;
        change.commit().await?;
        Ok(made)
    }
}

/// Everything the scan finds, and the reason to refuse when there is one.
fn scan_all(files: &[(String, Content)]) -> (Vec<bms_bundle::Finding>, Option<String>) {
    let mut findings = Vec::new();
    for (path, content) in files {
        findings.extend(scan::scan_bytes(path, content));
    }
    let worst = findings
        .iter()
        .filter(|finding| finding.nature == Nature::Attack && REFUSED_FROM <= finding.severity)
        .max_by_key(|finding| finding.severity)
        .map(ToString::to_string);
    (findings, worst)
}
