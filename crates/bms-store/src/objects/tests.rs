use std::io;

use super::*;

#[derive(Debug)]
struct Wrapped(io::Error);

impl fmt::Display for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("wrapped")
    }
}

impl std::error::Error for Wrapped {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

#[track_caller]
fn check(kind: io::ErrorKind, want: Code) {
    let source = Box::new(Wrapped(io::Error::from(kind)));
    let error = failure("store a file", object_store::Error::Generic { store: "test", source });
    assert_eq!(error.code(), want);
}

#[test]
fn a_full_disk_is_told_apart_however_deep_it_is_wrapped() {
    check(io::ErrorKind::StorageFull, Code::StorageFull);
    check(io::ErrorKind::QuotaExceeded, Code::StorageFull);
    check(io::ErrorKind::PermissionDenied, Code::PermissionDenied);
    check(io::ErrorKind::BrokenPipe, Code::Io);
}

#[test]
fn names_differ_and_come_back() {
    let names: std::collections::BTreeSet<_> = (0..10_000).map(|_| Name::new()).collect();
    assert_eq!(names.len(), 10_000);
    let (digest, name) = (Digest::of(b"x"), Name::new());
    assert_eq!(recipe_of(&recipe(digest, name)), Some((digest, name)));
    assert_eq!(name_of(&pack(name)), Some(name));
    assert_eq!(name_of(&Path::from("packs/stray")), None);
}
