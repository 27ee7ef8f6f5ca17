//! Collectors of garbage beside those who push, in many orders.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bms_store::{Digest, GcOptions, Roots, ScrubOptions, Store};
use bms_wire::{Code, Result};
use futures_util::future::BoxFuture;
use object_store::ObjectStore;

use crate::faulty::Gated;
use crate::material::{get, memory, noise, put};
use crate::paced::{Paced, Scheduler};

/// What a registry would say: files that were published. Its lock is the registry's write lock.
#[derive(Clone, Debug, Default)]
struct Published(Arc<Mutex<BTreeSet<Digest>>>);

impl Roots for Published {
    fn live(&self) -> BoxFuture<'_, Result<BTreeSet<Digest>>> {
        Box::pin(async { Ok(self.0.lock().unwrap().clone()) })
    }
}

const NOW: GcOptions =
    GcOptions { grace: Duration::ZERO, wait: Duration::from_millis(16), live_percent_min: 50 };

/// Pushes and publishes as a registry does: what is published is looked at under a lease.
async fn publish(store: &Store, bytes: &[u8], published: &Published) -> Result<()> {
    let digest = Digest::of(bytes);
    loop {
        put(store, bytes).await?;
        let lease = store.lease().await?;
        // Collected since: nobody had said that it is needed.
        if store.complete(digest).await?.is_some() {
            lease.check().await?;
            published.0.lock().unwrap().insert(digest);
            lease.end().await;
            return Ok(());
        }
        lease.end().await;
    }
}

async fn collect(store: &Store, published: &Published) -> Result<()> {
    match store.gc(published, &NOW).await {
        Err(error) if error.code() == Code::Conflict => Ok(()),
        collected => collected.map(drop),
    }
}

/// A store in which half of what will be pushed lies already, needed by nobody any more.
async fn before(seed: u64) -> (Arc<dyn ObjectStore>, Vec<u8>, Vec<u8>, Vec<u8>) {
    let objects = memory();
    let store = Store::on(Arc::clone(&objects)).await.unwrap();
    let garbage = noise(seed, 60_000);
    let published = noise(seed + 1_000_000, 40_000);
    put(&store, &[garbage.clone(), published.clone()].concat()).await.unwrap();
    put(&store, &garbage).await.unwrap();
    put(&store, &published).await.unwrap();
    let new = [garbage.clone(), noise(seed + 2_000_000, 20_000)].concat();
    (objects, published, garbage, new)
}

/// Scrubs, and believes nothing damaged: nothing here ever is.
async fn scrub(store: &Store) -> Result<()> {
    let report = store.scrub(&ScrubOptions { afresh: true, ..ScrubOptions::default() }).await?;
    assert!(report.healthy && report.problems_found == 0, "{report:?}");
    Ok(())
}

/// Two that push, beside them those who collect and those who scrub.
async fn check(seed: u64, collectors: usize, scrubbers: usize) -> u64 {
    let (objects, old, garbage, new) = before(seed).await;
    tokio::time::sleep(Duration::from_millis(2)).await;
    let published = Published::default();
    published.0.lock().unwrap().insert(Digest::of(&old));
    let scheduler = Arc::new(Scheduler::default());
    let mut tasks = tokio::task::JoinSet::new();
    for process in 0..2 + collectors + scrubbers {
        scheduler.begin(process);
        let gate = Arc::new(Paced { scheduler: Arc::clone(&scheduler), process });
        let gated: Arc<dyn ObjectStore> = Arc::new(Gated { inner: Arc::clone(&objects), gate });
        let (published, scheduler) = (published.clone(), Arc::clone(&scheduler));
        // One pushes a file that is like the garbage, another the very garbage.
        let bytes = if process == 0 { new.clone() } else { garbage.clone() };
        tasks.spawn(async move {
            let done = async {
                let store = Store::on(gated).await?;
                match process {
                    0 | 1 => publish(&store, &bytes, &published).await,
                    _ if process < 2 + collectors => collect(&store, &published).await,
                    _ => scrub(&store).await,
                }
            };
            let done = done.await;
            scheduler.end(process);
            done
        });
    }
    let turns = scheduler.run(seed).await;
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    let store = Store::on(Arc::clone(&objects)).await.unwrap();
    for round in 0..2 {
        for bytes in [&old, &garbage, &new] {
            let read = get(&store, Digest::of(bytes)).await;
            let read = read.unwrap_or_else(|error| panic!("seed {seed}, round {round}: {error}"));
            assert!(read == *bytes);
        }
        let report = store.gc(&published, &NOW).await.unwrap();
        assert!(report.complete && report.files_missing == 0, "seed {seed}: {report:?}");
        let scrub = store.scrub(&ScrubOptions { afresh: true, ..ScrubOptions::default() }).await.unwrap();
        assert!(scrub.healthy, "seed {seed}: {scrub:?}");
    }
    turns
}

fn many(seeds: std::ops::Range<u64>, collectors: usize, scrubbers: usize) {
    crate::material::runtime().block_on(async {
        let mut turns = 0;
        for seed in seeds {
            turns += check(seed, collectors, scrubbers).await;
        }
        println!("{turns} operations");
    });
}

#[test]
fn nothing_published_is_collected_in_any_order() {
    many(0..300, 1, 0);
}

#[test]
fn nor_by_two_collectors_at_once() {
    many(1000..1150, 2, 0);
}

#[test]
fn a_scrub_beside_them_finds_nothing_damaged() {
    many(2000..2300, 1, 1);
}
