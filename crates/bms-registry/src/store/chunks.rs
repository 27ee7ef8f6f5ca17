//! Files that are sent as the chunks which are not here yet; and the care of the store.

use std::collections::BTreeSet;

use bms_store::{Digest, GcOptions, GcReport, Recipe, Roots, ScrubOptions, ScrubReport};
use bms_wire::api::ChunksStored;
use bms_wire::{Code, Error, Result, limits};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::json;

use crate::database::{reading, text};
use crate::{Registry, audit};

/// The event that says that something in the store was not as it was stored.
const CORRUPT: &str = "store.corrupt";

/// How the store is.
pub type Health = ScrubReport;

impl Registry {
    /// Which of these chunks are not here.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when one is no digest, [`Code::TooLarge`] for too many.
    pub async fn missing_chunks(&self, chunks: &[String]) -> Result<Vec<String>> {
        let missing = self.store.chunks.missing(&digests(chunks)?);
        Ok(missing.iter().map(Digest::to_string).collect())
    }

    /// Stores chunks, each with its digest. They stay for a day without a file.
    ///
    /// # Errors
    /// [`Code::Tampered`] when one is not what its digest says; storage errors.
    pub async fn put_chunks(&self, chunks: Vec<(Digest, Bytes)>) -> Result<ChunksStored> {
        let mut push = self.store.chunks.push().await?;
        for (id, chunk) in chunks {
            push.put_chunk(id, chunk).await?;
        }
        let pushed = push.finish().await?;
        Ok(ChunksStored { new: pushed.chunks_new, bytes: pushed.bytes_new })
    }

    /// Some chunks, in order, each with its digest.
    ///
    /// # Errors
    /// [`Code::TooLarge`] when they are more than fit into one answer; [`Code::Tampered`] when one is gone or rotted.
    pub async fn get_chunks(&self, chunks: &[String]) -> Result<Vec<(Digest, Bytes)>> {
        let mut bytes = 0;
        let mut read = Vec::new();
        for id in digests(chunks)? {
            let chunk = self.store.chunks.chunk(id).await?;
            bytes += chunk.len() + 36;
            if limits::CHUNKS_BODY_BYTES_MAX < bytes {
                let what = format!("one answer has at most {} bytes", limits::CHUNKS_BODY_BYTES_MAX);
                return Err(Error::new(Code::TooLarge, what).hint("Ask for fewer chunks at once."));
            }
            read.push((id, chunk));
        }
        Ok(read)
    }

    /// The list of a file's chunks.
    ///
    /// # Errors
    /// [`Code::NotFound`].
    pub async fn recipe(&self, digest: &str) -> Result<Vec<u8>> {
        Ok(self.store.chunks.recipe(Digest::parse(digest)?).await?.to_bytes())
    }

    /// Makes a file of chunks that are here, once they were seen to be that file.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when this is no list of the file's chunks, [`Code::NotFound`] when some are not here,
    /// [`Code::Tampered`] when they are another file.
    pub async fn put_recipe(&self, digest: &str, recipe: &[u8]) -> Result<u64> {
        let digest = Digest::parse(digest)?;
        let recipe = Recipe::read(recipe)
            .map_err(|e| Error::new(Code::InvalidRequest, "this is no list of a file's chunks").because(e))?;
        if recipe.digest != digest {
            return Err(Error::new(Code::InvalidRequest, "this is the list of another file's chunks"));
        }
        let mut push = self.store.chunks.push().await?;
        if let Some(chunk) = push.lacking(&recipe).first() {
            let what = format!("chunks of the file are not in the store, `{chunk}` among them");
            return Err(Error::new(Code::NotFound, what).hint("Send them first."));
        }
        // They could be chunks of anything: the file is put together, as the gate will need it anyway.
        self.store.compose(&recipe).await?;
        let size = recipe.size;
        push.put_recipe(recipe).await?;
        push.finish().await?;
        Ok(size)
    }

    /// Removes what no version and no run needs from the store.
    ///
    /// # Errors
    /// As [`bms_store::Store::gc`].
    pub async fn gc(&self, options: &GcOptions) -> Result<GcReport> {
        let report = self.store.chunks.gc(self, options).await?;
        self.store.sweep().await?;
        if 0 < report.packs_removed + report.recipes_removed {
            let details = json!({
                "recipes_removed": report.recipes_removed, "packs_removed": report.packs_removed,
                "bytes_removed": report.bytes_removed, "bytes_written": report.bytes_written,
            });
            self.audit("store.collected", "store", details).await?;
        }
        Ok(report)
    }

    /// Reads all of the store, or goes on with the round that was not ended, and repairs what it can. What was found goes
    /// into the audit log.
    ///
    /// # Errors
    /// As [`bms_store::Store::scrub`].
    pub async fn scrub(&self, options: &ScrubOptions) -> Result<Health> {
        // What a process found that ended before it could say so.
        if let Some(last) = self.store.chunks.last_scrub().await? {
            self.note_rot(&last).await?;
        }
        let report = self.store.chunks.scrub(options).await?;
        self.note_rot(&report).await?;
        Ok(report)
    }

    /// Notes what a round found in the audit log, once.
    async fn note_rot(&self, report: &Health) -> Result<()> {
        if report.problems_found == 0 && report.files_damaged.is_empty() {
            return Ok(());
        }
        let details = json!({
            "began_ms": report.began_ms, "problems": report.problems_found, "repaired": report.problems_repaired,
            "files_damaged": report.files_damaged.iter().take(20).collect::<Vec<_>>(),
        });
        let mut change = self.change().await?;
        if !audit::happened(change.db(), &[CORRUPT, CORRUPT], &details).await? {
            change.audit(CORRUPT, "store", details).await?;
        }
        change.commit().await
    }

    /// How the last scrub ended, or how far it got.
    ///
    /// # Errors
    /// Of the store.
    pub async fn last_scrub(&self) -> Result<Option<Health>> {
        self.store.chunks.last_scrub().await
    }
}

impl Roots for Registry {
    fn live(&self) -> BoxFuture<'_, Result<BTreeSet<Digest>>> {
        Box::pin(async {
            // Under the write lock: what is being made of files that arrived has either been made, or will find its lease
            // broken.
            let mut change = self.change().await?;
            let rows = sqlx::query("SELECT blake3 FROM version_files UNION SELECT blake3 FROM artifacts")
                .fetch_all(change.db())
                .await
                .map_err(reading)?;
            rows.iter().map(|row| Digest::parse(&text(row, "blake3")?)).collect()
        })
    }
}

fn digests(chunks: &[String]) -> Result<Vec<Digest>> {
    if limits::CHUNKS_ASKED_MAX < chunks.len() {
        let what = format!("at most {} chunks in one request", limits::CHUNKS_ASKED_MAX);
        return Err(Error::new(Code::TooLarge, what));
    }
    chunks.iter().map(|chunk| Digest::parse(chunk)).collect()
}
