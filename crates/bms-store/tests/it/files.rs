use std::collections::BTreeSet;
use std::time::Duration;

use bms_store::{ChunkRef, Digest, FileWriter, GcOptions, Location, Recipe, Store, assemble};
use bms_wire::Code;
use sha2::{Digest as _, Sha256};

use crate::material::{get, memory, noise, put};

#[tokio::test]
async fn files_come_back_as_they_went_in() {
    let dir = tempfile::tempdir().unwrap();
    for location in [Location::Memory, Location::Folder(dir.path().join("store"))] {
        let store = Store::open(&location).await.unwrap();
        for size in [0, 1, 8191, 100_000, (16 << 20) - 1, 16 << 20, 40 << 20] {
            let mut bytes = noise(size as u64, size);
            // A half that compresses.
            bytes[size / 2..].fill(7);
            let digest = Digest::of(&bytes);
            assert!(!store.has(digest).await.unwrap());
            let mut push = store.push().await.unwrap();
            let mut file = FileWriter::new(Some(size as u64));
            for part in bytes.chunks(100_003) {
                push.write(&mut file, part).await.unwrap();
            }
            let stored = push.end(file, Some(digest)).await.unwrap();
            assert_eq!(stored.sha256, <[u8; 32]>::from(Sha256::digest(&bytes)));
            assert!(!store.has(digest).await.unwrap(), "nothing is visible before the end");
            push.finish().await.unwrap();
            assert!(store.has(digest).await.unwrap());
            assert!(get(&store, digest).await.unwrap() == bytes, "{size} bytes");
            let range = (size / 3)..(size / 2 + 1).min(size);
            let read = store.read(digest, range.start as u64..range.end as u64).await.unwrap();
            assert!(read == bytes[range], "a range of {size} bytes");
        }
        if let Location::Folder(_) = location {
            let again = Store::open(&location).await.unwrap();
            assert_eq!(again.files().await.unwrap().len(), 7);
            assert_eq!(again.totals(), store.totals());
        }
    }
}

#[tokio::test]
async fn other_bytes_than_announced_are_not_stored() {
    let store = Store::on(memory()).await.unwrap();
    let mut push = store.push().await.unwrap();
    let mut file = FileWriter::new(None);
    push.write(&mut file, b"something").await.unwrap();
    let error = push.end(file, Some(Digest::of(b"else"))).await.unwrap_err();
    assert_eq!(error.code(), Code::Tampered);
    push.finish().await.unwrap();
    assert!(store.files().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_broken_off_fetch_goes_on_and_files_alike_are_used() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::on(memory()).await.unwrap();
    let first = noise(1, 20 << 20);
    let mut second = first.clone();
    second[5 << 20..(5 << 20) + 1000].fill(0);
    for bytes in [&first, &second] {
        put(&store, bytes).await.unwrap();
    }
    let path = dir.path().join("model.bin");
    // What an earlier try got, and rubbish after it.
    let mut part = first[..9 << 20].to_vec();
    part.extend_from_slice(b"torn");
    std::fs::write(dir.path().join("model.bin.part"), &part).unwrap();
    let fetched = store.fetch(Digest::of(&first), &path, &[]).await.unwrap();
    assert!(std::fs::read(&path).unwrap() == first);
    assert!((10 << 20..12 << 20).contains(&fetched.bytes_moved), "{fetched:?}");

    let next = dir.path().join("next.bin");
    let fetched = store.fetch(Digest::of(&second), &next, &[dir.path().join("absent"), path]).await.unwrap();
    assert!(std::fs::read(&next).unwrap() == second);
    assert!((1..200_000).contains(&fetched.bytes_moved), "{fetched:?}");
    let names: BTreeSet<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "nothing unfinished is left");
}

#[test]
fn a_file_is_assembled_of_what_is_here_and_what_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let first = noise(8, 20 << 20);
    let mut second = first.clone();
    second[11 << 20..(11 << 20) + 3].fill(0);
    second.extend(noise(9, 1 << 20));
    std::fs::write(dir.path().join("first"), &first).unwrap();
    let recipe = Recipe::of(&second[..], second.len() as u64).unwrap();
    let path = dir.path().join("second");
    let like = [dir.path().join("first")];
    let mut offset = 0;
    let mut chunks = std::collections::BTreeMap::new();
    for chunk in &recipe.chunks {
        chunks.insert(chunk.id, second[offset..][..chunk.size as usize].to_vec());
        offset += chunk.size as usize;
    }
    let give = |asked: &[ChunkRef]| -> bms_wire::Result<Vec<(Digest, bytes::Bytes)>> {
        Ok(asked.iter().rev().map(|chunk| (chunk.id, chunks[&chunk.id].clone().into())).collect())
    };
    let error = assemble(&recipe, &path, &like, |_| Err(bms_wire::Error::new(Code::Unavailable, "gone")));
    assert_eq!(error.unwrap_err().code(), Code::Unavailable);
    let wrong = |asked: &[ChunkRef]| Ok(asked.iter().map(|chunk| (chunk.id, "wrong".into())).collect());
    assert_eq!(assemble(&recipe, &path, &like, wrong).unwrap_err().code(), Code::Tampered);
    assert!(!path.exists());
    let fetched = assemble(&recipe, &path, &like, give).unwrap();
    assert!(std::fs::read(&path).unwrap() == second);
    assert!((1 << 20..1_300_000).contains(&fetched.bytes_moved), "{fetched:?}");
    // A recipe that names another file is found out at the end, and leaves nothing.
    let lie = Recipe { digest: Digest::of(b"x"), ..recipe };
    assert_eq!(assemble(&lie, &dir.path().join("lie"), &like, give).unwrap_err().code(), Code::Tampered);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[tokio::test]
async fn a_fetch_takes_turns_with_another_of_the_same_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::on(memory()).await.unwrap();
    let bytes = noise(3, 9 << 20);
    put(&store, &bytes).await.unwrap();
    let path = dir.path().join("model.bin");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (store, path, digest) = (store.clone(), path.clone(), Digest::of(&bytes));
        tasks.spawn(async move { store.fetch(digest, &path, &[]).await.unwrap() });
    }
    tasks.join_all().await;
    assert!(std::fs::read(&path).unwrap() == bytes);
}

#[tokio::test]
async fn chunks_and_recipes_can_be_sent_on_their_own() {
    let from = Store::on(memory()).await.unwrap();
    let to = Store::on(memory()).await.unwrap();
    let bytes = noise(4, 3 << 20);
    put(&from, &bytes).await.unwrap();
    let recipe = from.recipe(Digest::of(&bytes)).await.unwrap();
    let ids: Vec<Digest> = recipe.chunks.iter().map(|chunk| chunk.id).collect();
    let missing = to.missing(&ids);
    assert_eq!(missing.len(), ids.len());

    let mut push = to.push().await.unwrap();
    assert_eq!(push.put_recipe(recipe.clone()).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(push.put_chunk(ids[0], "wrong".into()).await.unwrap_err().code(), Code::Tampered);
    for id in &missing {
        push.put_chunk(*id, from.chunk(*id).await.unwrap()).await.unwrap();
    }
    push.put_recipe(recipe).await.unwrap();
    push.finish().await.unwrap();
    assert!(get(&to, Digest::of(&bytes)).await.unwrap() == bytes);
}

#[tokio::test]
async fn garbage_goes_and_what_is_needed_or_young_stays() {
    let store = Store::on(memory()).await.unwrap();
    let needed = noise(5, 4 << 20);
    let mut alike = needed.clone();
    alike.extend(noise(6, 8 << 20));
    for bytes in [&alike, &needed] {
        put(&store, bytes).await.unwrap();
    }
    let roots = BTreeSet::from([Digest::of(&needed)]);
    let report = store.gc(&roots, &GcOptions::default()).await.unwrap();
    assert!(report.complete && report.packs_removed == 0 && report.recipes_removed == 0, "{report:?}");
    let now = GcOptions { grace: Duration::ZERO, ..GcOptions::default() };
    tokio::time::sleep(Duration::from_millis(5)).await;
    let report = store.gc(&roots, &now).await.unwrap();
    assert!(report.complete && report.packs_repacked == 1 && report.recipes_removed == 1, "{report:?}");
    assert!(report.bytes_written < 5 << 20 && 12 << 20 <= report.bytes_removed, "{report:?}");
    for store in [&store, &Store::on(store.objects()).await.unwrap()] {
        assert!(get(store, Digest::of(&needed)).await.unwrap() == needed);
        assert_eq!(get(store, Digest::of(&alike)).await.unwrap_err().code(), Code::NotFound);
    }
    tokio::time::sleep(Duration::from_millis(5)).await;
    let report = store.gc(&roots, &now).await.unwrap();
    assert!(report.complete && report.packs_removed == 0, "a second collection finds nothing: {report:?}");
    put(&store, &alike).await.unwrap();
    assert!(get(&store, Digest::of(&alike)).await.unwrap() == alike, "it can come back");
}

#[tokio::test]
async fn many_small_packs_become_one() {
    let store = Store::on(memory()).await.unwrap();
    let files: Vec<Vec<u8>> = (0..40).map(|seed| noise(seed, 50_000)).collect();
    for bytes in &files {
        put(&store, bytes).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(5)).await;
    let roots: BTreeSet<Digest> = files.iter().map(|bytes| Digest::of(bytes)).collect();
    let now = GcOptions { grace: Duration::ZERO, ..GcOptions::default() };
    let report = store.gc(&roots, &now).await.unwrap();
    assert_eq!((report.packs_before, report.packs_repacked, report.packs_removed), (40, 40, 40));
    let fresh = Store::on(store.objects()).await.unwrap();
    for bytes in &files {
        assert!(get(&fresh, Digest::of(bytes)).await.unwrap() == *bytes);
    }
}
