//! The store on a real S3 server, which `cargo xtask services start` starts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bms_store::{Digest, GcOptions, Location, ScrubOptions, Store};
use futures_util::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use crate::material::{get, noise, put, runtime};

/// A place of its own on the server; `None` when there is no server, which in CI is a failure.
fn place(test: &str) -> Option<Location> {
    let Some(base) = std::env::var_os("BMS_TEST_S3") else {
        assert!(std::env::var_os("CI").is_none(), "BMS_TEST_S3 is not set: the tests on S3 cannot run");
        eprintln!(
            "SKIPPED: no S3 server; `cargo xtask services start`, then `eval \"$(cargo xtask services env)\"`"
        );
        return None;
    };
    let unique = Digest::of(format!("{:?} {}", std::time::SystemTime::now(), std::process::id()).as_bytes());
    let url = format!("{}/{test}-{}", base.to_str().unwrap(), &unique.to_string()[..12]);
    Some(Location::parse(&url).unwrap())
}

#[test]
fn files_go_in_and_come_out() {
    let Some(place) = place("files") else { return };
    runtime().block_on(async {
        let store = Store::open(&place).await.unwrap();
        // More than one pack, in several parts each.
        let large = noise(1, 90 << 20);
        let small = noise(2, 5000);
        let pushed = put(&store, &large).await.unwrap();
        put(&store, &small).await.unwrap();
        assert!(pushed.bytes_moved as usize >= large.len());
        let again = put(&store, &large).await.unwrap();
        assert_eq!(again.bytes_moved, 0, "the same file again moves nothing");
        let mut changed = large.clone();
        changed[40 << 20..44 << 20].copy_from_slice(&noise(3, 4 << 20));
        let delta = put(&store, &changed).await.unwrap();
        assert!(delta.bytes_moved < 5 << 20, "{delta:?}");

        let fresh = Store::open(&place).await.unwrap();
        for bytes in [&large, &small, &changed] {
            assert!(get(&fresh, Digest::of(bytes)).await.unwrap() == *bytes);
        }
        let range = fresh.read(Digest::of(&large), 33_000_000..34_000_000).await.unwrap();
        assert!(range == large[33_000_000..34_000_000]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        std::fs::write(dir.path().join("model.part"), &large[..50 << 20]).unwrap();
        let fetched = fresh.fetch(Digest::of(&large), &path, &[]).await.unwrap();
        assert!(fetched.bytes_moved < 41 << 20, "{fetched:?}");
        assert!(std::fs::read(&path).unwrap() == large);
    });
}

#[test]
fn a_write_that_must_be_the_first_is_refused_when_it_is_not() {
    let Some(place) = place("conditional") else { return };
    runtime().block_on(async {
        let objects = Store::open(&place).await.unwrap().objects();
        let first = || PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let path = object_store::path::Path::from("once");
        objects.put_opts(&path, "one".into(), first()).await.unwrap();
        let error = objects.put_opts(&path, "two".into(), first()).await.unwrap_err();
        assert!(matches!(error, object_store::Error::AlreadyExists { .. }), "{error}");
        assert_eq!(objects.get(&path).await.unwrap().bytes().await.unwrap(), "one");
    });
}

#[test]
fn garbage_goes_and_rot_is_repaired() {
    let (Some(place), Some(other)) = (place("care"), place("replica")) else { return };
    runtime().block_on(async {
        let store = Store::open(&place).await.unwrap();
        let replica = Store::open(&other).await.unwrap();
        let (kept, garbage) = (noise(4, 3 << 20), noise(5, 2 << 20));
        for store in [&store, &replica] {
            put(store, &kept).await.unwrap();
            put(store, &garbage).await.unwrap();
        }
        // The server's times have full seconds.
        tokio::time::sleep(Duration::from_millis(2100)).await;
        let roots = BTreeSet::from([Digest::of(&kept)]);
        let now = GcOptions { grace: Duration::ZERO, ..GcOptions::default() };
        let report = store.gc(&roots, &now).await.unwrap();
        assert!(report.complete && report.packs_removed == 1 && report.recipes_removed == 1, "{report:?}");
        assert!(get(&store, Digest::of(&kept)).await.unwrap() == kept);

        let objects = store.objects();
        let packs: Vec<_> = objects.list(Some(&"packs".into())).try_collect().await.unwrap();
        let mut bytes = objects.get(&packs[0].location).await.unwrap().bytes().await.unwrap().to_vec();
        bytes[100_000] ^= 1;
        objects.put(&packs[0].location, bytes.into()).await.unwrap();
        assert!(get(&store, Digest::of(&kept)).await.is_err());
        let options = ScrubOptions { replica: Some(Arc::new(replica)), ..ScrubOptions::default() };
        let scrub = store.scrub(&options).await.unwrap();
        assert!(scrub.healthy && scrub.problems_repaired == 1, "{scrub:?}");
        assert!(get(&Store::open(&place).await.unwrap(), Digest::of(&kept)).await.unwrap() == kept);
    });
}
