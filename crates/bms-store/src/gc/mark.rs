//! What is needed.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bms_wire::{Code, Error, Result};
use object_store::ObjectStore;

use super::Packs;
use crate::Digest;
use crate::condemned::Condemned;
use crate::index::{self, Listing};
use crate::objects::{self, Name};
use crate::pack::PACK_BYTES;

/// Recipes read before their chunks are noted.
const RECIPES_AT_ONCE: usize = 64;
/// When there are this many packs under a quarter of the usual size, they are joined.
const SMALL_PACKS: usize = 8;

/// Files and what they need.
#[derive(Debug, Default)]
pub(super) struct Marked {
    /// Chunks of all recipes that stay.
    pub(super) chunks: HashSet<Digest>,
    /// Recipes that nobody needs.
    pub(super) dead: BTreeSet<(Digest, Name)>,
    /// Condemned recipes that turned out to be needed.
    pub(super) spared: BTreeSet<(Digest, Name)>,
    pub(super) kept: u64,
    pub(super) missing: u64,
}

impl Marked {
    /// Looks at all recipes. With `young_ms`, those written before that are dead when no live file has them; without, whatever
    /// is not condemned stays.
    pub(super) async fn files(
        objects: &dyn ObjectStore,
        live: &BTreeSet<Digest>,
        condemned: &Condemned,
        young_ms: Option<i64>,
    ) -> Result<Marked> {
        let mut marked = Marked::default();
        let mut copies: BTreeMap<Digest, Vec<(Name, i64)>> = BTreeMap::new();
        for meta in objects::list(objects, objects::files()).await? {
            if let Some((file, name)) = objects::recipe_of(&meta.location) {
                copies.entry(file).or_default().push((name, objects::written_ms(&meta)));
            }
        }
        marked.missing = live.iter().filter(|file| !copies.contains_key(*file)).count() as u64;
        let mut wanted: Vec<(Digest, Name)> = Vec::new();
        for (file, names) in &copies {
            let is_live = live.contains(file);
            for (name, written_ms) in names {
                let is_condemned = condemned.recipes.contains(&(*file, *name));
                let stays = match young_ms {
                    _ if is_live => true,
                    _ if is_condemned => false,
                    None => true,
                    Some(young_ms) => young_ms < *written_ms,
                };
                match stays {
                    true => wanted.push((*file, *name)),
                    false if is_condemned => {}
                    false => {
                        marked.dead.insert((*file, *name));
                    }
                }
            }
        }
        let mut readable = BTreeSet::new();
        let mut rotten = BTreeSet::new();
        for names in wanted.chunks(RECIPES_AT_ONCE) {
            for (file, name, recipe) in index::read_recipes(objects, names.to_vec()).await? {
                let Ok(recipe) = recipe else {
                    rotten.insert(file);
                    continue;
                };
                readable.insert(file);
                if condemned.recipes.contains(&(file, name)) {
                    marked.spared.insert((file, name));
                }
                marked.chunks.extend(recipe.chunks.iter().map(|chunk| chunk.id));
            }
        }
        marked.kept = readable.len() as u64;
        if let Some(file) = rotten.iter().find(|file| live.contains(*file) && !readable.contains(*file)) {
            let what =
                format!("the recipe of the file `{file}` rotted, so it is not known which chunks are needed");
            return Err(Error::new(Code::Tampered, what).hint("Repair it first: `bms scrub --from URL`."));
        }
        Ok(marked)
    }
}

/// Packs that nobody needs, and packs that are worth writing anew.
pub(super) fn packs(
    listing: &Listing,
    needed: &HashSet<Digest>,
    young_ms: i64,
    percent_min: u64,
) -> (BTreeSet<Name>, BTreeSet<Name>) {
    let is_young =
        |name: &Name| listing.metas.get(name).is_none_or(|meta| young_ms < objects::written_ms(meta));
    let mut order: Vec<_> = listing.contents.values().collect();
    // Of a chunk that is in several packs one copy counts: that in a pack that stays anyway, else in the largest.
    order.sort_by_key(|contents| (!is_young(&contents.name), u64::MAX - contents.size, contents.name));
    let (mut dead, mut sparse, mut small) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut counted = HashSet::new();
    for contents in order {
        let live: u64 = contents
            .entries
            .iter()
            .filter(|entry| needed.contains(&entry.id) && counted.insert(entry.id))
            .map(|entry| u64::from(entry.stored))
            .sum();
        if is_young(&contents.name) {
            continue;
        }
        if live == 0 {
            dead.insert(contents.name);
        } else if live * 100 < contents.size * percent_min {
            sparse.insert(contents.name);
        } else if contents.size < PACK_BYTES / 4 {
            small.insert(contents.name);
        }
    }
    if SMALL_PACKS <= small.len() {
        sparse.extend(small);
    }
    (dead, sparse)
}

/// Condemned packs that hold a needed chunk which no other pack holds.
pub(super) fn spared(listing: &Listing, condemned: &Condemned, needed: &HashSet<Digest>) -> BTreeSet<Name> {
    let packs: &Packs = &listing.contents;
    let mut lacking: HashSet<Digest> = needed.clone();
    for contents in packs.values().filter(|contents| !condemned.packs.contains_key(&contents.name)) {
        for entry in &contents.entries {
            lacking.remove(&entry.id);
        }
    }
    let mut spared = BTreeSet::new();
    for (name, rotten) in &condemned.packs {
        let Some(contents) = packs.get(name) else { continue };
        for entry in contents.entries.iter().filter(|entry| !rotten.contains(&entry.id)) {
            if lacking.remove(&entry.id) {
                spared.insert(*name);
            }
        }
    }
    spared
}
