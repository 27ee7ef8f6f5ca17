use super::*;

#[track_caller]
fn check(text: &str, want: Location) {
    assert_eq!(Location::parse(text).unwrap(), want);
}

#[test]
fn places_are_told_apart() {
    let bucket =
        |bucket: &str, prefix: &str| Location::Bucket { bucket: bucket.into(), prefix: prefix.into() };
    check("s3://models", bucket("models", ""));
    check("s3://models/a/b/", bucket("models", "a/b"));
    check("file:///srv/some%20store", Location::Folder("/srv/some store".into()));
    check("/srv/store", Location::Folder("/srv/store".into()));
    check("relative/store", Location::Folder("relative/store".into()));
    check("memory:", Location::Memory);
    for bad in ["", "s3://", "s3:///x", "http://somewhere", "file:relative", "gs://x"] {
        assert_eq!(Location::parse(bad).unwrap_err().code(), Code::InvalidRequest, "{bad}");
    }
}

#[test]
fn only_stale_staged_files_are_swept() {
    let dir = tempfile::tempdir().unwrap();
    let packs = dir.path().join("packs");
    fs::create_dir_all(&packs).unwrap();
    let old = std::time::SystemTime::now() - 2 * STALE_AFTER;
    for (name, at) in [("a#1", Some(old)), ("b#1", None), ("c", Some(old))] {
        let file = fs::File::create(packs.join(name)).unwrap();
        if let Some(at) = at {
            file.set_modified(at).unwrap();
        }
    }
    sweep(dir.path()).unwrap();
    let left: std::collections::BTreeSet<_> =
        fs::read_dir(&packs).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.into_iter().collect::<Vec<_>>(), ["b#1", "c"]);
}
