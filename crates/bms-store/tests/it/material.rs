//! Files to store.

use std::sync::Arc;

use bms_store::{Digest, FileWriter, Pushed, Store};
use bms_wire::Result;
use object_store::ObjectStore;
use object_store::memory::InMemory;

/// Bytes that do not compress and never repeat.
pub(crate) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

pub(crate) async fn put(store: &Store, bytes: &[u8]) -> Result<Pushed> {
    let mut push = store.push().await?;
    let mut file = FileWriter::new(Some(bytes.len() as u64));
    push.write(&mut file, bytes).await?;
    push.end(file, Some(Digest::of(bytes))).await?;
    push.finish().await
}

pub(crate) async fn get(store: &Store, digest: Digest) -> Result<Vec<u8>> {
    let mut reader = store.reader(digest).await?;
    let mut bytes = Vec::new();
    while let Some(part) = reader.next().await? {
        bytes.extend_from_slice(&part);
    }
    assert_eq!(bytes.len() as u64, reader.size());
    Ok(bytes)
}

pub(crate) fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}
