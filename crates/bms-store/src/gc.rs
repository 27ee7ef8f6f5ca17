//! Collecting garbage while others push: first it is said what goes, later, when everybody who had not heard of it is done, what
//! is still not needed goes. Each step can be the last before a crash; the next collection goes on from there.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

use bms_wire::{Code, Error, Result};
use futures_util::future::BoxFuture;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde::Serialize;

use self::mark::Marked;
use crate::condemned::{Condemned, Sentence};
use crate::index::{self, Listing};
use crate::lease::{self, LEASE_MS};
use crate::objects::{self, Name, failure};
use crate::{Digest, Store};

mod mark;
pub(crate) mod repack;

/// How long a collector waits between two looks at leases.
const PAUSE: Duration = Duration::from_millis(200);
/// With more index objects than this, they become one.
const INDEXES_MAX: usize = 8;
/// With more packs than this that no index object lists, an index object is written.
const UNLISTED_MAX: usize = 32;

/// Which files are needed. Asked again before anything is removed, so it has to answer for that moment: in a registry,
/// under its write lock.
pub trait Roots: Send + Sync {
    /// The files that have to stay.
    fn live(&self) -> BoxFuture<'_, Result<BTreeSet<Digest>>>;
}

impl Roots for BTreeSet<Digest> {
    fn live(&self) -> BoxFuture<'_, Result<BTreeSet<Digest>>> {
        Box::pin(async { Ok(self.clone()) })
    }
}

/// What is collected, and when.
#[derive(Clone, Copy, Debug)]
pub struct GcOptions {
    /// Files and packs younger than this stay, needed or not: their push may be about to be published, or to be resumed.
    pub grace: Duration,
    /// How long to wait for those who push right now. What is not removed then is removed by the next collection.
    pub wait: Duration,
    /// Packs of which a smaller share than this is needed, in percent, are written anew without the rest.
    pub live_percent_min: u64,
}

impl Default for GcOptions {
    fn default() -> Self {
        let grace = Duration::from_secs(24 * 60 * 60);
        GcOptions { grace, wait: Duration::from_secs(60), live_percent_min: 50 }
    }
}

/// What a collection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GcReport {
    /// Whether everything that was found to go is gone; when not, somebody was pushing all the time.
    pub complete: bool,
    /// Files that are needed or young.
    pub files_kept: u64,
    /// Recipes that went.
    pub recipes_removed: u64,
    /// Packs before.
    pub packs_before: u64,
    /// Packs that went, those that were written anew among them.
    pub packs_removed: u64,
    /// Packs that were written anew without what nobody needs.
    pub packs_repacked: u64,
    /// Bytes of all packs before.
    pub bytes_before: u64,
    /// Bytes of the packs that went.
    pub bytes_removed: u64,
    /// Bytes of packs written anew.
    pub bytes_written: u64,
    /// Needed files without a recipe: they are not in the store at all.
    pub files_missing: u64,
}

impl Store {
    /// Collects garbage: whatever no file of `roots` needs, and nobody pushed lately.
    ///
    /// # Errors
    /// [`Code::Conflict`] when another process is collecting; [`Code::Tampered`] when the recipe of a needed file rotted, so that
    /// it is not known what it needs; errors of the store. Nothing that is needed is gone then.
    pub async fn gc(&self, roots: &dyn Roots, options: &GcOptions) -> Result<GcReport> {
        take_lock(self.objects.as_ref()).await?;
        let collected = self.collect(roots, options).await;
        // A lock that stays is taken over when it is old.
        objects::remove(self.objects.as_ref(), &objects::lock()).await?;
        collected
    }

    async fn collect(&self, roots: &dyn Roots, options: &GcOptions) -> Result<GcReport> {
        let mut report = GcReport::default();
        // What an earlier collection or a scrub said is to go.
        if !self.execute(roots, options, &mut report).await? {
            return Ok(report);
        }
        self.condemn(roots, options, &mut report).await?;
        report.complete = self.execute(roots, options, &mut report).await?;
        self.refresh().await?;
        Ok(report)
    }

    /// Finds what is to go and says so.
    async fn condemn(&self, roots: &dyn Roots, options: &GcOptions, report: &mut GcReport) -> Result<()> {
        let objects = self.objects.as_ref();
        let condemned = Condemned::read(objects).await?;
        let now_ms = objects::now_ms(objects).await?;
        let young_ms = now_ms - i64::try_from(options.grace.as_millis()).unwrap_or(i64::MAX / 2);
        let live = roots.live().await?;
        let marked = Marked::files(objects, &live, &condemned, Some(young_ms)).await?;
        report.files_kept = marked.kept;
        report.files_missing = marked.missing;
        let packs = objects::list(objects, objects::packs()).await?;
        let mut listing = index::read_lists(objects, packs).await?;
        listing.contents.retain(|name, _| !condemned.packs.contains_key(name));
        report.packs_before = listing.metas.len() as u64;
        report.bytes_before = listing.metas.values().map(|meta| meta.size).sum();
        let (dead, sparse) = mark::packs(&listing, &marked.chunks, young_ms, options.live_percent_min);
        let mut sentence = Sentence { recipes: marked.dead, ..Sentence::default() };
        sentence.packs.extend(dead.into_iter().map(|name| (name, BTreeSet::new())));
        let (repacked, written) = self.repack(&listing, &sparse, &marked.chunks).await?;
        report.packs_repacked = repacked.len() as u64;
        report.bytes_written = written;
        sentence.packs.extend(repacked.into_iter().map(|name| (name, BTreeSet::new())));
        if !sentence.is_empty() {
            sentence.pronounce(objects).await?;
        }
        Ok(())
    }

    /// Removes what is condemned and still not needed, once nobody pushes who may not know. `false` when somebody does.
    async fn execute(&self, roots: &dyn Roots, options: &GcOptions, report: &mut GcReport) -> Result<bool> {
        let objects = self.objects.as_ref();
        let doomed = Condemned::read(objects).await?;
        if doomed.sentences.is_empty() && doomed.rotten.is_empty() {
            self.tidy_indexes().await?;
            return Ok(true);
        }
        // Those who took a lease after this have read the sentences.
        if !wait_for_leases(objects, options.wait).await? {
            return Ok(false);
        }
        // Marked again: those who held a lease may have made files of what was condemned.
        let condemned = Condemned::read(objects).await?;
        let live = roots.live().await?;
        let marked = Marked::files(objects, &live, &condemned, None).await?;
        let packs = objects::list(objects, objects::packs()).await?;
        let listing = index::read_lists(objects, packs).await?;
        let spared = mark::spared(&listing, &condemned, &marked.chunks);
        let mut going: Vec<object_store::path::Path> = Vec::new();
        for (file, name) in doomed.recipes.iter().filter(|recipe| !marked.spared.contains(*recipe)) {
            going.push(objects::recipe(*file, *name));
            report.recipes_removed += 1;
        }
        for name in doomed.packs.keys().filter(|name| !spared.contains(*name)) {
            going.push(objects::pack(*name));
            let size = listing.metas.get(name).map(|meta| meta.size);
            report.packs_removed += u64::from(size.is_some());
            report.bytes_removed += size.unwrap_or(0);
        }
        // In this order: recipes, packs, and last what says that they go.
        going.extend(doomed.sentences.iter().chain(&doomed.rotten).map(|name| objects::condemnation(*name)));
        for path in going {
            objects::remove(objects, &path).await?;
        }
        self.tidy_indexes().await?;
        Ok(true)
    }

    /// Makes one index object of many. They only save time, so one that goes is missed by nobody.
    async fn tidy_indexes(&self) -> Result<()> {
        let objects = self.objects.as_ref();
        let indexes = objects::list(objects, objects::indexes()).await?;
        let packs = objects::list(objects, objects::packs()).await?;
        if indexes.len() <= INDEXES_MAX && packs.len() <= UNLISTED_MAX {
            return Ok(());
        }
        let Listing { contents, indexes, .. } = index::read_lists(objects, packs).await?;
        let listed: HashSet<Name> = self.listed(&indexes).await?;
        let unlisted = contents.keys().filter(|name| !listed.contains(*name)).count();
        if indexes.len() <= INDEXES_MAX && unlisted <= UNLISTED_MAX {
            return Ok(());
        }
        let contents: Vec<_> = contents.into_values().collect();
        objects::write(objects, &objects::index(Name::new()), index::write(&contents)).await?;
        for meta in indexes {
            objects::remove(objects, &meta.location).await?;
        }
        Ok(())
    }

    async fn listed(&self, indexes: &[object_store::ObjectMeta]) -> Result<HashSet<Name>> {
        let mut listed = HashSet::new();
        for meta in indexes {
            let bytes = objects::read(self.objects.as_ref(), &meta.location, meta.size).await?;
            let packs = bytes.and_then(|bytes| index::parse(&bytes)).unwrap_or_default();
            listed.extend(packs.into_iter().map(|contents| contents.name));
        }
        Ok(listed)
    }
}

/// Waits until everybody who holds a lease now has given it back or let it run out; `false` when that takes too long.
async fn wait_for_leases(objects: &dyn ObjectStore, wait: Duration) -> Result<bool> {
    let begin = Instant::now();
    let mut holders: Option<BTreeSet<Name>> = None;
    loop {
        let held = lease::held(objects, objects::now_ms(objects).await?).await?;
        let waiting = match &mut holders {
            None => holders.insert(held.into_iter().collect()),
            // Those who came later are not waited for.
            Some(holders) => {
                holders.retain(|holder| held.contains(holder));
                holders
            }
        };
        if waiting.is_empty() {
            return Ok(true);
        }
        if wait <= begin.elapsed() {
            return Ok(false);
        }
        // Other collectors shall see that this one lives.
        objects::write(objects, &objects::lock(), Vec::new()).await?;
        tokio::time::sleep(PAUSE.min(wait / 8)).await;
    }
}

/// Keeps collectors from doing the same work twice. Two that do all the same do no harm.
async fn take_lock(objects: &dyn ObjectStore) -> Result<()> {
    for attempt in 0..2 {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match objects.put_opts(&objects::lock(), Vec::new().into(), options).await {
            Ok(_) => return Ok(()),
            Err(object_store::Error::AlreadyExists { .. }) if attempt == 0 => {}
            Err(object_store::Error::AlreadyExists { .. }) => break,
            Err(e) => return Err(failure("take the store's lock", e)),
        }
        let now_ms = objects::now_ms(objects).await?;
        match objects.head(&objects::lock()).await {
            Ok(meta) if now_ms - objects::written_ms(&meta) < LEASE_MS => break,
            Ok(_) => objects::remove(objects, &objects::lock()).await?,
            Err(object_store::Error::NotFound { .. }) => {}
            Err(e) => return Err(failure("look at the store's lock", e)),
        }
    }
    Err(Error::new(Code::Conflict, "another process is collecting garbage in this store")
        .hint("Wait until it is done; one that was killed is taken for dead after ten minutes."))
}

/// By pack what a listing says it holds.
type Packs = BTreeMap<Name, crate::pack::Contents>;
