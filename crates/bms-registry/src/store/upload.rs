//! A file on its way into the store.

use bms_store::{Digest, FileWriter, Push, Store};
use bms_wire::Result;

/// A file on its way into the store, under the digest it must turn out to have.
///
/// Only [`BlobUpload::finish`] makes it visible, after the digest was compared, in one step.
#[derive(Debug)]
pub struct BlobUpload {
    store: Store,
    digest: Digest,
    file: FileWriter,
    /// Begun with the first bytes.
    push: Option<Push>,
}

impl BlobUpload {
    pub(super) fn new(store: Store, digest: Digest, size: Option<u64>) -> Self {
        BlobUpload { store, digest, file: FileWriter::new(size), push: None }
    }

    async fn push(&mut self) -> Result<(&mut Push, &mut FileWriter)> {
        let push = match &mut self.push {
            Some(push) => push,
            none => none.insert(self.store.push().await?),
        };
        Ok((push, &mut self.file))
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`bms_wire::Code::TooLarge`] over [`bms_wire::limits::BLOB_BYTES_MAX`], [`bms_wire::Code::StorageFull`] on a full disk.
    /// The upload is of no use afterwards.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let (push, file) = self.push().await?;
        push.write(file, bytes).await
    }

    /// Compares the digest and publishes the file, durably. Returns its size.
    ///
    /// # Errors
    /// [`bms_wire::Code::Tampered`] when the bytes are not those of the digest; storage errors.
    pub async fn finish(self) -> Result<u64> {
        let BlobUpload { digest, file, push, store } = self;
        let mut push = match push {
            Some(push) => push,
            None => store.push().await?,
        };
        let stored = push.end(file, Some(digest)).await?;
        push.finish().await?;
        Ok(stored.size)
    }
}
