//! A file on its way into the store.

use std::sync::Arc;

use bms_wire::{Code, Error, Result, limits};
use bytes::Bytes;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt};

use super::{blob_path, failure};

/// Bytes of one part. Object stores want at least 5 MiB; it is also what an upload keeps in memory.
const PART_BYTES: usize = 8 << 20;

/// A file on its way into the store, under the digest it must turn out to have.
///
/// Parts go to a staged object beside the final name; only [`BlobUpload::finish`] publishes it, after
/// the digest was compared, in one step.
#[derive(Debug)]
pub struct BlobUpload {
    objects: Arc<dyn ObjectStore>,
    digest: String,
    hasher: blake3::Hasher,
    size: u64,
    part: Vec<u8>,
    /// Begun with the second part: a small file is a single write.
    staged: Option<Box<dyn MultipartUpload>>,
}

impl BlobUpload {
    pub(super) fn new(objects: Arc<dyn ObjectStore>, digest: &str) -> Self {
        BlobUpload {
            objects,
            digest: digest.to_owned(),
            hasher: blake3::Hasher::new(),
            size: 0,
            part: Vec::new(),
            staged: None,
        }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`Code::TooLarge`] over [`limits::BLOB_BYTES_MAX`], [`Code::StorageFull`] on a full disk. The upload
    /// is of no use afterwards.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.size += bytes.len() as u64;
        if self.size > limits::BLOB_BYTES_MAX {
            return Err(Error::new(
                Code::TooLarge,
                format!("a file of a bundle has at most {} bytes", limits::BLOB_BYTES_MAX),
            ));
        }
        self.hasher.update(bytes);
        while self.part.len() + bytes.len() > PART_BYTES {
            let (now, later) = bytes.split_at(PART_BYTES - self.part.len());
            self.part.extend_from_slice(now);
            bytes = later;
            self.send_part().await?;
        }
        self.part.extend_from_slice(bytes);
        Ok(())
    }

    /// Compares the digest and publishes the file, durably. Returns its size.
    ///
    /// # Errors
    /// [`Code::Tampered`] when the bytes are not those of the digest; storage errors.
    pub async fn finish(mut self) -> Result<u64> {
        let found = self.hasher.finalize().to_hex();
        if found.as_str() != self.digest {
            // The staged object goes when `self` is dropped.
            return Err(Error::new(
                Code::Tampered,
                format!("the bytes received are `{found}`, not `{}`", self.digest),
            )
            .hint("The transfer was damaged or the file changed meanwhile; send it again."));
        }
        if self.staged.is_none() {
            let bytes = Bytes::from(std::mem::take(&mut self.part));
            self.objects
                .put(&blob_path(&self.digest), bytes.into())
                .await
                .map_err(|e| failure("store a file", e))?;
            return Ok(self.size);
        }
        self.send_part().await?;
        if let Some(mut staged) = self.staged.take() {
            staged.complete().await.map_err(|e| failure("store a file", e))?;
        }
        Ok(self.size)
    }

    async fn send_part(&mut self) -> Result<()> {
        let part = Bytes::from(std::mem::replace(&mut self.part, Vec::with_capacity(PART_BYTES)));
        let staged = match &mut self.staged {
            Some(staged) => staged,
            none => none.insert(
                self.objects
                    .put_multipart(&blob_path(&self.digest))
                    .await
                    .map_err(|e| failure("begin to store a file", e))?,
            ),
        };
        staged.put_part(part.into()).await.map_err(|e| failure("store a part of a file", e))
    }
}
