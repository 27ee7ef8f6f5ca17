//! Writing packs anew without what nobody needs.

use std::collections::{BTreeSet, HashSet};

use bms_wire::Result;
use object_store::ObjectStoreExt;

use crate::index::Listing;
use crate::objects::{self, Name, failure};
use crate::pack::{Contents, Entry, Packed};
use crate::push::{Push, blocking};
use crate::{Digest, Store};

/// Bytes read from a pack at once.
const READ_BYTES: u64 = 8 << 20;

impl Store {
    /// Copies the needed chunks of `sparse` packs into new ones. Returns the packs that may go, and the bytes written. A pack
    /// with a rotten chunk stays: that is for a scrub.
    pub(super) async fn repack(
        &self,
        listing: &Listing,
        sparse: &BTreeSet<Name>,
        needed: &HashSet<Digest>,
    ) -> Result<(BTreeSet<Name>, u64)> {
        let mut done = BTreeSet::new();
        if sparse.is_empty() {
            return Ok((done, 0));
        }
        let mut push = self.push().await?;
        for name in sparse {
            let Some(contents) = listing.contents.get(name) else { continue };
            let wanted = |entry: &Entry| needed.contains(&entry.id);
            match self.copy_chunks(contents, &mut push, wanted).await? {
                Copied::All => {
                    done.insert(*name);
                }
                Copied::Rotten => {
                    tracing::warn!(pack = %name, "a pack is kept as it is because chunks of it rotted");
                }
            }
        }
        push.seal_pack().await?;
        let written = push.packs().iter().map(|contents| contents.size).sum();
        push.finish().await?;
        Ok((done, written))
    }

    /// Copies the wanted chunks of a pack as they are stored, each verified.
    pub(crate) async fn copy_chunks(
        &self,
        contents: &Contents,
        push: &mut Push,
        wanted: impl Fn(&Entry) -> bool,
    ) -> Result<Copied> {
        let path = objects::pack(contents.name);
        let entries: Vec<(u64, Entry)> = contents
            .places()
            .filter(|(_, entry)| wanted(entry))
            .map(|(place, entry)| (place, *entry))
            .collect();
        let mut copied = Copied::All;
        let mut rest = &entries[..];
        while let Some((begin, _)) = rest.first().copied() {
            let within = |(place, entry): &&(u64, Entry)| {
                place + u64::from(entry.stored) - begin <= READ_BYTES.max(u64::from(entry.stored))
            };
            let (run, later) = rest.split_at(rest.iter().take_while(within).count().max(1));
            rest = later;
            let end = run.last().map_or(begin, |(place, entry)| place + u64::from(entry.stored));
            let bytes = self.objects.get_range(&path, begin..end).await;
            let bytes = match bytes {
                Ok(bytes) => bytes,
                Err(e) => return Err(failure("read a pack", e)),
            };
            let run = run.to_vec();
            let packed = blocking(move || {
                let one = |(place, entry): (u64, Entry)| {
                    let at = (place - begin) as usize;
                    let stored = bytes.get(at..at + entry.stored as usize)?;
                    entry.holds(stored).then(|| Packed { entry, stored: bytes.slice_ref(stored) })
                };
                run.into_iter().map(one).collect::<Vec<_>>()
            })
            .await?;
            for packed in packed {
                match packed {
                    Some(packed) => push.append(packed).await?,
                    None => copied = Copied::Rotten,
                }
            }
        }
        Ok(copied)
    }
}

/// Whether chunks could be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copied {
    All,
    /// Some are not what they were.
    Rotten,
}
