//! A process that dies at any operation of a push, a collection or a scrub; a disk that fills up at any.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bms_store::{Digest, GcOptions, ScrubOptions, Store};
use bms_wire::{Code, Result};
use object_store::ObjectStore;

use crate::faulty::{Fate, Gate, Gated, failed};
use crate::material::{get, memory, noise, put, runtime};

/// Lets a number of operations pass. The next has the fate given, all after it fail.
#[derive(Debug)]
struct DiesAt {
    at: u64,
    count: AtomicU64,
    last: Fate,
}

#[async_trait]
impl Gate for DiesAt {
    async fn pass(&self, _writes: bool) -> (Fate, object_store::Error) {
        let number = self.count.fetch_add(1, Ordering::SeqCst);
        let fate = match number.cmp(&self.at) {
            std::cmp::Ordering::Less => Fate::Done,
            std::cmp::Ordering::Equal => self.last,
            std::cmp::Ordering::Greater => Fate::Refused,
        };
        (fate, failed("the process was killed"))
    }
}

/// Refuses to write once a number of writes were made, like a full disk, and goes on reading.
#[derive(Debug)]
struct FullAfter {
    left: AtomicU64,
}

#[async_trait]
impl Gate for FullAfter {
    async fn pass(&self, writes: bool) -> (Fate, object_store::Error) {
        let full = writes
            && self
                .left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                .is_err();
        let error = failed(std::io::Error::from(std::io::ErrorKind::StorageFull));
        (if full { Fate::Refused } else { Fate::Done }, error)
    }
}

const NOW: GcOptions = GcOptions { grace: Duration::ZERO, wait: Duration::ZERO, live_percent_min: 50 };

/// Files that were acknowledged before, one that is garbage, and one more to push.
struct Case {
    objects: Arc<dyn ObjectStore>,
    kept: Vec<Vec<u8>>,
    new: Vec<u8>,
}

impl Case {
    async fn new() -> Case {
        let objects = memory();
        let store = Store::on(Arc::clone(&objects)).await.unwrap();
        let mut garbage = noise(1, 400_000);
        garbage.extend(noise(2, 1_500_000));
        let kept = vec![noise(1, 400_000), noise(3, 700_000), b"small".to_vec()];
        put(&store, &garbage).await.unwrap();
        for bytes in &kept {
            put(&store, bytes).await.unwrap();
        }
        // More than a part of a pack, and half of it known.
        let mut new = noise(2, 1_500_000);
        new.extend(noise(4, 9 << 20));
        std::thread::sleep(Duration::from_millis(3));
        Case { objects, kept, new }
    }

    fn roots(&self, with_new: bool) -> BTreeSet<Digest> {
        let files = self.kept.iter().chain(with_new.then_some(&self.new));
        files.map(|bytes| Digest::of(bytes)).collect()
    }

    /// Everything acknowledged is there, nothing half: what is visible is whole. Then all can be done once more.
    async fn check(&self, acknowledged: bool, what: &str) {
        let store = Store::on(Arc::clone(&self.objects)).await.unwrap();
        for bytes in &self.kept {
            assert!(get(&store, Digest::of(bytes)).await.unwrap() == *bytes, "{what}");
        }
        let new = Digest::of(&self.new);
        let visible = store.has(new).await.unwrap();
        assert!(visible || !acknowledged, "{what}: an acknowledged file is gone");
        if visible {
            assert!(get(&store, new).await.unwrap() == self.new, "{what}");
        }
        put(&store, &self.new).await.unwrap();
        // What died may hold a lease or the lock. In time they run out; here they are taken away.
        for below in ["leases", "lock"] {
            let path = object_store::path::Path::from(below);
            let left: Vec<_> =
                futures_util::TryStreamExt::try_collect(self.objects.list(Some(&path))).await.unwrap();
            let left: Vec<object_store::ObjectMeta> = left;
            for meta in left {
                object_store::ObjectStoreExt::delete(&self.objects, &meta.location).await.unwrap();
            }
        }
        let _ = object_store::ObjectStoreExt::delete(&self.objects, &"lock".into()).await;
        let gc = store.gc(&self.roots(true), &NOW).await.unwrap();
        assert!(gc.complete, "{what}: {gc:?}");
        let scrub = store.scrub(&ScrubOptions { afresh: true, ..ScrubOptions::default() }).await.unwrap();
        assert!(scrub.healthy && scrub.complete && scrub.problems_found == 0, "{what}: {scrub:?}");
        let fresh = Store::on(Arc::clone(&self.objects)).await.unwrap();
        for bytes in self.kept.iter().chain([&self.new]) {
            assert!(get(&fresh, Digest::of(bytes)).await.unwrap() == *bytes, "{what}");
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Work {
    Push,
    Gc,
    Scrub,
    Fetch,
}

async fn work(work: Work, objects: Arc<dyn ObjectStore>, case: &Case) -> Result<()> {
    let store = Store::on(objects).await?;
    match work {
        Work::Push => put(&store, &case.new).await.map(drop),
        Work::Gc => store.gc(&case.roots(false), &NOW).await.map(drop),
        Work::Scrub => store.scrub(&ScrubOptions::default()).await.map(drop),
        Work::Fetch => {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("file");
            let fetched = store.fetch(Digest::of(&case.kept[1]), &path, &[]).await;
            assert_eq!(path.exists(), fetched.is_ok(), "it appears when it is whole, and only then");
            fetched.map(drop)
        }
    }
}

fn dies_at_every_operation(kind: Work) {
    runtime().block_on(async {
        for last in [Fate::Refused, Fate::Unheard] {
            for at in 0.. {
                let case = Case::new().await;
                let gate = Arc::new(DiesAt { at, count: AtomicU64::new(0), last });
                let gated = Arc::new(Gated { inner: Arc::clone(&case.objects), gate: gate.clone() });
                let done = work(kind, gated, &case).await;
                let acknowledged = matches!(kind, Work::Push) && done.is_ok();
                case.check(acknowledged, &format!("{kind:?}, {last:?} at operation {at}")).await;
                if gate.count.load(Ordering::SeqCst) <= at {
                    assert!(done.is_ok(), "{done:?}");
                    assert!(at > 5, "{kind:?} took {at} operations only");
                    println!("{kind:?}: {at} operations");
                    break;
                }
            }
        }
    });
}

#[test]
fn a_push_may_die_anywhere() {
    dies_at_every_operation(Work::Push);
}

#[test]
fn a_collection_may_die_anywhere() {
    dies_at_every_operation(Work::Gc);
}

#[test]
fn a_scrub_may_die_anywhere() {
    dies_at_every_operation(Work::Scrub);
}

#[test]
fn a_fetch_may_die_anywhere() {
    dies_at_every_operation(Work::Fetch);
}

#[test]
fn a_disk_that_fills_up_anywhere_is_said_and_loses_nothing() {
    runtime().block_on(async {
        for kind in [Work::Push, Work::Gc, Work::Scrub] {
            for left in 0.. {
                let case = Case::new().await;
                let gate = Arc::new(FullAfter { left: AtomicU64::new(left) });
                let gated = Arc::new(Gated { inner: Arc::clone(&case.objects), gate });
                let done = work(kind, gated, &case).await;
                case.check(false, &format!("{kind:?}, full after {left} writes")).await;
                match done {
                    Ok(()) => break,
                    Err(error) => assert_eq!(error.code(), Code::StorageFull, "{error}"),
                }
            }
        }
    });
}
