//! A store's handle.

use std::sync::{Arc, PoisonError, RwLock};

use bms_wire::{Code, Error, Result};
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use tokio::sync::Mutex;

use crate::condemned::Condemned;
use crate::index::{self, Index, Place};
use crate::lease::Lease;
use crate::objects::{self, Name, failure};
use crate::recipe::{RECIPE_BYTES_MAX, seal, unseal};
use crate::{Digest, Location, Recipe};

/// What the object `format` says, before its digest.
const FORMAT: &[u8] = b"bms-store 1: chunks in packs, see the program's documentation\n";

/// A store of files as chunks. Cheap to clone; all clones are the same store. Any number of processes may use one place.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) index: Arc<RwLock<Index>>,
    /// Held while the index is brought up to date, so that it never goes back to an older view.
    refreshing: Arc<Mutex<()>>,
}

impl Store {
    /// Opens the store at a place, making it when there is none.
    ///
    /// # Errors
    /// [`Code::Conflict`] when another version of the program made it; errors of the place.
    pub async fn open(location: &Location) -> Result<Store> {
        Store::on(location.open().await?).await
    }

    /// Opens the store on these objects.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn on(objects: Arc<dyn ObjectStore>) -> Result<Store> {
        check_format(objects.as_ref()).await?;
        let store = Store { objects, index: Arc::default(), refreshing: Arc::default() };
        store.refresh().await?;
        Ok(store)
    }

    /// The objects it lies in.
    pub fn objects(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.objects)
    }

    /// Learns what other processes stored or removed.
    pub(crate) async fn refresh(&self) -> Result<Condemned> {
        let _turn = self.refreshing.lock().await;
        // In this order: a pack that is listed now and was not condemned before is one to rely on under a lease.
        let condemned = Condemned::read(self.objects.as_ref()).await?;
        index::refresh(self.objects.as_ref(), &self.index, &condemned).await?;
        Ok(condemned)
    }

    /// Takes a lease and learns what is there: until it is released, none of that goes.
    ///
    /// # Errors
    /// Of the store.
    pub async fn lease(&self) -> Result<Lease> {
        let lease = Lease::take(&self.objects).await?;
        self.refresh().await?;
        Ok(lease)
    }

    pub(crate) fn find(&self, chunk: &Digest) -> Option<Place> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).find(chunk)
    }

    /// Where a chunk lies, asking the store when this process does not know.
    pub(crate) async fn locate(&self, chunk: &Digest) -> Result<Place> {
        if let Some(place) = self.find(chunk) {
            return Ok(place);
        }
        self.refresh().await?;
        self.find(chunk).ok_or_else(|| {
            Error::new(Code::Tampered, format!("the store does not hold the chunk `{chunk}` any more"))
                .hint("`bms scrub` tells which files are affected and repairs them from another store.")
        })
    }

    /// Which of these chunks a new file could not rely on: those that have to be sent.
    pub fn missing(&self, chunks: &[Digest]) -> Vec<Digest> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        chunks.iter().filter(|chunk| index.holds(chunk).is_none()).copied().collect()
    }

    /// Whether the file is here as a whole: it has a recipe, and every chunk of that is known.
    ///
    /// # Errors
    /// Of the store.
    pub async fn has(&self, file: Digest) -> Result<bool> {
        Ok(self.complete(file).await?.is_some())
    }

    /// The recipe of a file that is here as a whole and not about to be removed.
    ///
    /// # Errors
    /// Of the store.
    pub async fn complete(&self, file: Digest) -> Result<Option<Recipe>> {
        let mut known = self.recipes(file).await?;
        if known.is_empty() {
            return Ok(None);
        }
        let condemned = Condemned::read(self.objects.as_ref()).await?;
        known.retain(|(name, _)| !condemned.recipes.contains(&(file, *name)));
        for fresh in [false, true] {
            if fresh {
                self.refresh().await?;
            }
            for (_, recipe) in &known {
                let ids: Vec<Digest> = recipe.chunks.iter().map(|chunk| chunk.id).collect();
                if self.missing(&ids).is_empty() {
                    return Ok(Some(recipe.clone()));
                }
            }
        }
        Ok(None)
    }

    /// The recipe of a file.
    ///
    /// # Errors
    /// [`Code::NotFound`]; [`Code::Tampered`] when it rotted.
    pub async fn recipe(&self, file: Digest) -> Result<Recipe> {
        let copies = self.copies(file).await?;
        let mut error = None;
        for name in &copies {
            match self.read_recipe(file, *name).await {
                Ok(Some(recipe)) => return Ok(recipe),
                Ok(None) => {}
                Err(e) => error = Some(e),
            }
        }
        Err(error.unwrap_or_else(|| {
            Error::new(Code::NotFound, format!("the store holds no file `{file}`")).hint("Upload it first.")
        }))
    }

    /// Every readable recipe of a file.
    async fn recipes(&self, file: Digest) -> Result<Vec<(Name, Recipe)>> {
        let mut recipes = Vec::new();
        for name in self.copies(file).await? {
            match self.read_recipe(file, name).await {
                Ok(recipe) => recipes.extend(recipe.map(|recipe| (name, recipe))),
                Err(error) if error.code() == Code::Tampered => {
                    tracing::warn!(%file, %error, "a recipe in the store rotted");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(recipes)
    }

    async fn copies(&self, file: Digest) -> Result<Vec<Name>> {
        let listed = objects::list(self.objects.as_ref(), objects::file(file)).await?;
        Ok(listed.iter().filter_map(|meta| objects::name_of(&meta.location)).collect())
    }

    pub(crate) async fn read_recipe(&self, file: Digest, name: Name) -> Result<Option<Recipe>> {
        let path = objects::recipe(file, name);
        let Some(bytes) = objects::read(self.objects.as_ref(), &path, RECIPE_BYTES_MAX).await? else {
            return Ok(None);
        };
        let recipe = Recipe::read(&bytes)?;
        match recipe.digest == file {
            true => Ok(Some(recipe)),
            false => Err(crate::encode::misnamed(file)),
        }
    }

    /// Forgets a file; one that is not here is fine. Its chunks stay until garbage is collected.
    ///
    /// The caller makes sure that nobody needs it, and that nobody begins to while this is under way.
    ///
    /// # Errors
    /// Of the store.
    pub async fn remove(&self, file: Digest) -> Result<()> {
        for name in self.copies(file).await? {
            objects::remove(self.objects.as_ref(), &objects::recipe(file, name)).await?;
        }
        Ok(())
    }

    /// Every file that has a recipe.
    ///
    /// # Errors
    /// Of the store.
    pub async fn files(&self) -> Result<std::collections::BTreeSet<Digest>> {
        let listed = objects::list(self.objects.as_ref(), objects::files()).await?;
        Ok(listed.iter().filter_map(|meta| Some(objects::recipe_of(&meta.location)?.0)).collect())
    }

    /// Number of different chunks, and bytes of all packs.
    pub fn totals(&self) -> (u64, u64) {
        self.index.read().unwrap_or_else(PoisonError::into_inner).totals()
    }
}

/// Makes sure that this is a store of the format this program knows, marking one that is empty.
async fn check_format(objects: &dyn ObjectStore) -> Result<()> {
    let Some(found) = objects::read(objects, &objects::format(), 4096).await? else {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        return match objects.put_opts(&objects::format(), seal(FORMAT.to_vec()).into(), options).await {
            // Another process opened it at the same time.
            Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
            Err(e) => Err(failure("make the store", e)),
        };
    };
    match unseal(&found) {
        Some(FORMAT) => Ok(()),
        Some(_) => Err(Error::new(Code::Conflict, "the store has another format than this program knows")
            .hint("Use the version of the program that made it, or another place.")),
        None => {
            tracing::warn!("the object `format` of the store rotted; `bms scrub` writes it anew");
            Ok(())
        }
    }
}

/// Writes the object `format` anew when it rotted; whether it had.
pub(crate) async fn mend_format(objects: &dyn ObjectStore) -> Result<bool> {
    let found = objects.get(&objects::format()).await;
    if let Ok(found) = found
        && found.bytes().await.is_ok_and(|bytes| unseal(&bytes) == Some(FORMAT))
    {
        return Ok(false);
    }
    objects::write(objects, &objects::format(), seal(FORMAT.to_vec())).await?;
    Ok(true)
}
