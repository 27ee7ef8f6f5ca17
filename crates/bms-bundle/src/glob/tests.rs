use super::matches;

#[test]
fn star_stands_for_any_run() {
    for (pattern, name) in [
        ("*", ""),
        ("*", "digits"),
        ("digits", "digits"),
        ("digits*", "digits"),
        ("digits*", "digits-large"),
        ("*-large", "digits-large"),
        ("a*b*c", "a1b2b3c"),
        ("**", "x"),
    ] {
        assert!(matches(pattern, name), "{pattern} should match {name}");
    }
}

#[test]
fn everything_else_is_literal() {
    for (pattern, name) in [
        ("", "x"),
        ("digits", "digit"),
        ("digits", "digits2"),
        ("a*b", "abc"),
        ("?", "x"),
        ("[a]", "a"),
        ("a*c", "b"),
    ] {
        assert!(!matches(pattern, name), "{pattern} should not match {name}");
    }
}
