//! Reading every recipe, and looking whether the chunks it names are there.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bms_wire::Result;
use object_store::ObjectStoreExt;

use super::repair::{add, whole_copy};
use super::{NAMED_MAX, Problem, ScrubOptions, ScrubReport};
use crate::index::{self, Listing};
use crate::objects::{self, Name, failure};
use crate::push::Push;
use crate::{Digest, Recipe, Store};

/// Recipes looked at before the next are read.
const RECIPES_AT_ONCE: usize = 64;

impl Store {
    /// Looks at all recipes and repairs what can be. `true` when something was written, which then has to be read.
    pub(super) async fn scrub_recipes(
        &self,
        options: &ScrubOptions,
        listing: &Listing,
        report: &mut ScrubReport,
    ) -> Result<bool> {
        let objects = self.objects.as_ref();
        let listed = objects::list(objects, objects::files()).await?;
        // In this order: chunks are stored before the recipe that names them, so those of a listed one are known now.
        self.refresh().await?;
        let names: Vec<(Digest, Name)> =
            listed.iter().filter_map(|meta| objects::recipe_of(&meta.location)).collect();
        report.files = names.iter().map(|(file, _)| file).collect::<BTreeSet<_>>().len() as u64;
        report.files_damaged.clear();
        let here: HashSet<Digest> =
            listing.contents.values().flat_map(|contents| contents.entries.iter().map(|e| e.id)).collect();
        let mut rotten: BTreeMap<Digest, Vec<Name>> = BTreeMap::new();
        let mut readable = BTreeSet::new();
        let mut missing: BTreeMap<Digest, BTreeSet<(Digest, Name)>> = BTreeMap::new();
        for names in names.chunks(RECIPES_AT_ONCE) {
            for (file, name, recipe) in index::read_recipes(objects, names.to_vec()).await? {
                let Ok(recipe) = recipe else {
                    rotten.entry(file).or_default().push(name);
                    continue;
                };
                readable.insert(file);
                for chunk in recipe.chunks.iter().filter(|chunk| !here.contains(&chunk.id)) {
                    // A collection may have moved it since packs were listed.
                    if self.find(&chunk.id).is_none() {
                        missing.entry(chunk.id).or_default().insert((file, name));
                    }
                }
            }
        }
        let missing = self.lost(missing).await?;
        if rotten.is_empty() && missing.is_empty() {
            return Ok(false);
        }
        let mut push = self.push().await?;
        let recipes = self.mend_recipes(rotten, &readable, &mut push, options, report).await?;
        let chunks = self.mend_chunks(missing, &mut push, options, report).await?;
        push.finish().await?;
        for (file, name) in recipes.gone {
            objects::remove(objects, &objects::recipe(file, name)).await?;
        }
        Ok(recipes.wrote || chunks)
    }

    /// Of chunks that were not found the lost ones, with the files that need them. A collection removes recipes before packs, so
    /// a recipe that is still there once its chunk is gone was not collected with it.
    async fn lost(
        &self,
        missing: BTreeMap<Digest, BTreeSet<(Digest, Name)>>,
    ) -> Result<BTreeMap<Digest, BTreeSet<Digest>>> {
        let needing: BTreeSet<(Digest, Name)> = missing.values().flatten().copied().collect();
        let mut there = BTreeSet::new();
        for (file, name) in needing {
            match self.objects.head(&objects::recipe(file, name)).await {
                Ok(_) => drop(there.insert((file, name))),
                Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(failure("look at a recipe", e)),
            }
        }
        let mut lost: BTreeMap<Digest, BTreeSet<Digest>> = BTreeMap::new();
        for (chunk, recipes) in missing {
            let files: BTreeSet<Digest> = recipes.intersection(&there).map(|(file, _)| *file).collect();
            if !files.is_empty() {
                lost.insert(chunk, files);
            }
        }
        Ok(lost)
    }

    async fn mend_recipes(
        &self,
        rotten: BTreeMap<Digest, Vec<Name>>,
        readable: &BTreeSet<Digest>,
        push: &mut Push,
        options: &ScrubOptions,
        report: &mut ScrubReport,
    ) -> Result<Mended> {
        let mut mended = Mended::default();
        for (file, names) in rotten {
            let mut repaired = readable.contains(&file);
            if !repaired && let Some(recipe) = whole_recipe(file, options).await? {
                for id in push.lacking(&recipe) {
                    if let Some(chunk) = whole_copy(id, options).await? {
                        add(push, id, chunk).await?;
                    }
                }
                repaired = push.put_recipe(recipe).await.is_ok();
                mended.wrote |= repaired;
            }
            if !repaired && report.files_damaged.len() < NAMED_MAX {
                report.files_damaged.insert(file);
            }
            for name in names {
                let object = objects::recipe(file, name).to_string();
                // One that stays was reported by the last pass of this round as well.
                if repaired || !report.problems.iter().any(|known| known.object == object) {
                    let problem = "the recipe rotted".to_owned();
                    report.add(Problem { object, problem, chunk: None, repaired });
                }
                if repaired {
                    mended.gone.push((file, name));
                }
            }
        }
        Ok(mended)
    }

    async fn mend_chunks(
        &self,
        missing: BTreeMap<Digest, BTreeSet<Digest>>,
        push: &mut Push,
        options: &ScrubOptions,
        report: &mut ScrubReport,
    ) -> Result<bool> {
        let mut wrote = false;
        for (id, files) in missing {
            let copy = whole_copy(id, options).await?;
            let repaired = copy.is_some();
            if let Some(copy) = copy {
                add(push, id, copy).await?;
                wrote = true;
            } else {
                report.files_damaged.extend(files.iter().take(NAMED_MAX));
            }
            // One that rotted in this round was reported with its pack.
            if repaired || !report.problems.iter().any(|known| known.chunk == Some(id)) {
                let object = files.first().map_or(String::new(), |file| objects::file(*file).to_string());
                let problem = "a chunk of it is missing".to_owned();
                report.add(Problem { object, problem, chunk: Some(id), repaired });
            }
        }
        Ok(wrote)
    }
}

#[derive(Debug, Default)]
struct Mended {
    wrote: bool,
    /// Rotten recipes of which there is a whole copy now.
    gone: Vec<(Digest, Name)>,
}

async fn whole_recipe(file: Digest, options: &ScrubOptions) -> Result<Option<Recipe>> {
    let Some(replica) = &options.replica else { return Ok(None) };
    let recipe = replica.recipe(file).await.map_err(|e| e.while_doing("read the other store"))?;
    Ok(recipe.filter(|recipe| recipe.digest == file))
}
