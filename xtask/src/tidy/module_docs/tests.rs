use super::*;

fn count(path: &str, text: &str) -> usize {
    check(&Sources::of(&[(path, text)])).len()
}

#[test]
fn a_module_without_docs_is_found() {
    for text in ["", "use a::b;\n//! Late.", "//!\n", "// Plain.\n", "/// Of the next item.\nfn f() {}"] {
        assert_eq!(count("crates/a/src/b.rs", text), 1, "{text:?}");
        assert_eq!(count("crates/a/src/lib.rs", text), 1, "{text:?}");
    }
    assert_eq!(count("crates/a/src/b.rs", "\n//! What it is.\n"), 0);
    assert_eq!(count("crates/a/src/lib.rs", "#![no_std]\n//! What it is.\n"), 0);
}

#[test]
fn tests_need_no_docs() {
    for path in ["crates/a/src/b/tests.rs", "crates/a/tests/it/main.rs", "crates/a/benches/b.rs"] {
        assert_eq!(count(path, "use super::*;"), 0, "{path}");
    }
}

#[test]
fn empty_names_are_found() {
    assert_eq!(count("crates/a/src/b/mod.rs", "//! What it is."), 1);
    for name in EMPTY_NAMES {
        assert_eq!(count(&format!("crates/a/src/{name}.rs"), "//! What it is."), 1);
        assert_eq!(count(&format!("crates/a/tests/it/{name}.rs"), ""), 1);
    }
}
