//! Files by digest: as chunks in a store, and those that are being looked at or loaded as plain files beside it.
//!
//! ```text
//! store/                  the chunks, unless they lie elsewhere
//! assembled/{digest}      files put together for the gate and for versions on disk; they can be made again
//! quarantine/{id}/{digest}    files of refused bundles
//! ```

use std::fs;
use std::io::ErrorKind;
use std::path::{Path as FsPath, PathBuf};

use bms_bundle::Content;
use bms_store::{Digest, FileReader, Location, Recipe, ScrubOptions};
use bms_wire::{Code, Error, Result};
use bytes::Bytes;

use crate::Registry;

mod assembled;
mod chunks;
mod migrate;
mod upload;

pub use chunks::Health;
pub use upload::BlobUpload;

/// The chunk store with this registry's folders.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(crate) chunks: bms_store::Store,
    /// The registry's folder.
    root: PathBuf,
}

impl Store {
    /// The store of the registry in `dir`: in that folder, or at a place of its own. What an older version of the program
    /// stored as whole files is taken over.
    pub(crate) async fn open(dir: &FsPath, location: Option<&Location>) -> Result<Store> {
        let inside = Location::Folder(dir.join("store"));
        let chunks = bms_store::Store::open(location.unwrap_or(&inside)).await?;
        let store = Store { chunks, root: dir.to_owned() };
        let assembled = store.assembled();
        blocking(move || assembled::sweep(&assembled, assembled::Sweep::All)).await?;
        migrate::take_over(&store.chunks, &dir.join("store").join("blobs")).await?;
        Ok(store)
    }

    /// Size of a file, `None` when it is not here as a whole.
    pub(crate) async fn size(&self, digest: &str) -> Result<Option<u64>> {
        Ok(self.chunks.complete(Digest::parse(digest)?).await?.map(|recipe| recipe.size))
    }

    /// A whole file, verified; a large one is mapped where it was put together.
    ///
    /// # Errors
    /// [`Code::NotFound`], or [`Code::Tampered`] when the bytes rotted or were changed in the store.
    pub(crate) async fn content(&self, digest: &str) -> Result<Content> {
        let path = self.assemble(digest).await?;
        blocking(move || Content::open(&path)).await
    }

    /// Where a file lies on this machine, whole and verified. It stays for an hour.
    pub(crate) async fn assemble(&self, digest: &str) -> Result<PathBuf> {
        let path = self.assembled().join(digest);
        let (found, name) = (path.clone(), digest.to_owned());
        if blocking(move || assembled::is_whole(&found, &name)).await? {
            return Ok(path);
        }
        match self.chunks.fetch(Digest::parse(digest)?, &path, &[]).await {
            Err(error) if error.code() == Code::Tampered => Err(rotten(digest).because(error)),
            fetched => fetched.map(|_| path),
        }
    }

    /// Puts a file together of chunks, and so finds out whether the recipe is right.
    pub(crate) async fn compose(&self, recipe: &Recipe) -> Result<()> {
        let path = self.assembled().join(recipe.digest.to_string());
        self.chunks.compose(recipe, &path, &[]).await.map(drop)
    }

    fn assembled(&self) -> PathBuf {
        self.root.join("assembled")
    }

    /// Lets files go that were put together a while ago.
    pub(crate) async fn sweep(&self) -> Result<()> {
        let assembled = self.assembled();
        blocking(move || assembled::sweep(&assembled, assembled::Sweep::Old)).await
    }

    pub(crate) async fn reader(&self, digest: &str) -> Result<BlobReader> {
        let reader = self.chunks.reader(Digest::parse(digest)?).await?;
        Ok(BlobReader { store: self.clone(), digest: digest.to_owned(), reader })
    }

    /// Copies a file into a quarantine. `false` when it is absent, or cannot be read any more.
    pub(crate) async fn copy_to_quarantine(&self, quarantine: &str, digest: &str) -> Result<bool> {
        let path = self.quarantined(quarantine, digest);
        match self.chunks.fetch(Digest::parse(digest)?, &path, &[]).await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Code::NotFound => Ok(false),
            Err(error) if error.code() == Code::Tampered => {
                tracing::warn!(%error, digest, "a refused file rotted; it is not kept");
                Ok(false)
            }
            Err(error) => Err(error.while_doing("copy a refused file into quarantine")),
        }
    }

    /// Copies a file of a quarantine back. `false` when it is absent. Whoever reads it verifies its digest.
    pub(crate) async fn copy_from_quarantine(&self, quarantine: &str, digest: &str) -> Result<bool> {
        let path = self.quarantined(quarantine, digest);
        let opened = blocking(move || match fs::File::open(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            opened => {
                let file = opened.map_err(|e| Error::io("open", &path, e))?;
                let size = file.metadata().map_err(|e| Error::io("examine", &path, e))?.len();
                Ok(Some((file, size)))
            }
        });
        let Some((file, size)) = opened.await? else { return Ok(false) };
        let mut push = self.chunks.push().await?;
        let stored = push.read(file, Some(size)).await?;
        if stored.digest != Digest::parse(digest)? {
            return Err(Error::new(Code::Tampered, format!("the file {digest} rotted in quarantine")));
        }
        push.finish().await?;
        Ok(true)
    }

    /// Removes a file; one that is absent already is fine.
    pub(crate) async fn remove(&self, digest: &str) -> Result<()> {
        remove_file(self.assembled().join(digest)).await?;
        self.chunks.remove(Digest::parse(digest)?).await
    }

    /// Takes what rotted of a file out of the store, so that the publisher's upload replaces it.
    pub(crate) async fn discard(&self, digest: &str) -> Result<()> {
        let digest = Digest::parse(digest)?;
        remove_file(self.assembled().join(digest.to_string())).await?;
        self.chunks.mend(digest, &ScrubOptions::default()).await?;
        if self.chunks.complete(digest).await?.is_none() {
            self.chunks.remove(digest).await?;
        }
        Ok(())
    }

    /// Removes a file from a quarantine; one that is absent already is fine.
    pub(crate) async fn remove_from_quarantine(&self, quarantine: &str, digest: &str) -> Result<()> {
        remove_file(self.quarantined(quarantine, digest)).await
    }

    fn quarantined(&self, quarantine: &str, digest: &str) -> PathBuf {
        self.root.join("quarantine").join(quarantine).join(digest)
    }
}

async fn remove_file(path: PathBuf) -> Result<()> {
    blocking(move || match fs::remove_file(&path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("remove", &path, e)),
        _ => Ok(()),
    })
    .await
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Error::new(Code::Internal, format!("work on files ended early: {e}")).because(e))?
}

impl Registry {
    /// Whether the store holds the file `digest` completely: an upload can go on with the next one.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when it is no digest; storage errors.
    pub async fn has_blob(&self, digest: &str) -> Result<bool> {
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
        let mut upload = self.upload_blob(&digest, Some(bytes.len() as u64))?;
        upload.write(bytes).await?;
        upload.finish().await?;
        Ok(digest)
    }

    /// Starts storing a file that arrives in parts, of this size if it is known. Nothing is visible before
    /// [`BlobUpload::finish`] has seen that the bytes are those of `digest`.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when it is no digest.
    pub fn upload_blob(&self, digest: &str, size: Option<u64>) -> Result<BlobUpload> {
        Ok(BlobUpload::new(self.store.chunks.clone(), Digest::parse(digest)?, size))
    }

    /// Opens a file of the store for reading in parts.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when it is no digest, [`Code::NotFound`] when it is not here.
    pub async fn get_blob(&self, digest: &str) -> Result<BlobReader> {
        self.store.reader(digest).await
    }
}

impl Registry {
    /// Opens a range of a file of the store for reading in parts.
    ///
    /// # Errors
    /// As [`Registry::get_blob`].
    pub async fn get_blob_range(&self, digest: &str, range: std::ops::Range<u64>) -> Result<BlobReader> {
        let reader = self.store.chunks.reader_of(Digest::parse(digest)?, range).await?;
        Ok(BlobReader { store: self.store.clone(), digest: digest.to_owned(), reader })
    }

    /// SHA-256 of a file of the store, as it was found when the file was stored.
    ///
    /// # Errors
    /// As [`Registry::get_blob`].
    pub async fn blob_sha256(&self, digest: &str) -> Result<[u8; 32]> {
        Ok(self.store.chunks.recipe(Digest::parse(digest)?).await?.sha256)
    }
}

/// Reads a file of the store in parts, checking them on the way.
#[derive(Debug)]
pub struct BlobReader {
    store: Store,
    digest: String,
    reader: FileReader,
}

impl BlobReader {
    /// Bytes of the whole file.
    pub fn size(&self) -> u64 {
        self.reader.size()
    }

    /// The next part, some megabytes at most; `None` after the last.
    ///
    /// # Errors
    /// [`Code::Tampered`] in place of the first part that is not what was stored: a reader who stops at an error never
    /// takes a wrong file for a whole one. What rotted is taken out of the store then, so that an upload replaces it.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        match self.reader.next().await {
            Err(error) if error.code() == Code::Tampered => {
                self.store.discard(&self.digest).await?;
                Err(rotten(&self.digest).because(error))
            }
            next => next,
        }
    }
}

fn rotten(digest: &str) -> Error {
    Error::new(Code::Tampered, format!("the stored file `{digest}` holds other bytes"))
        .hint("The disk is failing or someone changed the store; upload the file again.")
}
