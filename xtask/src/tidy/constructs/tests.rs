use super::*;

fn lines(text: &str) -> Vec<usize> {
    check(&Sources::of(&[("a.rs", text)])).into_iter().map(|problem| problem.line).collect()
}

#[test]
fn tests_that_do_not_run_are_found() {
    for text in [
        "#[test]\n#[ignore]\nfn t() {}",
        "#[test]\n#[ignore = \"slow\"]\nfn t() {}",
        "#[test]\n#[cfg_attr(not(unix), ignore)]\nfn t() {}",
        "\n/// ```ignore",
        "\n//! ```rust,ignore-windows",
    ] {
        assert_eq!(lines(text), [2], "{text}");
    }
}

#[test]
fn unfinished_code_is_found() {
    for word in UNFINISHED {
        assert_eq!(lines(&format!("fn f() {{\n    {word}!()\n}}")), [2], "{word}");
        assert_eq!(lines(&format!("fn f() {{\n    std::{word} ! [1]\n}}")), [2], "{word}");
    }
}

#[test]
fn unsafe_code_is_found() {
    assert_eq!(lines("fn f() {\n    unsafe { g() }\n}"), [2]);
    assert_eq!(lines("\nunsafe impl Send for T {}"), [2]);
}

#[test]
fn words_in_literals_comments_and_names_are_left_alone() {
    let text = "/// Says todo!() and unsafe and #[ignore].\n\
                fn f(todo: u8, unsafe_code: u8) -> bool { g(\"dbg!(x) unsafe #[ignore]\"); todo != unsafe_code }\n\
                #[serde(ignore_case)]\nstruct S;\n/// ```text\n/// ```\n";
    assert_eq!(lines(text), [0; 0]);
}

#[test]
fn promises_are_found_in_comments_only() {
    for word in PROMISES {
        assert_eq!(lines(&format!("\n// {word}: later")), [2], "{word}");
        assert_eq!(lines(&format!("fn {word}() {{ f(\"{word}\") }} // {word}S")), [0; 0], "{word}");
    }
}
