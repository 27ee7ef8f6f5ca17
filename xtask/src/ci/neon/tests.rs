use super::*;

#[test]
fn versions_are_read() {
    assert_eq!(minor("rustc 1.96.0 (ac68faa20 2026-05-25)\n"), Some(96));
    assert_eq!(minor("rustc 1.97.0-nightly"), Some(97));
    assert_eq!(minor("1.95"), Some(95));
    assert!(minor(env!("CARGO_PKG_RUST_VERSION")).is_some());
    assert!(minor("no version") < minor("1.0"));
}

#[test]
fn a_compiler_is_asked_for_the_standard_library() {
    assert_eq!(COMPILER.probe.split_first(), Some((&DEBIAN_RUSTC, WITH_STANDARD_LIBRARY)));
}
