use bms_bundle::Bundle;
use bms_wire::Code;

use crate::bundles::{Site, manifest, unsigned, upload};

#[tokio::test]
async fn the_folder_passes_the_gate_again() {
    let site = Site::new().await;
    let version = site.publish(manifest("digits", 1), &[]).await.unwrap();
    let into = site.dir.path().join("slots");
    let folder = site.registry.materialise("digits", 1, &into).await.unwrap();
    let verified = site.policy.verify(Bundle::open(&folder).unwrap()).unwrap();
    assert_eq!(verified.digest(), version.digest);
    assert_eq!(std::fs::read_dir(&into).unwrap().count(), 1, "nothing staged is left");
}

#[tokio::test]
async fn a_folder_that_was_changed_is_written_again() {
    let site = Site::new().await;
    let policy = bms_bundle::Policy::development();
    let files = unsigned(manifest("digits", 1), &[("notes/deep/read.txt", b"me")]);
    site.registry.publish("digits", upload(&site.registry, &files, &[]).await, &policy).await.unwrap();
    let into = site.dir.path().join("slots");
    let folder = site.registry.materialise("digits", 1, &into).await.unwrap();
    let whole = || {
        Bundle::open(&folder)
            .is_ok_and(|bundle| bundle.files().eq(files.iter().map(|(p, b)| (p.as_str(), &b[..]))))
    };
    assert!(whole());

    let damages: [&dyn Fn(); 4] = [
        &|| std::fs::write(folder.join("model.onnx"), b"changed").unwrap(),
        &|| std::fs::write(folder.join("added.txt"), b"added").unwrap(),
        &|| std::fs::remove_file(folder.join("notes/deep/read.txt")).unwrap(),
        &|| {
            let file = folder.join("notes/deep/read.txt");
            std::fs::remove_file(&file).unwrap();
            std::fs::write(into.join("elsewhere"), b"me").unwrap();
            std::os::unix::fs::symlink(into.join("elsewhere"), &file).unwrap();
        },
    ];
    for damage in damages {
        damage();
        assert!(!whole());
        site.registry.materialise("digits", 1, &into).await.unwrap();
        assert!(whole());
    }
}

#[tokio::test]
async fn a_stored_file_that_rotted_is_refused_and_can_be_uploaded_again() {
    let site = Site::new().await;
    let version = site.publish(manifest("digits", 1), &[]).await.unwrap();
    let model = version.files.iter().find(|file| file.path == "model.onnx").unwrap();
    let mut bytes = Vec::new();
    let mut reader = site.registry.get_blob(&model.blake3).await.unwrap();
    while let Some(part) = reader.next().await.unwrap() {
        bytes.extend_from_slice(&part);
    }
    site.rot(&model.blake3);

    let into = site.dir.path().join("slots");
    let error = site.registry.materialise("digits", 1, &into).await.unwrap_err();
    assert_eq!(error.code(), Code::Tampered);
    assert_eq!(site.registry.audit_latest(1).await.unwrap()[0].action, "store.corrupt");
    assert!(!site.registry.has_blob(&model.blake3).await.unwrap(), "an upload will not skip it");
    site.registry.put_blob(&bytes, None).await.unwrap();
    site.registry.materialise("digits", 1, &into).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_may_ask_for_the_same_version_at_once() {
    let site = Site::new().await;
    site.publish(manifest("digits", 1), &[]).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (registry, into) = (site.registry.clone(), site.dir.path().join("slots"));
        tasks.spawn(async move { registry.materialise("digits", 1, &into).await.unwrap() });
    }
    let folders = tasks.join_all().await;
    assert!(folders.iter().all(|folder| folder == &folders[0]));
    site.policy.verify(Bundle::open(&folders[0]).unwrap()).unwrap();
}

#[tokio::test]
async fn a_large_file_is_linked_and_not_copied() {
    use std::os::unix::fs::MetadataExt;
    let site = Site::new().await;
    let policy = bms_bundle::Policy::development();
    let large = b"many words ".repeat(1 << 20);
    let files = unsigned(manifest("digits", 1), &[("notes/large.txt", &large)]);
    let version =
        site.registry.publish("digits", upload(&site.registry, &files, &[]).await, &policy).await.unwrap();
    let into = site.dir.path().join("slots");
    let folder = site.registry.materialise("digits", 1, &into).await.unwrap();
    let placed = folder.join("notes/large.txt");
    let file = version.files.iter().find(|file| file.path == "notes/large.txt").unwrap();
    let stored = site.root().join("assembled").join(&file.blake3);
    let (here, there) = (placed.metadata().unwrap(), stored.metadata().unwrap());
    assert_eq!(here.ino(), there.ino());
    assert!(here.permissions().readonly() && there.permissions().readonly());
    policy.verify(Bundle::open(&folder).unwrap()).unwrap();
    let small = folder.join("model.onnx").metadata().unwrap();
    assert_eq!(small.nlink(), 1, "a small one is a copy of its own");

    // When what was put together is changed, it is put together again.
    std::fs::remove_file(&placed).unwrap();
    std::fs::remove_file(&stored).unwrap();
    std::fs::write(&stored, vec![b'x'; large.len()]).unwrap();
    let folder = site.registry.materialise("digits", 1, &into).await.unwrap();
    policy.verify(Bundle::open(&folder).unwrap()).unwrap();

    // When the store's chunks rot, that is found before anything is handed on, and mended by an upload.
    std::fs::remove_file(folder.join("notes/large.txt")).unwrap();
    std::fs::remove_file(&stored).unwrap();
    site.rot(&file.blake3);
    assert_eq!(site.registry.materialise("digits", 1, &into).await.unwrap_err().code(), Code::Tampered);
    site.registry.put_blob(&large, None).await.unwrap();
    let folder = site.registry.materialise("digits", 1, &into).await.unwrap();
    policy.verify(Bundle::open(&folder).unwrap()).unwrap();
}
