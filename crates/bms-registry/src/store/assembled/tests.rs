use super::*;

#[test]
fn old_files_go_and_those_in_use_stay() {
    let dir = tempfile::tempdir().unwrap();
    let age = |name: &str, hours: u32| {
        let file = File::create(dir.path().join(name)).unwrap();
        file.set_modified(SystemTime::now() - STAYS * hours).unwrap();
    };
    let left = || {
        let mut left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        left.join(" ")
    };
    for (name, hours) in [("a", 0), ("b", 2), ("c", 2), ("d.part", 2), ("e.part", 30)] {
        age(name, hours);
    }
    fs::hard_link(dir.path().join("c"), dir.path().join("link")).unwrap();
    sweep(dir.path(), Sweep::All).unwrap();
    assert_eq!(left(), "a c d.part link");
    sweep(dir.path(), Sweep::Old).unwrap();
    assert_eq!(left(), "a d.part");
}

#[test]
fn another_content_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    fs::write(&path, b"words").unwrap();
    assert!(is_whole(&path, &blake3::hash(b"words").to_hex()).unwrap());
    assert!(!is_whole(&path, &blake3::hash(b"others").to_hex()).unwrap());
    assert!(!path.exists() && !is_whole(&path, "x").unwrap());
}
