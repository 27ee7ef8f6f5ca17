//! A store that is looked after, and one that an older version of the program left.

use std::sync::Arc;
use std::time::Duration;

use bms_registry::Registry;
use bms_store::{GcOptions, Location, ScrubOptions, Store};

use crate::bundles::{Site, manifest, noise};

const NOW: GcOptions = GcOptions { grace: Duration::ZERO, wait: Duration::ZERO, live_percent_min: 50 };

#[tokio::test]
async fn garbage_goes_and_published_versions_stay() {
    let site = Site::new().await;
    let version = site.publish(manifest("digits", 1), &[]).await.unwrap();
    let garbage = site.registry.put_blob(&noise(1 << 20), None).await.unwrap();
    let kept = site.registry.gc(&GcOptions::default()).await.unwrap();
    assert!(kept.complete && kept.recipes_removed == 0, "young files stay: {kept:?}");
    tokio::time::sleep(Duration::from_millis(20)).await;
    let report = site.registry.gc(&NOW).await.unwrap();
    assert!(report.complete && report.recipes_removed == 1 && 1 << 20 < report.bytes_removed, "{report:?}");
    assert!(!site.registry.has_blob(&garbage).await.unwrap());
    for file in &version.files {
        assert!(site.registry.has_blob(&file.blake3).await.unwrap(), "{}", file.path);
    }
    site.registry.materialise("digits", 1, &site.dir.path().join("slots")).await.unwrap();
    assert_eq!(site.registry.audit_latest(1).await.unwrap()[0].action, "store.collected");
}

#[tokio::test]
async fn rot_is_audited_and_repaired_from_another_store() {
    let site = Site::new().await;
    let version = site.publish(manifest("digits", 1), &[]).await.unwrap();
    let copy = site.dir.path().join("copy");
    copy_folder(&site.root().join("store"), &copy);
    site.rot(&version.files[0].blake3);
    let found = site.registry.scrub(&ScrubOptions::default()).await.unwrap();
    assert!(!found.healthy && found.complete, "{found:?}");
    let event = site.registry.audit_latest(1).await.unwrap().remove(0);
    assert_eq!((event.action.as_str(), event.details["repaired"].as_u64()), ("store.corrupt", Some(0)));
    let replica = Store::open(&Location::Folder(copy)).await.unwrap();
    let options = ScrubOptions { replica: Some(Arc::new(replica)), ..ScrubOptions::default() };
    let repaired = site.registry.scrub(&options).await.unwrap();
    assert!(repaired.healthy && 0 < repaired.problems_repaired, "{repaired:?}");
    site.registry.materialise("digits", 1, &site.dir.path().join("slots")).await.unwrap();
}

#[tokio::test]
async fn rot_that_a_killed_process_found_is_audited_by_the_next() {
    let site = Site::new().await;
    let version = site.publish(manifest("digits", 1), &[]).await.unwrap();
    site.rot(&version.files[0].blake3);
    // As far as a process came that was killed when it had noted what it found, and not said it yet.
    let store = Store::open(&Location::Folder(site.root().join("store"))).await.unwrap();
    let found = store.scrub(&ScrubOptions::default()).await.unwrap();
    assert!(found.complete && found.problems_found == 1, "{found:?}");
    let corruptions = async || {
        let events = site.registry.audit_events(0, 1000).await.unwrap();
        events.into_iter().filter(|event| event.action == "store.corrupt").collect::<Vec<_>>()
    };
    assert_eq!(corruptions().await, []);
    site.registry.scrub(&ScrubOptions::default()).await.unwrap();
    let said = corruptions().await;
    assert_eq!(said[0].details["began_ms"].as_i64(), Some(found.began_ms), "{said:?}");
    assert_eq!(said.len(), 2, "one event a round: {said:?}");
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &place),
            false => drop(std::fs::copy(entry.path(), place).unwrap()),
        }
    }
}

#[tokio::test]
async fn whole_files_of_an_older_version_are_taken_over() {
    let site = Site::new().await;
    let blobs = site.root().join("store/blobs");
    let bytes = noise(3 << 20);
    let digest = blake3::hash(&bytes).to_hex().to_string();
    let rotten = "ab".repeat(32);
    for (name, bytes) in [(&digest, &bytes[..]), (&rotten, b"rotten")] {
        std::fs::create_dir_all(blobs.join(&name[..2])).unwrap();
        std::fs::write(blobs.join(&name[..2]).join(name), bytes).unwrap();
    }
    for _ in 0..2 {
        let registry = Registry::open(&site.root()).await.unwrap();
        let mut reader = registry.get_blob(&digest).await.unwrap();
        let mut back = Vec::new();
        while let Some(part) = reader.next().await.unwrap() {
            back.extend_from_slice(&part);
        }
        assert!(back == bytes);
        assert!(!blobs.join(&digest[..2]).join(&digest).exists(), "it is not there twice");
        assert!(blobs.join("ab").join(&rotten).exists(), "what rotted is left where it is");
        assert!(!registry.has_blob(&rotten).await.unwrap());
    }
}

#[tokio::test]
async fn files_may_lie_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let place = Location::Folder(dir.path().join("elsewhere"));
    let registry = Registry::open_with(&dir.path().join("registry"), Some(&place), None).await.unwrap();
    let digest = registry.put_blob(b"words", None).await.unwrap();
    assert!(dir.path().join("elsewhere/files").join(&digest).is_dir());
    assert!(!dir.path().join("registry/store").exists());
}
