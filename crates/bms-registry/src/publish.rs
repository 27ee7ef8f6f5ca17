//! Making a version: the only way in is through the gate.

use std::collections::BTreeSet;

use bms_bundle::{Admitted, Bundle, Content, MANIFEST, Policy};
use bms_store::Lease;
use bms_wire::api::{FileRef, NewVersion, Version};
use bms_wire::{Code, Error, Result, limits};
use serde_json::json;

use crate::Registry;
use crate::aliases::point;
use crate::clock::now_ms;
use crate::database::{count, reading, to_db, value, writing};
use crate::names::{check_alias, check_digest, check_name};
use crate::quarantine::Refusal;
use crate::registry::Change;
use crate::versions::{exists, read_version};

/// Aliases set along with one version.
const ALIASES_MAX: usize = 16;

impl Registry {
    /// Makes a version of files already in the store, if the policy lets the bundle pass. Versions are
    /// numbered from 1 without gaps. A bundle that is a version already is that version, so a publish can
    /// be repeated; its aliases are set all the same. One that is refused goes to quarantine.
    ///
    /// Goes on when the returned future is dropped.
    ///
    /// # Errors
    /// The gate's code when it refuses; [`Code::NotFound`] when files have not been uploaded;
    /// [`Code::InvalidRequest`] when the listing is malformed or the bundle has another name than `model`.
    pub async fn publish(&self, model: &str, new: NewVersion, policy: &Policy) -> Result<Version> {
        check_name("model name", model)?;
        new.aliases.iter().try_for_each(|alias| check_alias(alias))?;
        if ALIASES_MAX < new.aliases.len() {
            return Err(Error::new(
                Code::TooLarge,
                format!("a version is given at most {ALIASES_MAX} aliases at once"),
            ));
        }
        check_listing(&new.files)?;
        let (registry, model, policy) = (self.clone(), model.to_owned(), policy.clone());
        // A task of its own: a caller that hangs up half-way must not leave a refusal unrecorded.
        tokio::spawn(async move { registry.publish_listed(&model, new, policy).await })
            .await
            .map_err(|e| Error::new(Code::Internal, format!("failed to publish: {e}")).because(e))?
    }

    async fn publish_listed(&self, model: &str, new: NewVersion, policy: Policy) -> Result<Version> {
        // Until the version is made, nothing says that its files are needed but this.
        let lease = self.store.chunks.lease().await?;
        // The gate holds the bundle's small files in memory: bounded by the number of gates.
        let place = self.gates.acquire().await;
        let place = place.map_err(|e| Error::new(Code::Internal, "the gates are closed").because(e))?;
        let files = self.assemble(&new.files).await?;
        let judged = tokio::task::spawn_blocking(move || judge(files, &policy)).await;
        drop(place);
        let judged =
            judged.map_err(|e| Error::new(Code::Internal, format!("the gate failed: {e}")).because(e))?;
        match judged {
            Ok(admitted) => {
                let called = &admitted.manifest.name;
                if called != model {
                    return Err(Error::new(
                        Code::InvalidRequest,
                        format!("the bundle is a version of `{called}`, not of `{model}`"),
                    )
                    .hint(format!("Publish it as `{called}`, or package it again under the other name.")));
                }
                let version = self.add_version(&admitted, &new, &lease).await?;
                self.store.sweep().await?;
                lease.end().await;
                Ok(version)
            }
            Err((error, findings)) => {
                let refusal = Refusal {
                    model: model.to_owned(),
                    code: error.code(),
                    reason: error.message().to_owned(),
                    findings,
                    files: new.files,
                };
                self.quarantine(&refusal).await.map_err(|e| e.while_doing("quarantine a refused bundle"))?;
                Err(error)
            }
        }
    }

    /// Opens the listed files, verified against their digests.
    pub(crate) async fn assemble(&self, listing: &[FileRef]) -> Result<Vec<(String, Content)>> {
        let mut missing = Vec::new();
        for file in listing {
            match self.store.size(&file.blake3).await? {
                None => missing.push(file.path.as_str()),
                Some(size) if size != file.size => {
                    return Err(Error::new(
                        Code::InvalidRequest,
                        format!("{:?} has {size} bytes, not {} as listed", file.path, file.size),
                    ));
                }
                Some(_) => {}
            }
        }
        if !missing.is_empty() {
            return Err(not_uploaded(&missing));
        }
        let mut files = Vec::with_capacity(listing.len());
        for file in listing {
            let content = match self.store.content(&file.blake3).await {
                Err(error) if error.code() == Code::Tampered => {
                    return Err(self.discard(&file.blake3, error).await?);
                }
                opened => opened?,
            };
            files.push((file.path.clone(), content));
        }
        Ok(files)
    }

    /// Takes a file that rotted out of the store, so that the publisher's upload can replace it.
    pub(crate) async fn discard(&self, digest: &str, error: Error) -> Result<Error> {
        self.audit("store.corrupt", digest, json!({ "reason": error.message() })).await?;
        self.store.discard(digest).await?;
        Ok(error)
    }

    async fn add_version(&self, admitted: &Admitted, new: &NewVersion, lease: &Lease) -> Result<Version> {
        let model = &admitted.manifest.name;
        let mut change = self.change().await?;
        let known = sqlx::query("SELECT version, deleted_ms FROM versions WHERE digest = $1")
            .bind(&admitted.digest)
            .fetch_optional(change.db())
            .await
            .map_err(reading)?;
        let version = match known {
            Some(row) => {
                let version = count(&row, "version")?;
                if value::<Option<i64>>(&row, "deleted_ms")?.is_some() {
                    let what = format!("this bundle is version {version} of `{model}`, which was deleted");
                    return Err(Error::new(Code::Conflict, what).hint("Restore the version."));
                }
                self.check_still_there(&new.files).await?;
                replace_beside(&mut change, admitted, version, &new.files).await?;
                version
            }
            None => {
                self.check_still_there(&new.files).await?;
                lease.check().await?;
                let version = insert_version(&mut change, admitted).await?;
                insert_files(&mut change, model, version, &new.files).await?;
                insert_evaluations(&mut change, admitted, version).await?;
                let signer = admitted.signer.as_ref();
                let sealed = admitted.manifest.sealed.as_ref();
                let details = json!({
                    "version": version, "digest": admitted.digest,
                    "signer": signer.map(|s| &s.publisher), "key": signer.map(|s| &s.key_id),
                    "development": admitted.development, "parent": admitted.manifest.lineage.parent,
                    "source": admitted.manifest.lineage.source,
                    "sealed": sealed.map(|seal| &seal.id), "scanned_here": admitted.opened,
                });
                change.audit("version.published", model, details).await?;
                version
            }
        };
        for alias in &new.aliases {
            point(&mut change, model, alias, version).await?;
        }
        let published = read_version(change.db(), model, version).await?;
        change.commit().await?;
        Ok(published)
    }

    /// Under the write lock: since the gate read them, a refused bundle may have taken files along.
    pub(crate) async fn check_still_there(&self, listing: &[FileRef]) -> Result<()> {
        for file in listing {
            if self.store.size(&file.blake3).await?.is_none() {
                return Err(not_uploaded(&[&file.path]));
            }
        }
        Ok(())
    }
}

/// Runs the gate; a refusal comes with everything the scan found.
fn judge(
    files: Vec<(String, Content)>,
    policy: &Policy,
) -> Result<Admitted, (Error, Vec<bms_bundle::Finding>)> {
    let bundle = Bundle::from_contents(files).map_err(|error| (error, Vec::new()))?;
    policy.admit(&bundle).map_err(|rejected| (rejected.error, rejected.findings))
}

/// Checks what must hold before anything is read. Whether paths are safe is the gate's business: a bundle
/// with hostile ones belongs in quarantine.
fn check_listing(files: &[FileRef]) -> Result<()> {
    // The manifest and the signature do not count as the bundle's files.
    if limits::BUNDLE_FILES_MAX + 2 < files.len() {
        return Err(Error::new(
            Code::TooLarge,
            format!("a bundle has at most {} files", limits::BUNDLE_FILES_MAX),
        ));
    }
    if !files.iter().any(|file| file.path == MANIFEST) {
        return Err(Error::new(Code::InvalidBundle, format!("`{MANIFEST}` is not among the files"))
            .hint("List every file of the bundle, the manifest too."));
    }
    let mut total = 0_u64;
    let mut paths = BTreeSet::new();
    for file in files {
        check_digest(&file.blake3)?;
        if limits::PATH_BYTES_MAX < file.path.len() {
            return Err(Error::new(
                Code::TooLarge,
                format!("a path has at most {} bytes", limits::PATH_BYTES_MAX),
            ));
        }
        if !paths.insert(&file.path) {
            return Err(Error::new(Code::InvalidRequest, format!("{:?} is listed twice", file.path)));
        }
        total = total.saturating_add(file.size);
    }
    if limits::BUNDLE_BYTES_MAX < total {
        return Err(Error::new(
            Code::TooLarge,
            format!("a bundle has at most {} bytes", limits::BUNDLE_BYTES_MAX),
        ));
    }
    Ok(())
}

pub(crate) fn not_uploaded(paths: &[&str]) -> Error {
    let more = if paths.len() > 1 { format!(" and {} more files", paths.len() - 1) } else { String::new() };
    Error::new(Code::NotFound, format!("{:?}{more} of the bundle are not in the store", paths[0]))
        .hint("Upload them, then publish again.")
}

/// The number of a model's next version; the model is made when it is new.
///
/// # Errors
/// [`Code::ModelNotFound`] when it was deleted.
pub(crate) async fn next_version(change: &mut Change, model: &str) -> Result<u64> {
    sqlx::query("INSERT INTO models (name, created_ms) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
        .bind(model)
        .bind(now_ms())
        .execute(change.db())
        .await
        .map_err(writing)?;
    exists(change.db(), model).await?;
    // The write lock is held: nobody else takes this number. Deleted versions keep theirs.
    let row = sqlx::query("SELECT COALESCE(MAX(version), 0) + 1 AS next FROM versions WHERE model = $1")
        .bind(model)
        .fetch_one(change.db())
        .await
        .map_err(reading)?;
    count(&row, "next")
}

async fn insert_version(change: &mut Change, admitted: &Admitted) -> Result<u64> {
    let manifest = &admitted.manifest;
    let version = next_version(change, &manifest.name).await?;
    let now = now_ms();
    let signer = admitted.signer.as_ref();
    sqlx::query(
        "INSERT INTO versions
             (model, version, digest, task, size_bytes, signer, signer_key, development, parent, created_ms, job,
              source)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(&manifest.name)
    .bind(to_db(version)?)
    .bind(&admitted.digest)
    .bind(&manifest.task)
    .bind(to_db(admitted.size_bytes)?)
    .bind(signer.map(|s| &s.publisher))
    .bind(signer.map(|s| &s.key_id))
    .bind(i64::from(admitted.development))
    .bind(&manifest.lineage.parent)
    .bind(now)
    .bind(&manifest.lineage.job)
    .bind(manifest.lineage.source.as_ref().map(ToString::to_string))
    .execute(change.db())
    .await
    .map_err(writing)?;
    for data in &manifest.lineage.data {
        sqlx::query(
            "INSERT INTO version_data (model, version, digest, name) VALUES ($1, $2, $3, $4)
             ON CONFLICT (model, version, digest) DO NOTHING",
        )
        .bind(&manifest.name)
        .bind(to_db(version)?)
        .bind(&data.digest)
        .bind(&data.name)
        .execute(change.db())
        .await
        .map_err(writing)?;
    }
    Ok(version)
}

/// Takes over what stands beside the signed files of a version that is known: a new envelope, further approvals. The
/// rest is the same, since the digest is.
async fn replace_beside(
    change: &mut Change,
    admitted: &Admitted,
    version: u64,
    files: &[FileRef],
) -> Result<()> {
    let model = &admitted.manifest.name;
    let known = read_version(change.db(), model, version).await?.files;
    let sealed = admitted.manifest.sealed.is_some();
    let fresh: Vec<FileRef> = files
        .iter()
        .filter(|file| bms_bundle::is_replaceable(&file.path, sealed) && !known.contains(file))
        .cloned()
        .collect();
    if fresh.is_empty() {
        return Ok(());
    }
    for file in &fresh {
        sqlx::query("DELETE FROM version_files WHERE model = $1 AND version = $2 AND path = $3")
            .bind(model)
            .bind(to_db(version)?)
            .bind(&file.path)
            .execute(change.db())
            .await
            .map_err(writing)?;
    }
    insert_files(change, model, version, &fresh).await?;
    let paths: Vec<_> = fresh.iter().map(|file| file.path.as_str()).take(16).collect();
    change.audit("version.resealed", model, json!({ "version": version, "files": paths })).await.map(drop)
}

pub(crate) async fn insert_files(
    change: &mut Change,
    model: &str,
    version: u64,
    files: &[FileRef],
) -> Result<()> {
    for file in files {
        sqlx::query(
            "INSERT INTO version_files (model, version, path, size, blake3) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(model)
        .bind(to_db(version)?)
        .bind(&file.path)
        .bind(to_db(file.size)?)
        .bind(&file.blake3)
        .execute(change.db())
        .await
        .map_err(writing)?;
    }
    Ok(())
}

async fn insert_evaluations(change: &mut Change, admitted: &Admitted, version: u64) -> Result<()> {
    for (position, evaluation) in admitted.manifest.metrics.iter().enumerate() {
        for (metric, value) in &evaluation.values {
            sqlx::query(
                "INSERT INTO evaluations (model, version, position, data_digest, data_name, metric, value)
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
            )
            .bind(&admitted.manifest.name)
            .bind(to_db(version)?)
            .bind(to_db(position as u64)?)
            .bind(&evaluation.data_digest)
            .bind(&evaluation.data_name)
            .bind(metric)
            .bind(value)
            .execute(change.db())
            .await
            .map_err(writing)?;
        }
    }
    Ok(())
}
