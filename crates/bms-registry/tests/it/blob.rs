use bms_wire::Code;

use crate::bundles::{Site, noise};

fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

async fn read(site: &Site, digest: &str) -> bms_wire::Result<Vec<u8>> {
    let mut reader = site.registry.get_blob(digest).await?;
    let mut bytes = Vec::new();
    while let Some(part) = reader.next().await? {
        bytes.extend_from_slice(&part);
    }
    assert_eq!(reader.size(), bytes.len() as u64);
    Ok(bytes)
}

/// Names of the objects with chunks in the store, finished or not.
fn packs(site: &Site) -> Vec<String> {
    let folder = std::fs::read_dir(site.root().join("store/packs"));
    folder.map_or(Vec::new(), |packs| {
        packs.map(|pack| pack.unwrap().file_name().into_string().unwrap()).collect()
    })
}

#[tokio::test]
async fn files_come_back_as_they_went_in() {
    let site = Site::new().await;
    // Around the sizes at which parts are cut for writing (8 MiB) and reading (4 MiB).
    for size in [0, 1, (4 << 20) - 1, 4 << 20, 8 << 20, (8 << 20) + 1, 17 << 20] {
        let bytes: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        let digest = digest(&bytes);
        assert!(!site.registry.has_blob(&digest).await.unwrap());
        let mut upload = site.registry.upload_blob(&digest, None).unwrap();
        for part in bytes.chunks(100_003) {
            upload.write(part).await.unwrap();
        }
        assert!(!site.registry.has_blob(&digest).await.unwrap(), "nothing is visible before the end");
        assert_eq!(upload.finish().await.unwrap(), size as u64);
        assert!(site.registry.has_blob(&digest).await.unwrap());
        assert!(read(&site, &digest).await.unwrap() == bytes, "{size} bytes");
    }
}

#[tokio::test]
async fn other_bytes_than_announced_leave_nothing_behind() {
    let site = Site::new().await;
    for size in [10, 9 << 20] {
        let bytes = vec![7_u8; size];
        let announced = digest(b"something else");
        let mut upload = site.registry.upload_blob(&announced, None).unwrap();
        upload.write(&bytes).await.unwrap();
        assert_eq!(upload.finish().await.unwrap_err().code(), Code::Tampered);
        assert!(!site.registry.has_blob(&announced).await.unwrap());
        for _ in 0..100 {
            if packs(&site).is_empty() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert_eq!(packs(&site), [""; 0], "what was staged of {size} bytes is gone");
    }
}

#[tokio::test]
async fn an_upload_that_is_given_up_leaves_nothing_behind() {
    let site = Site::new().await;
    let announced = digest(b"never finished");
    let mut upload = site.registry.upload_blob(&announced, None).unwrap();
    upload.write(&noise(40 << 20)).await.unwrap();
    assert!(packs(&site).iter().all(|name| name.contains('#')), "parts are staged");
    assert_eq!(packs(&site).len(), 1);
    drop(upload);
    // The staged file is removed on a thread of its own.
    for _ in 0..100 {
        if packs(&site).is_empty() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the staged file is still there");
}

#[tokio::test]
async fn rot_is_found_on_reading_and_healed_by_uploading_again() {
    let site = Site::new().await;
    let bytes = noise(5 << 20);
    let digest = site.registry.put_blob(&bytes, None).await.unwrap();
    site.rot(&digest);
    assert_eq!(read(&site, &digest).await.unwrap_err().code(), Code::Tampered);
    site.registry.put_blob(&bytes, Some(&digest)).await.unwrap();
    assert!(read(&site, &digest).await.unwrap() == bytes);
}

#[tokio::test]
async fn an_emptied_file_is_not_taken_for_a_whole_one() {
    let site = Site::new().await;
    let digest = site.registry.put_blob(b"full", None).await.unwrap();
    let pack = packs(&site).remove(0);
    std::fs::write(site.root().join("store/packs").join(pack), b"").unwrap();
    assert_eq!(read(&site, &digest).await.unwrap_err().code(), Code::Tampered);
}

#[tokio::test]
async fn what_is_no_digest_never_becomes_a_path() {
    let site = Site::new().await;
    for bad in ["", "ab", "../../../etc/passwd", &"AB".repeat(32)] {
        assert_eq!(site.registry.has_blob(bad).await.unwrap_err().code(), Code::InvalidRequest);
        assert_eq!(site.registry.upload_blob(bad, None).unwrap_err().code(), Code::InvalidRequest);
        assert_eq!(site.registry.get_blob(bad).await.unwrap_err().code(), Code::InvalidRequest);
    }
    assert_eq!(site.registry.get_blob(&"00".repeat(32)).await.unwrap_err().code(), Code::NotFound);
}
