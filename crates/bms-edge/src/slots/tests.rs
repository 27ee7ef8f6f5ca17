use super::*;

fn version(number: u64) -> VersionRef {
    VersionRef { version: number, digest: format!("{number:064x}") }
}

/// A folder as a pull leaves it.
fn staged(dir: &Path, number: u64) -> PathBuf {
    let staged = dir.join("staged");
    fs::create_dir(&staged).unwrap();
    fs::write(staged.join("bundle.json"), number.to_string()).unwrap();
    staged
}

fn install(slots: &mut Slots, dir: &Path, number: u64) {
    slots.install(&staged(dir, number), version(number)).unwrap();
}

fn content(held: Option<(VersionRef, PathBuf)>) -> Option<(u64, String)> {
    held.map(|(version, dir)| (version.version, fs::read_to_string(dir.join("bundle.json")).unwrap()))
}

fn both(slots: &Slots) -> [Option<(u64, String)>; 2] {
    [content(slots.current()), content(slots.previous())]
}

fn held(number: u64) -> Option<(u64, String)> {
    Some((number, number.to_string()))
}

#[test]
fn versions_alternate_between_the_slots_and_the_one_before_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mut slots = Slots::open(dir.path()).unwrap();
    assert_eq!(both(&slots), [None, None]);
    install(&mut slots, dir.path(), 1);
    assert_eq!(both(&slots), [held(1), None]);
    install(&mut slots, dir.path(), 2);
    assert_eq!(both(&slots), [held(2), held(1)]);
    install(&mut slots, dir.path(), 3);
    assert_eq!(both(&slots), [held(3), held(2)]);
    slots.swap().unwrap();
    assert_eq!(both(&slots), [held(2), held(3)]);
    install(&mut slots, dir.path(), 4);
    assert_eq!(both(&slots), [held(4), held(2)]);
    assert_eq!(both(&Slots::open(dir.path()).unwrap()), [held(4), held(2)], "after a restart");
    assert_eq!(fs::read_dir(dir.path().join("slots")).unwrap().count(), 2);
}

#[test]
fn without_a_version_before_there_is_no_way_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut slots = Slots::open(dir.path()).unwrap();
    install(&mut slots, dir.path(), 1);
    assert_eq!(slots.swap().unwrap_err().code(), Code::NotFound);
    assert_eq!(both(&slots), [held(1), None]);
}

#[test]
fn an_installation_that_fails_leaves_the_current_version() {
    let dir = tempfile::tempdir().unwrap();
    let mut slots = Slots::open(dir.path()).unwrap();
    install(&mut slots, dir.path(), 1);
    install(&mut slots, dir.path(), 2);
    slots.install(&dir.path().join("nothing"), version(3)).unwrap_err();
    assert_eq!(content(slots.current()), held(2));
    assert_eq!(content(Slots::open(dir.path()).unwrap().current()), held(2), "after a restart");
}

#[test]
fn a_state_that_cannot_be_read_counts_as_none() {
    let dir = tempfile::tempdir().unwrap();
    install(&mut Slots::open(dir.path()).unwrap(), dir.path(), 1);
    let path = dir.path().join("state.json");
    let good = fs::read_to_string(&path).unwrap();
    for bad in
        ["", "{", "[]", &good.replace("\"schema\": 1", "\"schema\": 2"), &good.replace("\"a\"", "\"../c\"")]
    {
        fs::write(&path, bad).unwrap();
        assert_eq!(Slots::open(dir.path()).unwrap().current(), None, "{bad}");
    }
}
