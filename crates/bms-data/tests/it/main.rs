//! Data sets on disk.

use std::fs;

use bms_data::{Dataset, ImageSet, OpenOptions, digits};
use bms_wire::Code;

#[test]
fn a_saved_set_is_read_back_with_the_same_digest() {
    let dir = tempfile::tempdir().unwrap();
    let set = digits().unwrap().take(50);
    let path = dir.path().join("deep/er/digits");
    set.save(&path).unwrap();
    let back = Dataset::open(&path, &OpenOptions::default()).unwrap();
    assert_eq!(back.len(), 50);
    assert_eq!(back.digest(), set.digest());
    assert_eq!(set.save(&path).unwrap_err().code(), Code::Conflict);
    // Nothing but the set itself is left behind.
    assert_eq!(fs::read_dir(dir.path().join("deep/er")).unwrap().count(), 1);
}

#[test]
fn a_refused_save_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut set = digits().unwrap().take(3);
    set.samples[2].name = "../escape".into();
    assert_eq!(set.save(&dir.path().join("set")).unwrap_err().code(), Code::InvalidInput);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_file_that_is_no_picture_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("a")).unwrap();
    fs::write(dir.path().join("a/bad.png"), b"not a picture").unwrap();
    let error = ImageSet::open(dir.path()).unwrap_err();
    assert!(error.message().contains("bad.png"), "{error}");
}

#[test]
fn an_empty_or_absent_folder_says_what_is_expected() {
    let dir = tempfile::tempdir().unwrap();
    let error = Dataset::open(dir.path(), &OpenOptions::default()).unwrap_err();
    assert!(error.advice().unwrap().contains("LABEL"));
    let error = Dataset::open(&dir.path().join("no"), &OpenOptions::default()).unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
}
