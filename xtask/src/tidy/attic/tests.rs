use super::*;

fn lines(text: &str) -> Vec<usize> {
    commented_out(&Rust::scan(text))
}

#[test]
fn commented_out_tests_are_found() {
    assert_eq!(lines("fn f() {}\n// #[test]\n// fn t() {}"), [2]);
    assert_eq!(lines("// #[tokio::test]\n"), [1]);
    assert_eq!(lines("//#[tokio::test(start_paused = true)]\n"), [1]);
    assert_eq!(lines("/*\n#[test]\nfn t() {}\n*/"), [1]);
}

#[test]
fn commented_out_statements_are_found() {
    assert_eq!(lines("x();\n// let a = 1;\n// if a {\n// }\n"), [2]);
}

#[test]
fn prose_is_left_alone() {
    assert_eq!(lines("// One; and\n// two. A note;\n// three.\n/// #[test]\nlet x = 1; // a;\n"), [0; 0]);
    assert_eq!(lines("// a;\n// b;\n\n// c;\n"), [0; 0]);
}

#[test]
fn a_file_no_module_declares_is_found() {
    let sources = Sources::of(&[
        ("crates/a/src/lib.rs", "mod one;\npub mod two;\n// mod four;\n#[cfg(test)] mod tests;"),
        ("crates/a/src/one.rs", "mod deep;\nmod deeper_still { }"),
        ("crates/a/src/two.rs", ""),
        ("crates/a/src/tests.rs", ""),
        ("crates/a/src/one/deep.rs", ""),
        ("crates/a/src/one/deeper.rs", ""),
        ("crates/a/src/one/deeper_still.rs", ""),
        ("crates/a/src/four.rs", ""),
        ("crates/a/src/bin/tool.rs", ""),
        ("crates/a/tests/it/main.rs", "mod used;"),
        ("crates/a/tests/it/used.rs", ""),
        ("crates/a/tests/it/unused.rs", ""),
    ]);
    let found: Vec<_> = check(&sources).into_iter().map(|problem| problem.path).collect();
    let want = ["src/one/deeper.rs", "src/one/deeper_still.rs", "src/four.rs", "tests/it/unused.rs"];
    assert_eq!(found, want.map(|path| format!("crates/a/{path}")));
}
