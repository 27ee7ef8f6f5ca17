use std::io;

use super::*;

#[derive(Debug)]
struct Wrapped(io::Error);

impl std::fmt::Display for Wrapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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
