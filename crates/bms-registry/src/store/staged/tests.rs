use std::time::SystemTime;

use super::*;

#[test]
fn only_stale_staged_files_go() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("store/blobs/ab");
    fs::create_dir_all(&folder).unwrap();
    let make = |name: &str, age: Duration| {
        let file = fs::File::create(folder.join(name)).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    };
    make("abcd", 2 * STALE_AFTER);
    make("abcd#1", 2 * STALE_AFTER);
    make("abcd#2", STALE_AFTER / 2);
    sweep(dir.path()).unwrap();
    let mut left: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["abcd", "abcd#2"]);
}
