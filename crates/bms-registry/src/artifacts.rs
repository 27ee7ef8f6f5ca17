//! Files that runs and logged models left behind. They are kept as they came: nobody has judged them before one of
//! them is registered as a version.

use std::io::{Seek, SeekFrom, Write};

use bms_store::Lease;
use bms_wire::api::FileRef;
use bms_wire::{Code, Error, Result, limits};
use serde_json::json;

use crate::Registry;
use crate::clock::now_ms;
use crate::database::{Connection, Row, count, reading, text, to_db, writing};

/// Bytes read at once from the file in which an upload waited.
const READ_BYTES: usize = 4 << 20;

/// A file that arrives without its digest being known. It waits in a nameless file of the registry's folder, which
/// goes with the process, however that ends.
#[derive(Debug)]
pub struct Incoming {
    file: std::fs::File,
    hasher: blake3::Hasher,
    size: u64,
}

impl Incoming {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`Code::TooLarge`] over [`limits::BLOB_BYTES_MAX`], [`Code::StorageFull`] on a full disk.
    pub async fn write(&mut self, bytes: bytes::Bytes) -> Result<()> {
        self.size += bytes.len() as u64;
        if limits::BLOB_BYTES_MAX < self.size {
            return Err(Error::new(
                Code::TooLarge,
                format!("an artifact has at most {} bytes", limits::BLOB_BYTES_MAX),
            ));
        }
        self.hasher.update(&bytes);
        let mut file = self.file.try_clone().map_err(|e| aside("use", e))?;
        blocking(move || file.write_all(&bytes).map_err(|e| aside("write", e))).await
    }
}

impl Registry {
    /// Begins to take a file of whatever content.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn receive(&self) -> Result<Incoming> {
        let dir = self.dir.clone();
        let file = blocking(move || tempfile::tempfile_in(dir).map_err(|e| aside("make", e))).await?;
        Ok(Incoming { file, hasher: blake3::Hasher::new(), size: 0 })
    }

    /// Puts a file that has arrived into the store, and gives it a path of a run or logged model. What was there
    /// before is replaced.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when the path leads elsewhere; [`Code::NotFound`] when there is no such run or logged
    /// model; [`Code::TooLarge`]; storage errors.
    pub async fn keep_artifact(&self, owner: &str, path: &str, incoming: Incoming) -> Result<FileRef> {
        check_artifact_path(path)?;
        let Incoming { mut file, hasher, size } = incoming;
        let digest = hasher.finalize().to_hex().to_string();
        // Until it is noted, nothing but this keeps a collection of garbage from it.
        let lease = self.store.chunks.lease().await?;
        if self.store.size(&digest).await? != Some(size) {
            let mut upload = self.upload_blob(&digest, Some(size))?;
            file.seek(SeekFrom::Start(0)).map_err(|e| aside("read", e))?;
            loop {
                let mut source = file.try_clone().map_err(|e| aside("use", e))?;
                let part = blocking(move || {
                    let mut part = Vec::with_capacity(READ_BYTES);
                    let mut taken = std::io::Read::take(&mut source, READ_BYTES as u64);
                    std::io::Read::read_to_end(&mut taken, &mut part).map_err(|e| aside("read", e))?;
                    Ok(part)
                })
                .await?;
                if part.is_empty() {
                    break;
                }
                upload.write(&part).await?;
            }
            upload.finish().await?;
        }
        self.note_artifact(owner, path, size, &digest, &lease).await?;
        lease.end().await;
        Ok(FileRef { path: path.to_owned(), size, blake3: digest })
    }

    async fn note_artifact(
        &self,
        owner: &str,
        path: &str,
        size: u64,
        digest: &str,
        lease: &Lease,
    ) -> Result<()> {
        let mut change = self.change().await?;
        lease.check().await?;
        check_owner(change.db(), owner).await?;
        let row = sqlx::query("SELECT COUNT(*) AS n FROM artifacts WHERE owner = $1 AND path <> $2")
            .bind(owner)
            .bind(path)
            .fetch_one(change.db())
            .await
            .map_err(reading)?;
        if limits::BUNDLE_FILES_MAX as u64 <= count(&row, "n")? {
            let what = format!("a run has at most {} artifacts", limits::BUNDLE_FILES_MAX);
            return Err(Error::new(Code::TooLarge, what).hint("Pack small files into an archive."));
        }
        // A refused bundle may have taken the file along since it was put into the store.
        if self.store.size(digest).await?.is_none() {
            return Err(
                Error::new(Code::Unavailable, "the file was removed while it arrived").hint("Send it again.")
            );
        }
        sqlx::query(
            "INSERT INTO artifacts (owner, path, size, blake3, at_ms) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (owner, path) DO UPDATE SET
                 size = excluded.size, blake3 = excluded.blake3, at_ms = excluded.at_ms",
        )
        .bind(owner)
        .bind(path)
        .bind(to_db(size)?)
        .bind(digest)
        .bind(now_ms())
        .execute(change.db())
        .await
        .map_err(writing)?;
        let details = json!({ "path": path, "size": size, "blake3": digest });
        change.audit("artifact.stored", owner, details).await?;
        change.commit().await
    }

    /// The files of a run or logged model at and below a path, by path; all of them for an empty one.
    pub async fn artifacts(&self, owner: &str, below: &str) -> Result<Vec<FileRef>> {
        let mut db = self.db.snapshot().await?;
        list(&mut db, owner, below).await
    }

    /// Forgets the files of a run or logged model at and below a path. Their bytes stay in the store.
    ///
    /// # Errors
    /// Storage errors; that there is nothing is none.
    pub async fn remove_artifacts(&self, owner: &str, below: &str, by: &str) -> Result<()> {
        let mut change = self.change().await?;
        let files = list(change.db(), owner, below).await?;
        for file in &files {
            sqlx::query("DELETE FROM artifacts WHERE owner = $1 AND path = $2")
                .bind(owner)
                .bind(&file.path)
                .execute(change.db())
                .await
                .map_err(writing)?;
        }
        if !files.is_empty() {
            let details = json!({ "path": below, "files": files.len(), "by": by });
            change.audit("artifact.removed", owner, details).await?;
        }
        change.commit().await
    }
}

/// The files at and below a path.
pub(crate) async fn list(db: &mut Connection, owner: &str, below: &str) -> Result<Vec<FileRef>> {
    let below = below.trim_matches('/');
    // What lies below a folder sorts between its `/` and the character after that.
    let rows = sqlx::query(
        "SELECT path, size, blake3 FROM artifacts
         WHERE owner = $1 AND ($2 = '' OR path = $2 OR (path > $3 AND path < $4)) ORDER BY path",
    )
    .bind(owner)
    .bind(below)
    .bind(format!("{below}/"))
    .bind(format!("{below}0"))
    .fetch_all(db)
    .await
    .map_err(reading)?;
    rows.iter().map(file_of).collect()
}

pub(crate) fn file_of(row: &Row) -> Result<FileRef> {
    Ok(FileRef { path: text(row, "path")?, size: count(row, "size")?, blake3: text(row, "blake3")? })
}

async fn check_owner(db: &mut Connection, owner: &str) -> Result<()> {
    let found = sqlx::query(
        "SELECT 1 FROM runs WHERE id = $1 AND deleted_ms IS NULL
         UNION ALL SELECT 1 FROM logged_models WHERE id = $1 AND deleted_ms IS NULL",
    )
    .bind(owner)
    .fetch_optional(db)
    .await
    .map_err(reading)?;
    let shown: String = owner.chars().take(80).collect();
    found.map(drop).ok_or_else(|| {
        Error::new(Code::NotFound, format!("there is no active run or logged model `{shown}`"))
    })
}

fn check_artifact_path(path: &str) -> Result<()> {
    if limits::PATH_BYTES_MAX < path.len() || path.contains('\0') {
        let what = format!("an artifact's path has at most {} bytes and no NUL", limits::PATH_BYTES_MAX);
        return Err(Error::new(Code::InvalidRequest, what));
    }
    bms_bundle::check_path(path).map_err(|e| Error::new(Code::InvalidRequest, e.message().to_owned()))
}

fn aside(doing: &str, source: std::io::Error) -> Error {
    Error::io(doing, std::path::Path::new("a file for what arrives"), source)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Error::new(Code::Internal, format!("a file was not stored: {e}")).because(e))?
}
