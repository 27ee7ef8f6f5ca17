use std::fs;
use std::io::{Read, Write};

use super::{Content, MAPPED_FROM};

fn large() -> Vec<u8> {
    (0..MAPPED_FROM as usize + 12_345).map(|at| ((at * 31) >> 3) as u8).collect()
}

#[test]
fn large_files_are_mapped_and_small_ones_copied() {
    let dir = tempfile::tempdir().unwrap();
    let (path, bytes) = (dir.path().join("file"), large());
    fs::write(&path, &bytes).unwrap();
    let content = Content::open(&path).unwrap();
    assert!(content.is_mapped() && content.unchanged());
    assert_eq!(*content, *bytes);
    assert_eq!(*content.to_shared(), *bytes);
    assert_eq!(content.blake3(), blake3::hash(&bytes).to_hex().as_str());
    let mut read = Vec::new();
    content.reader().read_to_end(&mut read).unwrap();
    assert_eq!(read, bytes);
    assert_eq!(content.place_of(&content[10..20]), Some(10..20));
    assert_eq!(content.place_of(&bytes[10..20]), None);
    content.release(0..bytes.len());
    assert_eq!(*content, *bytes, "what was given back is read again");

    fs::write(&path, b"short").unwrap();
    let content = Content::open(&path).unwrap();
    assert!(!content.is_mapped());
    fs::write(&path, b"other").unwrap();
    assert_eq!((&*content, content.unchanged()), (&b"short"[..], true));
}

#[test]
fn a_write_to_a_mapped_file_is_noticed_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    for _ in 0..5 {
        fs::write(&path, large()).unwrap();
        let content = Content::open(&path).unwrap();
        let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        assert!(content.unchanged());
        file.write_all(b"x").unwrap();
        assert!(!content.unchanged());
    }
}

#[test]
fn a_file_put_in_its_place_does_not_change_it() {
    let dir = tempfile::tempdir().unwrap();
    let (path, bytes) = (dir.path().join("file"), large());
    fs::write(&path, &bytes).unwrap();
    let content = Content::open(&path).unwrap();
    fs::write(dir.path().join("other"), b"other").unwrap();
    fs::rename(dir.path().join("other"), &path).unwrap();
    assert_eq!(*content, *bytes);
}
