use bms_wire::Code;

use crate::bundles::Site;

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

fn stored(site: &Site, digest: &str) -> std::path::PathBuf {
    site.root().join("store/blobs").join(&digest[..2]).join(digest)
}

#[tokio::test]
async fn files_come_back_as_they_went_in() {
    let site = Site::new().await;
    // Around the sizes at which parts are cut for writing (8 MiB) and reading (4 MiB).
    for size in [0, 1, (4 << 20) - 1, 4 << 20, 8 << 20, (8 << 20) + 1, 17 << 20] {
        let bytes: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        let digest = digest(&bytes);
        assert!(!site.registry.has_blob(&digest).await.unwrap());
        let mut upload = site.registry.upload_blob(&digest).unwrap();
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
        let mut upload = site.registry.upload_blob(&announced).unwrap();
        upload.write(&bytes).await.unwrap();
        assert_eq!(upload.finish().await.unwrap_err().code(), Code::Tampered);
        assert!(!site.registry.has_blob(&announced).await.unwrap());
        let folder = stored(&site, &announced).parent().unwrap().to_owned();
        let left = std::fs::read_dir(folder).map_or(0, Iterator::count);
        assert_eq!(left, 0, "the staged file of {size} bytes is gone");
    }
}

#[tokio::test]
async fn an_upload_that_is_given_up_leaves_nothing_behind() {
    let site = Site::new().await;
    let announced = digest(b"never finished");
    let mut upload = site.registry.upload_blob(&announced).unwrap();
    upload.write(&vec![0; 20 << 20]).await.unwrap();
    let folder = stored(&site, &announced).parent().unwrap().to_owned();
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "parts are staged");
    drop(upload);
    // The staged file is removed on a thread of its own.
    for _ in 0..100 {
        if std::fs::read_dir(&folder).unwrap().count() == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the staged file is still there");
}

#[tokio::test]
async fn rot_is_found_on_reading_and_healed_by_uploading_again() {
    let site = Site::new().await;
    let bytes = vec![1_u8; 5 << 20];
    let digest = site.registry.put_blob(&bytes, None).await.unwrap();
    let mut rotten = bytes.clone();
    rotten[3] ^= 1;
    std::fs::write(stored(&site, &digest), &rotten).unwrap();
    assert_eq!(read(&site, &digest).await.unwrap_err().code(), Code::Tampered);
    site.registry.put_blob(&bytes, Some(&digest)).await.unwrap();
    assert!(read(&site, &digest).await.unwrap() == bytes);
}

#[tokio::test]
async fn an_emptied_file_is_not_taken_for_a_whole_one() {
    let site = Site::new().await;
    let digest = site.registry.put_blob(b"full", None).await.unwrap();
    std::fs::write(stored(&site, &digest), b"").unwrap();
    assert_eq!(read(&site, &digest).await.unwrap_err().code(), Code::Tampered);
}

#[tokio::test]
async fn what_is_no_digest_never_becomes_a_path() {
    let site = Site::new().await;
    for bad in ["", "ab", "../../../etc/passwd", &"AB".repeat(32)] {
        assert_eq!(site.registry.has_blob(bad).await.unwrap_err().code(), Code::InvalidRequest);
        assert_eq!(site.registry.upload_blob(bad).unwrap_err().code(), Code::InvalidRequest);
        assert_eq!(site.registry.get_blob(bad).await.unwrap_err().code(), Code::InvalidRequest);
    }
    assert_eq!(site.registry.get_blob(&"00".repeat(32)).await.unwrap_err().code(), Code::NotFound);
}
