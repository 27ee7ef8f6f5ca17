//! Making whole what rotted: a new pack with the good chunks of the old one and whole copies of the others.

use std::collections::BTreeSet;

use bms_wire::Result;
use bytes::Bytes;
use object_store::ObjectStoreExt;

use super::{Problem, ScrubOptions, ScrubReport};
use crate::condemned::Sentence;
use crate::index::Listing;
use crate::objects::{self, Name};
use crate::pack::Packed;
use crate::push::{Push, blocking};
use crate::{Digest, Store};

/// What is wrong with a pack.
#[derive(Debug)]
pub(super) struct Damage {
    pub(super) pack: Name,
    /// Chunks that rotted.
    pub(super) chunks: BTreeSet<Digest>,
    /// Whether what stands around the chunks rotted.
    pub(super) frame: bool,
}

impl Store {
    /// Replaces a damaged pack. Chunks of which there is no whole copy anywhere are not in the store any more after that, so
    /// that the next push of a file that has them sends them again.
    pub(super) async fn repair_pack(
        &self,
        damage: Damage,
        listing: &Listing,
        options: &ScrubOptions,
        report: &mut ScrubReport,
    ) -> Result<()> {
        let Some(contents) = listing.contents.get(&damage.pack) else { return Ok(()) };
        let object = objects::pack(damage.pack).to_string();
        let mut push = self.push().await?;
        self.copy_chunks(contents, &mut push, |entry| !damage.chunks.contains(&entry.id)).await?;
        let mut problems = Vec::new();
        if damage.frame {
            let problem = "what stands around its chunks rotted".to_owned();
            problems.push(Problem { object: object.clone(), problem, chunk: None, repaired: true });
        }
        for id in &damage.chunks {
            let copy = match self.other_copy(*id, damage.pack, listing).await? {
                None => whole_copy(*id, options).await?,
                found => found,
            };
            let repaired = copy.is_some();
            if let Some(copy) = copy {
                add(&mut push, *id, copy).await?;
            }
            let problem = "a chunk rotted".to_owned();
            problems.push(Problem { object: object.clone(), problem, chunk: Some(*id), repaired });
        }
        push.finish().await?;
        // Only after the new pack is visible. A collection removes the old one.
        let mut sentence = Sentence::default();
        sentence.packs.insert(damage.pack, damage.chunks);
        sentence.pronounce(self.objects.as_ref()).await?;
        self.refresh().await?;
        problems.into_iter().for_each(|problem| report.add(problem));
        Ok(())
    }

    /// The chunk in another pack of this store.
    async fn other_copy(&self, id: Digest, but: Name, listing: &Listing) -> Result<Option<Bytes>> {
        for contents in listing.contents.values().filter(|contents| contents.name != but) {
            let Some((place, entry)) = contents.places().find(|(_, entry)| entry.id == id) else { continue };
            let entry = *entry;
            let range = place..place + u64::from(entry.stored);
            let Ok(stored) = self.objects.get_range(&objects::pack(contents.name), range).await else {
                continue;
            };
            let chunk = blocking(move || {
                let chunk = crate::encode::decode(&stored, entry.encoding(), entry.size, id);
                chunk.ok().map(|chunk| Bytes::copy_from_slice(&chunk))
            })
            .await?;
            if chunk.is_some() {
                return Ok(chunk);
            }
        }
        Ok(None)
    }
}

/// A chunk from the replica, if that has it as it should be.
pub(super) async fn whole_copy(id: Digest, options: &ScrubOptions) -> Result<Option<Bytes>> {
    let Some(replica) = &options.replica else { return Ok(None) };
    let chunk = replica.chunk(id).await.map_err(|e| e.while_doing("read the other store"))?;
    Ok(chunk.filter(|chunk| Digest::of(chunk) == id))
}

/// Adds a chunk whether or not the index has it: what the index has is what rotted.
pub(super) async fn add(push: &mut Push, id: Digest, chunk: Bytes) -> Result<()> {
    let packed = blocking(move || Packed::new(id, chunk)).await?;
    push.append(packed).await
}
