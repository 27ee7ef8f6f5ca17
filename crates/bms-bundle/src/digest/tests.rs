use super::entries;
use crate::content::{MAPPED_FROM, PIECE_BYTES};
use crate::{Content, FileEntry};

#[test]
fn mapped_and_owned_contents_have_the_same_entries() {
    let dir = tempfile::tempdir().unwrap();
    // Around the edges of pieces, and enough of them that one reader could run ahead.
    let sizes = [0, 1, PIECE_BYTES, MAPPED_FROM as usize, MAPPED_FROM as usize + 1, 12 * PIECE_BYTES + 7];
    let bytes: Vec<Vec<u8>> =
        sizes.iter().map(|size| (0..*size).map(|at| ((at * 131) >> 5) as u8).collect()).collect();
    let contents: Vec<Content> = bytes
        .iter()
        .map(|bytes| {
            let path = dir.path().join(bytes.len().to_string());
            std::fs::write(&path, bytes).unwrap();
            Content::open(&path).unwrap()
        })
        .collect();
    let files: Vec<(&str, &Content)> = contents.iter().map(|content| ("x", content)).collect();
    let expected: Vec<FileEntry> = bytes.iter().map(|bytes| FileEntry::of("x", bytes)).collect();
    assert_eq!(entries(&files), expected);
}
