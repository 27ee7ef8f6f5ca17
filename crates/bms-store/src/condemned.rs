//! What is about to be removed: said first, done later, so that nobody relies on it any more when it goes.

use std::collections::{BTreeMap, BTreeSet};

use bms_wire::{Code, Error, Result};
use object_store::ObjectStore;
use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::objects::{self, Name};
use crate::recipe::{seal, unseal};

/// Bytes of one such object that are read.
const BYTES_MAX: u64 = 64 << 20;

/// A list of what shall go. It is written once and removed when all of it is gone or was spared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sentence {
    /// Packs, each with the chunks in it that rotted: those do not count as being there.
    pub(crate) packs: BTreeMap<Name, BTreeSet<Digest>>,
    /// Recipes.
    pub(crate) recipes: BTreeSet<(Digest, Name)>,
}

impl Sentence {
    pub(crate) fn is_empty(&self) -> bool {
        self.packs.is_empty() && self.recipes.is_empty()
    }

    /// Makes it known. From then on, whoever begins to push sees it.
    pub(crate) async fn pronounce(&self, objects: &dyn ObjectStore) -> Result<()> {
        let json = serde_json::to_vec(self)
            .map_err(|e| Error::new(Code::Internal, "a list of garbage cannot be written").because(e))?;
        objects::write(objects, &objects::condemnation(Name::new()), seal(json)).await
    }
}

/// All that is condemned.
#[derive(Clone, Debug, Default)]
pub(crate) struct Condemned {
    /// Packs with what rotted in them.
    pub(crate) packs: BTreeMap<Name, BTreeSet<Digest>>,
    pub(crate) recipes: BTreeSet<(Digest, Name)>,
    /// The objects that say so.
    pub(crate) sentences: BTreeSet<Name>,
    /// Those of them that rotted. What they named is not known any more, so nothing of it will be removed.
    pub(crate) rotten: BTreeSet<Name>,
}

impl Condemned {
    pub(crate) async fn read(objects: &dyn ObjectStore) -> Result<Condemned> {
        let mut all = Condemned::default();
        for meta in objects::list(objects, objects::condemnations()).await? {
            let Some(name) = objects::name_of(&meta.location) else { continue };
            let Some(bytes) = objects::read(objects, &meta.location, BYTES_MAX).await? else { continue };
            let Some(sentence) = parse(&bytes) else {
                all.rotten.insert(name);
                continue;
            };
            all.sentences.insert(name);
            for (pack, rotten) in sentence.packs {
                all.packs.entry(pack).or_default().extend(rotten);
            }
            all.recipes.extend(sentence.recipes);
        }
        Ok(all)
    }
}

/// The list an object holds, `None` when it rotted.
pub(crate) fn parse(bytes: &[u8]) -> Option<Sentence> {
    unseal(bytes).and_then(|json| serde_json::from_slice(json).ok())
}
