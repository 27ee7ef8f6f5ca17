//! A pack on its way into the store: in parts, a few at a time.

use std::sync::Arc;

use bms_wire::{Code, Error, Result};
use bytes::Bytes;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use tokio::task::JoinSet;

use crate::objects::{self, Name, failure};
use crate::pack::{self, Contents, Entry, Packed};

/// Bytes of one part. Object stores want at least 5 MiB, and some want all but the last to be equal.
const PART_BYTES: usize = 8 << 20;
/// Parts on their way at once; with the one being filled, this is what a pack keeps in memory.
const PARTS: usize = 2;

/// Writes one pack. Dropping it removes what was sent.
#[derive(Debug)]
pub(crate) struct PackWriter {
    objects: Arc<dyn ObjectStore>,
    name: Name,
    entries: Vec<Entry>,
    bytes: u64,
    part: Vec<Bytes>,
    part_bytes: usize,
    /// Begun with the second part: a small pack is a single write.
    upload: Option<Box<dyn MultipartUpload>>,
    sending: JoinSet<object_store::Result<()>>,
}

impl PackWriter {
    pub(crate) fn new(objects: Arc<dyn ObjectStore>) -> PackWriter {
        let magic = Bytes::from_static(pack::MAGIC);
        PackWriter {
            objects,
            name: Name::new(),
            entries: Vec::new(),
            bytes: magic.len() as u64,
            part_bytes: magic.len(),
            part: vec![magic],
            upload: None,
            sending: JoinSet::new(),
        }
    }

    /// Bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) async fn add(&mut self, packed: Packed) -> Result<()> {
        self.entries.push(packed.entry);
        self.take(packed.stored).await
    }

    async fn take(&mut self, mut bytes: Bytes) -> Result<()> {
        self.bytes += bytes.len() as u64;
        while PART_BYTES < self.part_bytes + bytes.len() {
            self.part.push(bytes.split_to(PART_BYTES - self.part_bytes));
            self.send().await?;
        }
        self.part_bytes += bytes.len();
        self.part.push(bytes);
        Ok(())
    }

    async fn send(&mut self) -> Result<()> {
        let part = PutPayload::from_iter(std::mem::take(&mut self.part));
        self.part_bytes = 0;
        let upload = match &mut self.upload {
            Some(upload) => upload,
            none => {
                let begun = self.objects.put_multipart(&objects::pack(self.name)).await;
                none.insert(begun.map_err(|e| failure("begin a pack", e))?)
            }
        };
        self.sending.spawn(upload.put_part(part));
        while PARTS <= self.sending.len() {
            self.sent().await?;
        }
        Ok(())
    }

    /// Waits for one part.
    async fn sent(&mut self) -> Result<()> {
        match self.sending.join_next().await {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(e))) => Err(failure("write a part of a pack", e)),
            Some(Err(e)) => Err(Error::new(Code::Internal, "a part of a pack was not written").because(e)),
        }
    }

    /// Makes the pack visible, durably.
    pub(crate) async fn close(mut self) -> Result<Contents> {
        let list = pack::write_list(&self.entries);
        self.take(list.into()).await?;
        if self.upload.is_none() {
            let bytes = PutPayload::from_iter(std::mem::take(&mut self.part));
            let put = self.objects.put(&objects::pack(self.name), bytes).await;
            put.map_err(|e| failure("write a pack", e))?;
        } else {
            self.send().await?;
            while !self.sending.is_empty() {
                self.sent().await?;
            }
            if let Some(mut upload) = self.upload.take()
                && let Err(e) = upload.complete().await
            {
                self.upload = Some(upload);
                return Err(failure("finish a pack", e));
            }
        }
        let entries = std::mem::take(&mut self.entries);
        Ok(Contents { name: self.name, size: self.bytes, entries })
    }
}

impl Drop for PackWriter {
    fn drop(&mut self) {
        let (Some(mut upload), Ok(runtime)) = (self.upload.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        // Parts that nobody will ever ask for cost room; where they stay, the bucket's own rules remove them.
        runtime.spawn(async move {
            if let Err(error) = upload.abort().await {
                tracing::debug!(%error, "the parts of an abandoned pack stay in the store");
            }
        });
    }
}
