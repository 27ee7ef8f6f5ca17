//! What a collection of garbage waits for, spares and leaves alone, one thing at a time. Times are those of the files of a folder,
//! which are set back, so that nothing has to wait ten minutes.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bms_store::{Digest, GcOptions, Location, Store};
use bms_wire::Code;

use crate::material::{get, noise, put};

const NOW: GcOptions =
    GcOptions { grace: Duration::ZERO, wait: Duration::from_millis(16), live_percent_min: 50 };
/// Longer than a lease or a lock is believed in.
const LONG: Duration = Duration::from_secs(11 * 60);

struct Folder {
    dir: tempfile::TempDir,
    store: Store,
}

impl Folder {
    async fn new() -> Folder {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&Location::Folder(dir.path().to_owned())).await.unwrap();
        Folder { dir, store }
    }

    /// The files of a folder in the store.
    fn below(&self, folder: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.dir.path().join(folder));
        entries.map_or(Vec::new(), |entries| entries.map(|entry| entry.unwrap().path()).collect())
    }

    fn recipe(&self, file: Digest) -> PathBuf {
        self.below(&format!("files/{file}")).remove(0)
    }

    /// Stores a file that was written long ago.
    async fn put_old(&self, bytes: &[u8]) -> Digest {
        put(&self.store, bytes).await.unwrap();
        let digest = Digest::of(bytes);
        for path in self.below("packs").into_iter().chain([self.recipe(digest)]) {
            set_back(&path, LONG);
        }
        digest
    }
}

fn set_back(path: &Path, by: Duration) {
    File::options().append(true).open(path).unwrap().set_modified(SystemTime::now() - by).unwrap();
}

/// Changes a byte in the middle, and nothing about the times.
fn rot(path: &Path) {
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
    File::options().append(true).open(path).unwrap().set_modified(modified).unwrap();
}

#[tokio::test]
async fn who_is_heard_of_is_waited_for_and_the_dead_are_not() {
    let folder = Folder::new().await;
    let garbage = folder.put_old(&noise(1, 50_000)).await;
    let lease = folder.store.lease().await.unwrap();
    let held = folder.below("leases").remove(0);
    assert!(held.to_str().unwrap().ends_with(".held"));

    let report = folder.store.gc(&BTreeSet::new(), &NOW).await.unwrap();
    assert!(!report.complete && report.recipes_removed == 0 && report.packs_removed == 0, "{report:?}");
    lease.check().await.unwrap();
    assert!(get(&folder.store, garbage).await.is_ok());

    // Taken long ago, and heard of just now.
    set_back(&held, LONG);
    fs::write(held.with_extension("beat"), b"").unwrap();
    let report = folder.store.gc(&BTreeSet::new(), &NOW).await.unwrap();
    assert!(!report.complete && report.recipes_removed == 0, "{report:?}");
    lease.check().await.unwrap();

    // Not heard of since.
    set_back(&held.with_extension("beat"), LONG);
    let report = folder.store.gc(&BTreeSet::new(), &NOW).await.unwrap();
    assert!(report.complete && report.recipes_removed == 1 && report.packs_removed == 1, "{report:?}");
    assert_eq!(lease.check().await.unwrap_err().code(), Code::Unavailable, "its holder learns of it");
    assert_eq!(get(&folder.store, garbage).await.unwrap_err().code(), Code::NotFound);
    assert!(folder.below("leases").is_empty(), "nothing of a broken lease is left");
}

#[tokio::test]
async fn a_push_whose_lease_was_broken_is_not_acknowledged() {
    let folder = Folder::new().await;
    let bytes = noise(1, 50_000);
    let digest = folder.put_old(&bytes).await;
    let mut push = folder.store.push().await.unwrap();
    push.read(std::io::Cursor::new([&bytes[..], b"more"].concat()), None).await.unwrap();
    for path in folder.below("leases") {
        set_back(&path, LONG);
    }
    let other = Store::open(&Location::Folder(folder.dir.path().to_owned())).await.unwrap();
    assert!(other.gc(&BTreeSet::new(), &NOW).await.unwrap().complete);
    assert!(!other.has(digest).await.unwrap());
    assert_eq!(push.finish().await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn one_collector_at_a_time_until_it_is_dead() {
    let folder = Folder::new().await;
    folder.put_old(&noise(1, 50_000)).await;
    let lock = folder.dir.path().join("lock");
    fs::write(&lock, b"").unwrap();
    let refused = folder.store.gc(&BTreeSet::new(), &NOW).await.unwrap_err();
    assert_eq!(refused.code(), Code::Conflict);
    assert_eq!(folder.below("packs").len(), 1);
    assert!(lock.exists(), "the lock is the other's");
    set_back(&lock, LONG);
    assert!(folder.store.gc(&BTreeSet::new(), &NOW).await.unwrap().complete);
    assert!(!lock.exists());
}

#[tokio::test]
async fn what_is_needed_again_after_it_was_condemned_stays() {
    let folder = Folder::new().await;
    let bytes = noise(1, 50_000);
    let digest = folder.put_old(&bytes).await;
    let lease = folder.store.lease().await.unwrap();
    assert!(!folder.store.gc(&BTreeSet::new(), &NOW).await.unwrap().complete);
    lease.end().await;
    assert!(!folder.store.has(digest).await.unwrap(), "nobody new may rely on it");
    let report = folder.store.gc(&BTreeSet::from([digest]), &NOW).await.unwrap();
    assert!(report.complete && report.recipes_removed == 0 && report.packs_removed == 0, "{report:?}");
    assert!(get(&folder.store, digest).await.unwrap() == bytes);
    assert!(folder.below("condemned").is_empty());
    assert!(folder.store.has(digest).await.unwrap());
}

#[tokio::test]
async fn what_an_earlier_collection_condemned_goes_though_it_looks_young_by_now() {
    let folder = Folder::new().await;
    folder.put_old(&noise(1, 50_000)).await;
    let lease = folder.store.lease().await.unwrap();
    assert!(!folder.store.gc(&BTreeSet::new(), &NOW).await.unwrap().complete);
    lease.end().await;
    let careful = GcOptions { grace: Duration::from_secs(24 * 60 * 60), ..NOW };
    let report = folder.store.gc(&BTreeSet::new(), &careful).await.unwrap();
    assert!(report.complete && report.recipes_removed == 1 && report.packs_removed == 1, "{report:?}");
    assert!(folder.below("condemned").is_empty() && folder.below("packs").is_empty());
}

#[tokio::test]
async fn a_file_pushed_while_others_are_condemned_keeps_its_chunks() {
    let folder = Folder::new().await;
    let old = folder.put_old(&noise(1, 50_000)).await;
    let lease = folder.store.lease().await.unwrap();
    assert!(!folder.store.gc(&BTreeSet::new(), &NOW).await.unwrap().complete);
    // Pushed after the sentence and named by nobody yet: it must not rely on what is condemned, and it stays.
    let new = [noise(1, 50_000), noise(2, 9_000)].concat();
    put(&folder.store, &new).await.unwrap();
    lease.end().await;
    let careful = GcOptions { grace: Duration::from_secs(24 * 60 * 60), ..NOW };
    let report = folder.store.gc(&BTreeSet::new(), &careful).await.unwrap();
    assert!(report.complete && report.recipes_removed == 1, "{report:?}");
    let fresh = Store::open(&Location::Folder(folder.dir.path().to_owned())).await.unwrap();
    assert!(get(&fresh, Digest::of(&new)).await.unwrap() == new);
    assert!(!fresh.has(old).await.unwrap());
}

#[tokio::test]
async fn young_packs_stay_though_no_file_needs_them_yet() {
    let folder = Folder::new().await;
    let digest = folder.put_old(&noise(1, 50_000)).await;
    // A push that broke off after its pack was written.
    fs::remove_file(folder.recipe(digest)).unwrap();
    set_back(&folder.below("packs")[0], Duration::from_secs(60));
    let careful = GcOptions { grace: Duration::from_secs(120), ..NOW };
    let report = folder.store.gc(&BTreeSet::new(), &careful).await.unwrap();
    assert!(report.complete && report.packs_removed == 0, "{report:?}");
    set_back(&folder.below("packs")[0], Duration::from_secs(180));
    let report = folder.store.gc(&BTreeSet::new(), &careful).await.unwrap();
    assert!(report.complete && report.packs_removed == 1, "{report:?}");
}

#[tokio::test]
async fn nothing_goes_while_it_is_not_known_what_a_needed_file_needs() {
    let folder = Folder::new().await;
    let needed = folder.put_old(&noise(1, 50_000)).await;
    let garbage = folder.put_old(&noise(2, 50_000)).await;
    rot(&folder.recipe(needed));
    let refused = folder.store.gc(&BTreeSet::from([needed]), &NOW).await.unwrap_err();
    assert_eq!(refused.code(), Code::Tampered);
    assert_eq!(folder.below("packs").len(), 2);
    assert!(folder.recipe(garbage).exists());
    assert!(!folder.dir.path().join("lock").exists(), "the next collection is not kept out");
}

#[tokio::test]
async fn a_pack_in_which_something_rotted_is_not_written_anew() {
    let folder = Folder::new().await;
    // One pack of both, of which the smaller part is needed.
    let (needed, rest) = (noise(1, 40_000), noise(2, 200_000));
    let mut push = folder.store.push().await.unwrap();
    for bytes in [&needed, &rest] {
        push.read(std::io::Cursor::new(bytes.clone()), None).await.unwrap();
    }
    push.finish().await.unwrap();
    let packs = folder.below("packs");
    assert_eq!(packs.len(), 1);
    set_back(&packs[0], LONG);
    for bytes in [&needed, &rest] {
        set_back(&folder.recipe(Digest::of(bytes)), LONG);
    }
    // The chunks of the first file lie in front.
    let mut bytes = fs::read(&packs[0]).unwrap();
    bytes[10_000] ^= 1;
    fs::write(&packs[0], bytes).unwrap();
    set_back(&packs[0], LONG);
    let roots = BTreeSet::from([Digest::of(&needed)]);
    let report = folder.store.gc(&roots, &NOW).await.unwrap();
    assert!(report.complete && report.packs_repacked == 0 && report.packs_removed == 0, "{report:?}");
    assert!(packs[0].exists());
}
