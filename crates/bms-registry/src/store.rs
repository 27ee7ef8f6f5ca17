//! Files by digest, over an object store: `store/ab/abcd…` for files of bundles, `quarantine/{id}/abcd…`
//! for files of refused ones.

use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use bms_bundle::Content;
use bms_wire::{Code, Error, Result};
use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::Registry;
use crate::names::check_digest;

mod staged;
mod upload;

pub use upload::BlobUpload;

/// Bytes read at once. The object store opens the file for each part.
const READ_BYTES: u64 = 4 << 20;

/// The object store with the layout of this registry.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    objects: Arc<dyn ObjectStore>,
    /// The folder the objects lie in.
    root: PathBuf,
}

impl Store {
    /// The store in the registry's folder. Every write is flushed, file and folder, before it counts.
    pub(crate) async fn open(dir: &FsPath) -> Result<Store> {
        let root = dir.to_owned();
        let swept = tokio::task::spawn_blocking(move || staged::sweep(&root)).await;
        swept.map_err(|e| Error::new(Code::Internal, format!("failed to sweep the store: {e}")))??;
        let files = LocalFileSystem::new_with_prefix(dir).map_err(|e| failure("open the store", e))?;
        Ok(Store { objects: Arc::new(files.with_fsync(true)), root: dir.to_owned() })
    }

    /// Size of a blob, `None` when it is not here.
    pub(crate) async fn size(&self, digest: &str) -> Result<Option<u64>> {
        match self.objects.head(&blob_path(digest)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(failure("look up a file in the store", e)),
        }
    }

    /// A whole blob, verified; a large one is mapped where it lies.
    ///
    /// # Errors
    /// [`Code::NotFound`], or [`Code::Tampered`] when the bytes rotted or were changed in the store.
    pub(crate) async fn content(&self, digest: &str) -> Result<Content> {
        let (path, digest) = (self.file(digest), digest.to_owned());
        let opened = tokio::task::spawn_blocking(move || {
            let content = Content::open(&path)?;
            match content.blake3() == digest {
                true => Ok(content),
                false => Err(rotten(&digest)),
            }
        });
        opened.await.map_err(|e| Error::new(Code::Internal, "the store was not read").because(e))?
    }

    /// Where a blob lies on this machine.
    pub(crate) fn file(&self, digest: &str) -> PathBuf {
        self.root.join(blob_path(digest).as_ref())
    }

    pub(crate) async fn reader(&self, digest: &str) -> Result<BlobReader> {
        let size = self.size(digest).await?.ok_or_else(|| {
            Error::new(Code::NotFound, format!("the store holds no file `{digest}`")).hint("Upload it first.")
        })?;
        Ok(BlobReader {
            objects: Arc::clone(&self.objects),
            digest: digest.to_owned(),
            hasher: blake3::Hasher::new(),
            size,
            offset: 0,
        })
    }

    /// Copies a blob into a quarantine; on a local disk without copying bytes. `false` when it is absent.
    pub(crate) async fn copy_to_quarantine(&self, quarantine: &str, digest: &str) -> Result<bool> {
        match self.objects.copy(&blob_path(digest), &quarantine_path(quarantine, digest)).await {
            Ok(()) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(e) => Err(failure("copy a refused file into quarantine", e)),
        }
    }

    /// Copies a file of a quarantine back. `false` when it is absent. Whoever reads it verifies its digest.
    pub(crate) async fn copy_from_quarantine(&self, quarantine: &str, digest: &str) -> Result<bool> {
        match self.objects.copy(&quarantine_path(quarantine, digest), &blob_path(digest)).await {
            Ok(()) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(e) => Err(failure("copy a refused file back", e)),
        }
    }

    /// Removes a blob; one that is absent already is fine.
    pub(crate) async fn remove(&self, digest: &str) -> Result<()> {
        self.remove_at(&blob_path(digest)).await
    }

    /// Removes a file from a quarantine; one that is absent already is fine.
    pub(crate) async fn remove_from_quarantine(&self, quarantine: &str, digest: &str) -> Result<()> {
        self.remove_at(&quarantine_path(quarantine, digest)).await
    }

    async fn remove_at(&self, path: &Path) -> Result<()> {
        match self.objects.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(failure("remove a file from the store", e)),
        }
    }
}

impl Registry {
    /// Whether the store holds the file `digest` completely: an upload can go on with the next one.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when it is no digest; storage errors.
    pub async fn has_blob(&self, digest: &str) -> Result<bool> {
        check_digest(digest)?;
        Ok(self.store.size(digest).await?.is_some())
    }

    /// Stores a file given as a whole and returns its digest. With `expected` it must be that one.
    ///
    /// # Errors
    /// As [`Registry::upload_blob`] and [`BlobUpload::finish`].
    pub async fn put_blob(&self, bytes: &[u8], expected: Option<&str>) -> Result<String> {
        let digest = match expected {
            Some(digest) => digest.to_owned(),
            None => blake3::hash(bytes).to_hex().to_string(),
        };
        let mut upload = self.upload_blob(&digest)?;
        upload.write(bytes).await?;
        upload.finish().await?;
        Ok(digest)
    }

    /// Starts storing a file that arrives in parts. Nothing is visible before [`BlobUpload::finish`]
    /// has seen that the bytes are those of `digest`; dropping the upload removes what arrived.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when it is no digest.
    pub fn upload_blob(&self, digest: &str) -> Result<BlobUpload> {
        check_digest(digest)?;
        Ok(BlobUpload::new(Arc::clone(&self.store.objects), digest))
    }

    /// Opens a file of the store for reading in parts.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when it is no digest, [`Code::NotFound`] when it is not here.
    pub async fn get_blob(&self, digest: &str) -> Result<BlobReader> {
        check_digest(digest)?;
        self.store.reader(digest).await
    }
}

/// Reads a file of the store in parts, checking its digest on the way.
#[derive(Debug)]
pub struct BlobReader {
    objects: Arc<dyn ObjectStore>,
    digest: String,
    hasher: blake3::Hasher,
    size: u64,
    offset: u64,
}

impl BlobReader {
    /// Bytes of the whole file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next part, at most 4 MiB; `None` after the last.
    ///
    /// # Errors
    /// [`Code::Tampered`] in place of the last part when the bytes are not those of the digest, so that
    /// a reader who stops at an error never takes a wrong file for a whole one.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.offset == self.size {
            return if self.size == 0 { self.check().map(|()| None) } else { Ok(None) };
        }
        let end = self.size.min(self.offset + READ_BYTES);
        let part = self
            .objects
            .get_range(&blob_path(&self.digest), self.offset..end)
            .await
            .map_err(|e| failure("read a file of the store", e))?;
        self.hasher.update(&part);
        self.offset = end;
        if self.offset == self.size {
            self.check()?;
        }
        Ok(Some(part))
    }

    fn check(&self) -> Result<()> {
        if self.hasher.finalize().to_hex().as_str() == self.digest {
            return Ok(());
        }
        Err(rotten(&self.digest))
    }
}

fn rotten(digest: &str) -> Error {
    Error::new(Code::Tampered, format!("the stored file `{digest}` holds other bytes"))
        .hint("The disk is failing or someone changed the store; upload the file again.")
}

fn blob_path(digest: &str) -> Path {
    Path::from_iter(["store", "blobs", &digest[..2], digest])
}

fn quarantine_path(quarantine: &str, digest: &str) -> Path {
    Path::from_iter(["quarantine", quarantine, digest])
}

/// A store failure as an error. The input/output error below it says whether the disk is full.
fn failure(doing: &str, source: object_store::Error) -> Error {
    let mut code = match &source {
        object_store::Error::NotFound { .. } => Code::NotFound,
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            Code::PermissionDenied
        }
        _ => Code::Io,
    };
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&source);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            code = Error::io("", FsPath::new(""), std::io::Error::from(io.kind())).code();
        }
        cause = error.source();
    }
    let error = Error::new(code, format!("failed to {doing}: {source}"));
    let error = match code {
        Code::StorageFull => error.hint("Free space on the registry's disk; nothing was changed."),
        _ => error,
    };
    error.because(source)
}

#[cfg(test)]
mod tests;
