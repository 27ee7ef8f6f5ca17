//! Bytes that flip: anywhere.

use std::sync::Arc;

use bms_store::{Digest, ScrubOptions, Store};
use bms_wire::Code;
use futures_util::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::material::{get, noise, put, runtime};

fn files() -> Vec<Vec<u8>> {
    let words = b"some words that compress well, ".repeat(3000);
    vec![noise(1, 60_000), words, noise(2, 9_000), b"tiny".to_vec(), Vec::new()]
}

async fn filled() -> (Arc<dyn ObjectStore>, Store) {
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let store = Store::on(Arc::clone(&objects)).await.unwrap();
    let mut push = store.push().await.unwrap();
    for bytes in files() {
        let size = bytes.len() as u64;
        push.read(std::io::Cursor::new(bytes), Some(size)).await.unwrap();
    }
    push.finish().await.unwrap();
    put(&store, &noise(3, 20_000)).await.unwrap();
    (objects, store)
}

/// Every object with its bytes.
async fn all(objects: &dyn ObjectStore) -> Vec<(Path, Vec<u8>)> {
    let listed: Vec<_> = objects.list(None).try_collect().await.unwrap();
    let mut all = Vec::new();
    for meta in listed {
        let bytes = objects.get(&meta.location).await.unwrap().bytes().await.unwrap();
        all.push((meta.location, bytes.to_vec()));
    }
    all
}

async fn copy(all: &[(Path, Vec<u8>)]) -> Arc<dyn ObjectStore> {
    let objects = InMemory::new();
    for (path, bytes) in all {
        objects.put(path, bytes.clone().into()).await.unwrap();
    }
    Arc::new(objects)
}

/// Positions in an object: all of a small one, the ends and a sample of a large one.
fn positions(length: usize) -> Vec<usize> {
    (0..length).filter(|at| length < 700 || *at < 16 || length - at < 120 || at % 997 == 3).collect()
}

#[test]
fn a_flip_anywhere_is_found_and_repaired_from_a_replica() {
    runtime().block_on(async {
        let (objects, replica) = filled().await;
        let objects = all(objects.as_ref()).await;
        assert!(objects.iter().any(|(path, _)| path.as_ref().starts_with("packs/")));
        let mut wanted = files();
        wanted.push(noise(3, 20_000));
        let (mut flips, mut refused) = (0, 0);
        for (number, (path, bytes)) in objects.iter().enumerate() {
            for at in positions(bytes.len()) {
                let mut rotten = objects.clone();
                rotten[number].1[at] ^= 1 << (at % 8);
                let what = format!("byte {at} of {path}");
                let store = Store::on(copy(&rotten).await).await.unwrap();
                for bytes in &wanted {
                    match get(&store, Digest::of(bytes)).await {
                        Ok(read) => assert!(read == *bytes, "{what}: other bytes were read"),
                        Err(error) => {
                            assert_eq!(error.code(), Code::Tampered, "{what}");
                            refused += 1;
                        }
                    }
                }
                let found = store.scrub(&ScrubOptions::default()).await.unwrap();
                assert!(found.problems_found > 0 && found.complete, "{what}: {found:?}");
                let readable = readable(&store, &wanted).await;
                assert_eq!(found.healthy, readable, "{what}: {found:?}");

                let options =
                    ScrubOptions { replica: Some(Arc::new(replica.clone())), ..ScrubOptions::default() };
                store.scrub(&options).await.unwrap();
                let after = store.scrub(&options).await.unwrap();
                assert!(after.healthy && after.problems_found == 0, "{what}: {after:?}");
                assert!(self::readable(&Store::on(store.objects()).await.unwrap(), &wanted).await, "{what}");
                flips += 1;
            }
        }
        println!("{flips} flips, {refused} reads refused");
        assert!(flips > 1000 && refused > 500);
    });
}

async fn readable(store: &Store, wanted: &[Vec<u8>]) -> bool {
    for bytes in wanted {
        match get(store, Digest::of(bytes)).await {
            Ok(read) => assert!(read == *bytes),
            Err(_) => return false,
        }
    }
    true
}

#[tokio::test]
async fn what_is_missing_is_found_and_repaired() {
    let (objects, replica) = filled().await;
    let objects = all(objects.as_ref()).await;
    let mut wanted = files();
    wanted.push(noise(3, 20_000));
    for number in 0..objects.len() {
        let mut without = objects.clone();
        let (path, _) = without.remove(number);
        let store = Store::on(copy(&without).await).await.unwrap();
        let options = ScrubOptions { replica: Some(Arc::new(replica.clone())), ..ScrubOptions::default() };
        let found = store.scrub(&options).await.unwrap();
        if path.as_ref().starts_with("packs/") {
            assert!(found.problems_found > 0 && found.healthy, "{path}: {found:?}");
            assert!(readable(&store, &wanted).await, "{path}");
        }
    }
}

#[tokio::test]
async fn rot_without_a_replica_is_said_and_healed_by_pushing_again() {
    let (objects, _) = filled().await;
    let bytes = noise(1, 60_000);
    let mut rotten = all(objects.as_ref()).await;
    let pack =
        rotten.iter_mut().find(|(path, bytes)| path.as_ref().starts_with("packs/") && 60_000 < bytes.len());
    pack.unwrap().1[1000] ^= 1;
    let store = Store::on(copy(&rotten).await).await.unwrap();
    let found = store.scrub(&ScrubOptions::default()).await.unwrap();
    assert!(!found.healthy && found.complete && found.problems_repaired == 0, "{found:?}");
    assert_eq!(found.files_damaged.iter().copied().collect::<Vec<_>>(), [Digest::of(&bytes)]);
    let again = store.scrub(&ScrubOptions::default()).await.unwrap();
    assert!(!again.healthy, "it is said again: {again:?}");
    assert!(!store.has(Digest::of(&bytes)).await.unwrap());
    let pushed = put(&store, &bytes).await.unwrap();
    assert!(
        1 <= pushed.chunks_new && pushed.chunks_new < pushed.chunks,
        "only what rotted is sent: {pushed:?}"
    );
    assert!(get(&store, Digest::of(&bytes)).await.unwrap() == bytes);
    assert!(store.scrub(&ScrubOptions::default()).await.unwrap().healthy);
}

#[tokio::test]
async fn a_process_that_looked_before_finds_what_another_repaired() {
    let (objects, replica) = filled().await;
    let mut rotten = all(objects.as_ref()).await;
    let pack =
        rotten.iter_mut().find(|(path, bytes)| path.as_ref().starts_with("packs/") && 60_000 < bytes.len());
    pack.unwrap().1[1000] ^= 1;
    let store = Store::on(copy(&rotten).await).await.unwrap();
    let other = Store::on(store.objects()).await.unwrap();
    let options = ScrubOptions { replica: Some(Arc::new(replica)), ..ScrubOptions::default() };
    assert!(other.scrub(&options).await.unwrap().healthy);
    assert!(readable(&store, &files()).await);
}

#[tokio::test]
async fn what_was_not_read_is_not_called_healthy() {
    let store = Store::on(Arc::new(InMemory::new())).await.unwrap();
    for seed in 0..4 {
        put(&store, &noise(seed, 300_000)).await.unwrap();
    }
    let options = ScrubOptions { bytes_max: Some(400_000), ..ScrubOptions::default() };
    let first = store.scrub(&options).await.unwrap();
    assert!(!first.healthy && !first.complete, "{first:?}");
    assert_eq!((first.packs, first.packs_read), (4, 2));
    let second = store.scrub(&options).await.unwrap();
    assert!(!second.healthy && second.packs_read == 4 || second.complete, "{second:?}");
    let third = store.scrub(&options).await.unwrap();
    assert!(third.complete || third.packs_read < 4, "{third:?}");
    let last = store.scrub(&ScrubOptions { afresh: true, ..ScrubOptions::default() }).await.unwrap();
    assert!(
        last.healthy && last.complete && last.packs_read == 4 && last.bytes_read == last.bytes,
        "{last:?}"
    );
    assert_eq!(store.last_scrub().await.unwrap(), Some(last));
}

#[tokio::test]
async fn a_limit_of_speed_is_kept() {
    let store = Store::on(Arc::new(InMemory::new())).await.unwrap();
    put(&store, &noise(1, 500_000)).await.unwrap();
    let begin = std::time::Instant::now();
    let options = ScrubOptions { bytes_per_second: Some(1_000_000), ..ScrubOptions::default() };
    assert!(store.scrub(&options).await.unwrap().healthy);
    assert!(begin.elapsed() >= std::time::Duration::from_millis(490));
}
