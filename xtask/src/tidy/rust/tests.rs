use super::*;

fn code(text: &str) -> String {
    Rust::scan(text).code
}

#[test]
fn comments_and_literals_are_blanked_and_columns_kept() {
    for (text, want) in [
        ("a // fn b\nc", "a        \nc"),
        ("a /* x /* y */ z */ b", "a                   b"),
        (r#"f("fn \" { ")"#, r#"f("        ")"#),
        (r##"r#"a " {"# }"##, r##"r#"     "# }"##),
        ("b\"{\" br\"{\" c\"{\"", "b\" \" br\" \" c\" \""),
        ("'{' '\\'' '\\u{7b}' b'{'", "' ' '  ' '      ' b' '"),
        ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
        ("r#fn for\"x\"", "r#fn for\" \""),
        ("\"é{\"x", "\"  \"x"),
    ] {
        assert_eq!(code(text), want, "{text}");
    }
}

#[test]
fn an_unfinished_literal_does_not_hang() {
    for text in ["\"abc", "r#\"abc\"", "/* abc", "'\\", "'", "b", "r#"] {
        assert_eq!(code(text).chars().count(), text.chars().count());
    }
}

#[test]
fn comments_know_their_kind_and_place() {
    let rust = Rust::scan("/// doc\n//! doc\n//// plain\nlet x = 1; // plain\n/** doc */\n/* plain */");
    let found: Vec<_> = rust.comments.iter().map(|c| (c.line, c.doc, c.alone)).collect();
    let want = [
        (1, true, true),
        (2, true, true),
        (3, false, true),
        (4, false, false),
        (5, true, true),
        (6, false, true),
    ];
    assert_eq!(found, want);
}

#[track_caller]
fn check_functions(text: &str, want: &[(&str, usize, usize)]) {
    let found = Rust::scan(text).functions();
    let found: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.line, f.lines)).collect();
    assert_eq!(found, want);
}

#[test]
fn functions_are_measured_from_fn_to_the_closing_brace() {
    check_functions("fn a() {}\n", &[("a", 1, 1)]);
    check_functions("/// fn no() {\npub fn a(\n    x: [u8; { 3 }],\n) -> u8 {\n    x\n}\n", &[("a", 2, 5)]);
    check_functions("trait T {\n    fn a();\n    fn b() {\n    }\n}", &[("b", 3, 2)]);
    check_functions("fn a() {\n    fn b() {\n    }\n    \"}\"\n}", &[("a", 1, 5), ("b", 2, 2)]);
    check_functions("fn\na()\n{\n}", &[("a", 1, 4)]);
    check_functions("type F = fn(u8) -> u8;\nlet f: fn() = { g };", &[]);
    check_functions("fn a() -> impl Fn(u8) where X: Y {\n    // }\n    '}'\n}", &[("a", 1, 4)]);
    check_functions("macro_rules! m { ($n:ident) => { fn $n() {} } }", &[]);
}

#[test]
fn attributes_are_found_whole() {
    let rust = Rust::scan("#![a]\n#[b(\n c[1])]\nfn f() {} // #[d]\nlet x = \"#[e]\";");
    assert_eq!(rust.attributes(), [(1, "a"), (2, "b(\n c[1])")]);
}
