//! Where each chunk lies. The truth is in the packs; this is read from them, by way of index objects that hold the lists of
//! many packs, so that opening a large store takes few requests.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bms_wire::Result;
use futures_util::{StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStore};

use crate::Digest;
use crate::condemned::Condemned;
use crate::encode::Encoding;
use crate::objects::{self, Name};
use crate::pack::{self, Contents, Entry};
use crate::recipe::{Fields, seal, unseal};

const MAGIC: &[u8; 8] = b"BMSINDX1";
/// Bytes of an index object that are read.
const INDEX_BYTES_MAX: u64 = 256 << 20;
/// Objects read at the same time.
const READS: usize = 8;

/// Where the stored bytes of a chunk are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) pack: Name,
    pub(crate) offset: u64,
    pub(crate) stored: u32,
    pub(crate) size: u32,
    pub(crate) encoding: Encoding,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    pack: u32,
    offset: u32,
    stored: u32,
    size: u32,
    encoding: Encoding,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    name: Name,
    size: u64,
    condemned: bool,
}

/// The chunks of a store: about 64 bytes of memory for each.
#[derive(Debug, Default)]
pub(crate) struct Index {
    packs: Vec<Known>,
    chunks: HashMap<Digest, Slot>,
    /// Packs whose list cannot be read.
    unreadable: BTreeSet<Name>,
}

impl Index {
    /// Adds what a pack holds. A chunk that is known from a pack that stays is not taken from another.
    fn add(&mut self, contents: &Contents, condemned: bool, rotten: &BTreeSet<Digest>) {
        let pack = self.packs.len() as u32;
        self.packs.push(Known { name: contents.name, size: contents.size, condemned });
        for (place, entry) in contents.places() {
            if rotten.contains(&entry.id) {
                continue;
            }
            let Ok(offset) = u32::try_from(place) else { continue };
            let slot =
                Slot { pack, offset, stored: entry.stored, size: entry.size, encoding: entry.encoding() };
            let known = self.chunks.get(&entry.id);
            if known.is_none_or(|known| !condemned && self.packs[known.pack as usize].condemned) {
                self.chunks.insert(entry.id, slot);
            }
        }
    }

    /// Adds what this process wrote itself.
    pub(crate) fn add_new(&mut self, contents: &Contents) {
        if !self.packs.iter().any(|pack| pack.name == contents.name) {
            self.add(contents, false, &BTreeSet::new());
        }
    }

    /// Where a chunk can be read.
    pub(crate) fn find(&self, id: &Digest) -> Option<Place> {
        self.chunks.get(id).map(|slot| self.place(slot))
    }

    /// Bytes of a chunk on which a new file may rely, that is of one whose pack is not about to be removed.
    pub(crate) fn holds(&self, id: &Digest) -> Option<u32> {
        self.chunks.get(id).filter(|slot| !self.packs[slot.pack as usize].condemned).map(|slot| slot.size)
    }

    fn place(&self, slot: &Slot) -> Place {
        Place {
            pack: self.packs[slot.pack as usize].name,
            offset: u64::from(slot.offset),
            stored: slot.stored,
            size: slot.size,
            encoding: slot.encoding,
        }
    }

    /// Number of chunks, and bytes of all packs.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.chunks.len() as u64, self.packs.iter().map(|pack| pack.size).sum())
    }

    /// Whether it says what these packs hold, and of which packs it does not know.
    fn compare<'a>(&self, listed: &'a [ObjectMeta], condemned: &Condemned) -> Option<Vec<&'a ObjectMeta>> {
        let known: HashMap<Name, bool> = self.packs.iter().map(|pack| (pack.name, pack.condemned)).collect();
        let mut here = 0;
        let mut new = Vec::new();
        for meta in listed {
            let Some(name) = objects::name_of(&meta.location) else { continue };
            match known.get(&name) {
                Some(was) if *was == condemned.packs.contains_key(&name) => here += 1,
                Some(_) => return None,
                None if self.unreadable.contains(&name) => {}
                None => new.push(meta),
            }
        }
        (here == known.len()).then_some(new)
    }
}

/// What is written to an index object.
pub(crate) fn write(packs: &[Contents]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    for pack in packs {
        let mut entries = Vec::new();
        pack::write_entries(&pack.entries, &mut entries);
        out.extend_from_slice(&pack.name.0);
        out.extend_from_slice(&pack.size.to_le_bytes());
        out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
        out.extend_from_slice(&entries);
    }
    seal(out)
}

/// What an index object says, `None` when it rotted.
pub(crate) fn parse(bytes: &[u8]) -> Option<Vec<Contents>> {
    let mut from = Fields(unseal(bytes)?);
    if from.take::<8>()? != *MAGIC {
        return None;
    }
    let mut packs = Vec::new();
    while !from.0.is_empty() {
        let name = Name(from.take()?);
        let size = u64::from_le_bytes(from.take()?);
        let length = u32::from_le_bytes(from.take()?) as usize;
        let (entries, rest) = from.0.split_at_checked(length)?;
        from.0 = rest;
        let entries: Vec<Entry> = pack::read_entries(&mut Fields(entries))?;
        packs.push(Contents { name, size, entries });
    }
    Some(packs)
}

/// The lists of all packs that are there, with what the store said of them.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) contents: BTreeMap<Name, Contents>,
    pub(crate) metas: BTreeMap<Name, ObjectMeta>,
    pub(crate) unreadable: BTreeSet<Name>,
    pub(crate) indexes: Vec<ObjectMeta>,
    /// Index objects that rotted.
    pub(crate) rotten_indexes: Vec<Name>,
}

/// Reads the lists of `packs`: from index objects where they are in those, else from the packs.
pub(crate) async fn read_lists(objects: &dyn ObjectStore, packs: Vec<ObjectMeta>) -> Result<Listing> {
    let indexes = objects::list(objects, objects::indexes()).await?;
    let mut listing = Listing::default();
    for meta in packs {
        if let Some(name) = objects::name_of(&meta.location) {
            listing.metas.insert(name, meta);
        }
    }
    let names: Vec<Name> = indexes.iter().filter_map(|meta| objects::name_of(&meta.location)).collect();
    let mut read = futures_util::stream::iter(names)
        .map(async |name| {
            let bytes = objects::read(objects, &objects::index(name), INDEX_BYTES_MAX).await;
            (name, bytes)
        })
        .buffer_unordered(READS);
    while let Some((name, bytes)) = read.next().await {
        let Some(bytes) = bytes? else { continue };
        let Some(packs) = parse(&bytes) else {
            tracing::warn!(index = %name, "an index object of the store rotted; the packs are read instead");
            listing.rotten_indexes.push(name);
            continue;
        };
        for contents in packs {
            // What an index says of a pack that is gone, or of another size, is not believed.
            if listing.metas.get(&contents.name).is_some_and(|meta| meta.size == contents.size) {
                listing.contents.insert(contents.name, contents);
            }
        }
    }
    drop(read);
    listing.indexes = indexes;
    let unlisted: Vec<(Name, u64)> = listing
        .metas
        .iter()
        .filter(|(name, _)| !listing.contents.contains_key(name))
        .map(|(name, meta)| (*name, meta.size))
        .collect();
    read_packs(objects, unlisted, &mut listing).await?;
    Ok(listing)
}

async fn read_packs(objects: &dyn ObjectStore, packs: Vec<(Name, u64)>, listing: &mut Listing) -> Result<()> {
    let mut read = futures_util::stream::iter(packs)
        .map(async |(name, size)| (name, pack::contents(objects, name, size).await))
        .buffer_unordered(READS);
    while let Some((name, contents)) = read.next().await {
        match contents {
            Ok(Some(contents)) => {
                listing.contents.insert(name, contents);
            }
            Ok(None) => {
                listing.metas.remove(&name);
            }
            Err(error) if error.code() == bms_wire::Code::Tampered => {
                tracing::warn!(pack = %name, %error, "a pack of the store cannot be read");
                listing.unreadable.insert(name);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Brings the index to what the store holds now. `condemned` was read before this call, which lists packs after that.
///
/// All is read again when packs went, were condemned or spared.
pub(crate) async fn refresh(
    objects: &dyn ObjectStore,
    index: &std::sync::RwLock<Index>,
    condemned: &Condemned,
) -> Result<()> {
    let listed = objects::list(objects, objects::packs()).await?;
    let new: Option<Vec<ObjectMeta>> = {
        let index = index.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        index.compare(&listed, condemned).map(|new| new.into_iter().cloned().collect())
    };
    let listing = match &new {
        Some(new) if new.is_empty() => return Ok(()),
        // A few packs of other processes: their own lists are the shortest way.
        Some(new) if new.len() <= READS => {
            let mut listing = Listing::default();
            let names = new.iter().filter_map(|meta| Some((objects::name_of(&meta.location)?, meta.size)));
            read_packs(objects, names.collect(), &mut listing).await?;
            listing
        }
        _ => read_lists(objects, listed).await?,
    };
    let mut index = index.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    if new.is_none() {
        *index = Index::default();
    }
    let known: BTreeSet<Name> = index.packs.iter().map(|pack| pack.name).collect();
    let (going, staying): (Vec<_>, Vec<_>) = listing
        .contents
        .values()
        .filter(|contents| !known.contains(&contents.name))
        .partition(|contents| condemned.packs.contains_key(&contents.name));
    staying.into_iter().for_each(|contents| index.add(contents, false, &BTreeSet::new()));
    for contents in going {
        let rotten = condemned.packs.get(&contents.name).cloned().unwrap_or_default();
        index.add(contents, true, &rotten);
    }
    index.unreadable.extend(listing.unreadable);
    Ok(())
}

/// Recipes of these files that can be read, of every copy.
pub(crate) async fn read_recipes(
    objects: &dyn ObjectStore,
    names: Vec<(Digest, Name)>,
) -> Result<Vec<(Digest, Name, Result<crate::Recipe>)>> {
    futures_util::stream::iter(names)
        .map(async |(digest, name)| {
            let path = objects::recipe(digest, name);
            let bytes = objects::read(objects, &path, crate::recipe::RECIPE_BYTES_MAX).await;
            let bytes = match bytes {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return Ok(None),
                Err(error) if error.code() == bms_wire::Code::Tampered => {
                    return Ok(Some((digest, name, Err(error))));
                }
                Err(error) => return Err(error),
            };
            let recipe = crate::Recipe::read(&bytes).and_then(|recipe| match recipe.digest == digest {
                true => Ok(recipe),
                false => Err(crate::encode::misnamed(digest)),
            });
            Ok(Some((digest, name, recipe)))
        })
        .buffered(READS)
        .try_filter_map(async |read| Ok(read))
        .try_collect()
        .await
}

#[cfg(test)]
mod tests;
