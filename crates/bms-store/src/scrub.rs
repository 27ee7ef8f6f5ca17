//! Reading everything, to find what rotted before it is needed, and repairing it from where it is still whole.
//!
//! A scrub never calls healthy what it did not read: it goes on until every pack that is there was read in this round, and a
//! report of a round that ended early says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bms_wire::{Code, Error, Result};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::condemned::{Condemned, Sentence};
use crate::index::{self, Listing};
use crate::objects::{self, Name};
use crate::recipe::{seal, unseal};
use crate::{Digest, Recipe, Store};

mod packs;
mod recipes;
mod repair;

/// Problems and files named in a report; counts go on.
const NAMED_MAX: usize = 1000;
/// Bytes of the state that are read.
const STATE_BYTES_MAX: u64 = 256 << 20;
/// The state is written after this many bytes.
const STATE_EVERY_BYTES: u64 = 1 << 30;

/// Where whole copies may be: another store, or whatever else has chunks.
pub trait Replica: Send + Sync + std::fmt::Debug {
    /// A chunk, verified or not; `None` when there is none.
    fn chunk(&self, id: Digest) -> BoxFuture<'_, Result<Option<Bytes>>>;
    /// A file's recipe; `None` when there is none.
    fn recipe(&self, file: Digest) -> BoxFuture<'_, Result<Option<Recipe>>>;
}

impl Replica for Store {
    fn chunk(&self, id: Digest) -> BoxFuture<'_, Result<Option<Bytes>>> {
        Box::pin(async move {
            match Store::chunk(self, id).await {
                Ok(chunk) => Ok(Some(chunk)),
                // It rotted there as well, or is not there.
                Err(error) if error.code() == Code::Tampered => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    fn recipe(&self, file: Digest) -> BoxFuture<'_, Result<Option<Recipe>>> {
        Box::pin(async move {
            match Store::recipe(self, file).await {
                Ok(recipe) => Ok(Some(recipe)),
                Err(error) if matches!(error.code(), Code::NotFound | Code::Tampered) => Ok(None),
                Err(error) => Err(error),
            }
        })
    }
}

/// How a store is scrubbed.
#[derive(Clone, Debug, Default)]
pub struct ScrubOptions {
    /// Bytes read in a second at most.
    pub bytes_per_second: Option<u64>,
    /// The round ends for now after this many bytes; the next scrub goes on from there.
    pub bytes_max: Option<u64>,
    /// Begin a new round even if the last one did not end.
    pub afresh: bool,
    /// Where to repair from.
    pub replica: Option<Arc<dyn Replica>>,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The object in the store.
    pub object: String,
    /// What is wrong.
    pub problem: String,
    /// The chunk, when it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk: Option<Digest>,
    /// Whether it is whole again.
    pub repaired: bool,
}

/// What a round found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubReport {
    /// Every byte was read and is what was written, or was repaired.
    pub healthy: bool,
    /// The round is over: everything that is there was read.
    pub complete: bool,
    /// Packs that are there, without those that are about to be removed.
    pub packs: u64,
    /// Of those, the ones read in this round.
    pub packs_read: u64,
    /// Bytes of packs that are there.
    pub bytes: u64,
    /// Bytes of packs read in this round.
    pub bytes_read: u64,
    /// Chunks verified.
    pub chunks_read: u64,
    /// Files that are there.
    pub files: u64,
    /// Problems found.
    pub problems_found: u64,
    /// Problems repaired.
    pub problems_repaired: u64,
    /// The problems, the first thousand.
    pub problems: Vec<Problem>,
    /// Files that cannot be read any more, the first thousand.
    pub files_damaged: BTreeSet<Digest>,
    /// Milliseconds since 1970, by the store's clock, at which the round began.
    pub began_ms: i64,
}

impl ScrubReport {
    fn add(&mut self, problem: Problem) {
        self.problems_found += 1;
        self.problems_repaired += u64::from(problem.repaired);
        if self.problems.len() < NAMED_MAX {
            self.problems.push(problem);
        }
    }
}

/// A round, as far as it got.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Round {
    report: ScrubReport,
    /// Packs read in this round, with their bytes.
    read: BTreeMap<Name, u64>,
}

impl Store {
    /// Reads all of the store, or goes on with the round that was not ended, and repairs what it can.
    ///
    /// # Errors
    /// Errors of the store: then what was read until a short while ago need not be read again. Rot is no error.
    pub async fn scrub(&self, options: &ScrubOptions) -> Result<ScrubReport> {
        let mut round = match options.afresh {
            true => None,
            false => self.interrupted().await?,
        }
        .unwrap_or_default();
        if round.report.began_ms == 0 {
            round.report.began_ms = objects::now_ms(self.objects.as_ref()).await?;
        }
        if crate::store::mend_format(self.objects.as_ref()).await? {
            let object = objects::format().to_string();
            round.report.add(Problem { object, problem: "rotted".into(), chunk: None, repaired: true });
        }
        let mut pace = Pace::new(options);
        loop {
            let condemned = Condemned::read(self.objects.as_ref()).await?;
            self.drop_rotten_notes(&condemned, &mut round.report).await?;
            let listing = self.listing(&condemned, &mut round.report).await?;
            let unread: Vec<Name> =
                listing.metas.keys().filter(|name| !round.read.contains_key(*name)).copied().collect();
            if unread.is_empty() {
                match self.end(&mut round, options, &listing).await? {
                    true => return Ok(round.report),
                    // What was written to repair is read as well.
                    false => continue,
                }
            }
            for name in unread {
                if pace.is_over() {
                    sum_up(&mut round, &listing);
                    self.note(&round).await?;
                    return Ok(round.report);
                }
                let damage = self.read_pack(name, &listing, &mut pace, &mut round).await?;
                if let Some(damage) = damage {
                    self.repair_pack(damage, &listing, options, &mut round.report).await?;
                }
                if pace.is_due() {
                    self.note(&round).await?;
                }
            }
        }
    }

    /// Reads the packs that hold chunks of one file, and repairs them: what to do when the file could not be read.
    ///
    /// # Errors
    /// As [`Store::scrub`].
    pub async fn mend(&self, file: Digest, options: &ScrubOptions) -> Result<ScrubReport> {
        let mut round = Round::default();
        let condemned = Condemned::read(self.objects.as_ref()).await?;
        let listing = self.listing(&condemned, &mut round.report).await?;
        let recipe = match self.recipe(file).await {
            Ok(recipe) => recipe,
            Err(error) if matches!(error.code(), Code::Tampered | Code::NotFound) => return Ok(round.report),
            Err(error) => return Err(error),
        };
        let places = recipe.chunks.iter().filter_map(|chunk| self.find(&chunk.id));
        let packs: BTreeSet<Name> = places.map(|place| place.pack).collect();
        let mut pace = Pace::new(options);
        // Of a pack that was read from in vain and whose list cannot be read either, nothing can be saved.
        let lost = |name: &&Name| listing.metas.contains_key(*name) && !listing.contents.contains_key(*name);
        let lost = packs.iter().filter(lost).map(|name| (*name, BTreeSet::new())).collect();
        let sentence = Sentence { packs: lost, ..Sentence::default() };
        if !sentence.is_empty() {
            sentence.pronounce(self.objects.as_ref()).await?;
            self.refresh().await?;
        }
        for name in packs {
            if let Some(damage) = self.read_pack(name, &listing, &mut pace, &mut round).await? {
                self.repair_pack(damage, &listing, options, &mut round.report).await?;
            }
        }
        sum_up(&mut round, &listing);
        Ok(round.report)
    }

    /// All packs were read: looks whether every file has its chunks. `false` when something had to be written.
    async fn end(&self, round: &mut Round, options: &ScrubOptions, listing: &Listing) -> Result<bool> {
        if self.scrub_recipes(options, listing, &mut round.report).await? {
            return Ok(false);
        }
        if round.report.files_damaged.is_empty() {
            self.give_up_unreadable(listing, &mut round.report).await?;
        }
        sum_up(round, listing);
        round.report.complete = true;
        round.report.healthy = round.report.problems_found == round.report.problems_repaired
            && round.report.files_damaged.is_empty();
        self.note(round).await?;
        self.refresh().await?;
        Ok(true)
    }

    /// Packs of which nobody knows what they hold may go once every file has all of its chunks elsewhere.
    async fn give_up_unreadable(&self, listing: &Listing, report: &mut ScrubReport) -> Result<()> {
        if listing.unreadable.is_empty() {
            return Ok(());
        }
        let mut sentence = Sentence::default();
        sentence.packs.extend(listing.unreadable.iter().map(|name| (*name, BTreeSet::new())));
        sentence.pronounce(self.objects.as_ref()).await?;
        for object in listing.unreadable.iter().map(|name| objects::pack(*name).to_string()) {
            let mut known =
                report.problems.iter_mut().filter(|known| known.object == object && !known.repaired);
            if let Some(problem) = known.next() {
                problem.repaired = true;
                report.problems_repaired += 1;
            }
        }
        Ok(())
    }

    /// The packs to be read, with what they hold.
    async fn listing(&self, condemned: &Condemned, report: &mut ScrubReport) -> Result<Listing> {
        let objects = self.objects.as_ref();
        let mut packs = objects::list(objects, objects::packs()).await?;
        packs.retain(|meta| {
            objects::name_of(&meta.location).is_some_and(|name| !condemned.packs.contains_key(&name))
        });
        let mut listing = index::read_lists(objects, packs).await?;
        for name in std::mem::take(&mut listing.rotten_indexes) {
            // The packs themselves say what they hold.
            objects::remove(objects, &objects::index(name)).await?;
            let object = objects::index(name).to_string();
            report.add(Problem { object, problem: "rotted".into(), chunk: None, repaired: true });
        }
        Ok(listing)
    }

    /// A list of garbage that rotted condemns nothing: it goes, and the next collection finds the garbage again.
    async fn drop_rotten_notes(&self, condemned: &Condemned, report: &mut ScrubReport) -> Result<()> {
        for name in &condemned.rotten {
            objects::remove(self.objects.as_ref(), &objects::condemnation(*name)).await?;
            let object = objects::condemnation(*name).to_string();
            report.add(Problem { object, problem: "rotted".into(), chunk: None, repaired: true });
        }
        Ok(())
    }

    /// The last round, when it did not end.
    async fn interrupted(&self) -> Result<Option<Round>> {
        let bytes = objects::read(self.objects.as_ref(), &objects::scrub(), STATE_BYTES_MAX).await?;
        let state = bytes.as_deref().and_then(unseal);
        let round: Option<Round> = state.and_then(|json| serde_json::from_slice(json).ok());
        Ok(round.filter(|round| !round.report.complete))
    }

    async fn note(&self, round: &Round) -> Result<()> {
        let json = serde_json::to_vec(round)
            .map_err(|e| Error::new(Code::Internal, "the state of a scrub cannot be written").because(e))?;
        objects::write(self.objects.as_ref(), &objects::scrub(), seal(json)).await
    }

    /// How the last scrub ended, or how far it got; `None` when there was none.
    ///
    /// # Errors
    /// Of the store.
    pub async fn last_scrub(&self) -> Result<Option<ScrubReport>> {
        let bytes = objects::read(self.objects.as_ref(), &objects::scrub(), STATE_BYTES_MAX).await?;
        let state = bytes.as_deref().and_then(unseal);
        Ok(state.and_then(|json| serde_json::from_slice::<Round>(json).ok()).map(|round| round.report))
    }
}

/// Counts what is there and what of it was read.
fn sum_up(round: &mut Round, listing: &Listing) {
    round.report.packs = listing.metas.len() as u64;
    round.report.bytes = listing.metas.values().map(|meta| meta.size).sum();
    let read = listing.metas.keys().filter_map(|name| round.read.get(name));
    (round.report.packs_read, round.report.bytes_read) =
        read.fold((0, 0), |(packs, bytes), size| (packs + 1, bytes + size));
}

/// Keeps to the limits.
#[derive(Debug)]
struct Pace {
    begin: Instant,
    per_second: Option<u64>,
    left: Option<u64>,
    bytes: u64,
    noted: u64,
}

impl Pace {
    fn new(options: &ScrubOptions) -> Pace {
        Pace {
            begin: Instant::now(),
            per_second: options.bytes_per_second.filter(|rate| *rate != 0),
            left: options.bytes_max,
            bytes: 0,
            noted: 0,
        }
    }

    /// After bytes were read: waits as long as the limit asks for.
    async fn took(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.left = self.left.map(|left| left.saturating_sub(bytes));
        if let Some(rate) = self.per_second {
            let due = Duration::from_secs_f64(self.bytes as f64 / rate as f64);
            tokio::time::sleep(due.saturating_sub(self.begin.elapsed())).await;
        }
    }

    fn is_over(&self) -> bool {
        self.left == Some(0)
    }

    /// Whether it is time to note how far it got.
    fn is_due(&mut self) -> bool {
        let due = STATE_EVERY_BYTES <= self.bytes - self.noted;
        if due {
            self.noted = self.bytes;
        }
        due
    }
}
