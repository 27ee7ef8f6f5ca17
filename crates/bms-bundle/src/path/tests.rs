use super::*;

#[test]
fn plain_relative_paths_are_accepted() {
    for path in ["model.onnx", "a/b/c.json", "模型/权重.safetensors", ".hidden", "a..b"] {
        check_path(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    }
}

#[test]
fn paths_that_leave_the_folder_or_hide_are_refused() {
    let long = "x".repeat(300);
    for path in [
        "",
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a/..",
        "./a",
        "a//b",
        "a/",
        "a\\b",
        "C:/x",
        "C:x",
        "a\0b",
        "a\nb",
        "a.",
        "a ",
        "gpj.\u{202e}exe",
        "zero\u{200b}width",
        long.as_str(),
    ] {
        let error = check_path(path).expect_err(path);
        assert_eq!(error.code(), Code::InvalidBundle, "{path:?}");
    }
}

#[test]
fn names_that_collide_are_refused() {
    for set in [["a", "A"], ["x/y", "X/y"], ["a", "a"], ["a", "a/b"], ["A", "a/b"], ["ä", "Ä"]] {
        assert!(check_set(set.into_iter()).is_err(), "{set:?}");
    }
    check_set(["a", "ab", "a.b", "b/a"].into_iter()).unwrap();
}
