//! Reading a pack, every byte of it.

use std::collections::BTreeSet;
use std::ops::Range;

use bms_wire::Result;
use bytes::Bytes;
use futures_util::StreamExt;
use object_store::ObjectStoreExt;

use super::repair::Damage;
use super::{Pace, Problem, Round};
use crate::index::Listing;
use crate::objects::{self, Name, failure};
use crate::pack::{self, Contents, Entry};
use crate::push::blocking;
use crate::{Digest, Store};

/// Bytes read at once.
const READ_BYTES: u64 = 8 << 20;
/// Reads on their way at once.
const READS: usize = 2;

/// A stretch of a pack that begins and ends between chunks.
struct Stretch {
    range: Range<u64>,
    entries: Vec<Entry>,
    /// Bytes before the first chunk, which only the first stretch has.
    magic: bool,
    /// What has to stand after the last chunk, in the last stretch.
    list: Vec<u8>,
}

impl Store {
    /// Reads a pack; gives back what is wrong with it. One that was collected meanwhile is none.
    pub(super) async fn read_pack(
        &self,
        name: Name,
        listing: &Listing,
        pace: &mut Pace,
        round: &mut Round,
    ) -> Result<Option<Damage>> {
        let Some(size) = listing.metas.get(&name).map(|meta| meta.size) else { return Ok(None) };
        let Some(contents) = listing.contents.get(&name) else {
            // Nothing says what it holds, so nothing in it can be verified.
            round.read.insert(name, size);
            let object = objects::pack(name).to_string();
            let problem = "the list of its chunks rotted".to_owned();
            round.report.add(Problem { object, problem, chunk: None, repaired: false });
            return Ok(None);
        };
        let mut damage = Damage { pack: name, chunks: BTreeSet::new(), frame: false };
        let path = objects::pack(name);
        let path = &path;
        let stretches = stretches(contents);
        let mut reads = futures_util::stream::iter(stretches)
            .map(async |stretch| (self.objects.get_range(path, stretch.range.clone()).await, stretch))
            .buffered(READS);
        while let Some((bytes, stretch)) = reads.next().await {
            let bytes = match bytes {
                Ok(bytes) => bytes,
                Err(object_store::Error::NotFound { .. }) => return Ok(None),
                Err(e) => return Err(failure("read a pack", e)),
            };
            pace.took(bytes.len() as u64).await;
            round.report.chunks_read += stretch.entries.len() as u64;
            let (rotten, frame) = blocking(move || verify(&stretch, &bytes)).await?;
            damage.chunks.extend(rotten);
            damage.frame |= frame;
        }
        round.read.insert(name, size);
        Ok((damage.frame || !damage.chunks.is_empty()).then_some(damage))
    }
}

/// The whole pack in stretches.
fn stretches(contents: &Contents) -> Vec<Stretch> {
    let magic = pack::MAGIC.len() as u64;
    let first = Stretch { range: 0..magic, entries: Vec::new(), magic: true, list: Vec::new() };
    let mut stretches = vec![first];
    for (place, entry) in contents.places() {
        let full = stretches.last().is_none_or(|last| READ_BYTES <= place - last.range.start);
        if full {
            stretches.push(Stretch {
                range: place..place,
                entries: Vec::new(),
                magic: false,
                list: Vec::new(),
            });
        }
        if let Some(last) = stretches.last_mut() {
            last.range.end = place + u64::from(entry.stored);
            last.entries.push(*entry);
        }
    }
    if let Some(last) = stretches.last_mut() {
        last.list = pack::write_list(&contents.entries);
        last.range.end = contents.size;
    }
    stretches
}

/// The chunks that are not what they were, and whether what is around them is not.
fn verify(stretch: &Stretch, bytes: &Bytes) -> (Vec<Digest>, bool) {
    let mut at = 0;
    let mut take = |length: usize| {
        let taken = bytes.get(at..at + length);
        at += length;
        taken
    };
    let mut frame = stretch.magic && take(pack::MAGIC.len()) != Some(pack::MAGIC);
    let mut rotten = Vec::new();
    for entry in &stretch.entries {
        if !take(entry.stored as usize).is_some_and(|stored| entry.holds(stored)) {
            rotten.push(entry.id);
        }
    }
    let list = stretch.list.as_slice();
    frame |= take(list.len()) != Some(list) || at != bytes.len();
    (rotten, frame)
}
