use super::*;

#[test]
fn the_page_says_what_the_compiled_constants_say() {
    let source = std::fs::read_to_string(crate::root().join(SOURCE)).unwrap();
    let limits = parse(&source).unwrap();
    let value = |name: &str| limits.iter().find(|limit| limit.name == name).map(|limit| limit.value);
    assert_eq!(value("INFER_BODY_BYTES_MAX"), Some(bms_wire::limits::INFER_BODY_BYTES_MAX as u64));
    assert_eq!(value("IMAGE_SIDE_MAX"), Some(bms_wire::limits::IMAGE_SIDE_MAX.into()));
    assert_eq!(value("INFER_DEADLINE_MS"), Some(bms_wire::limits::INFER_DEADLINE_MS));
    assert_eq!(limits.len(), source.matches("pub const ").count());
}

#[test]
fn documentation_belongs_to_the_next_constant() {
    let limits =
        parse("/// Bytes\n/// of a thing.\npub const A_BYTES: usize = 2 << 10;\nconst _: () = x;\n").unwrap();
    assert_eq!(limits, [Limit { name: "A_BYTES".into(), value: 2048, meaning: "Bytes of a thing.".into() }]);
}

#[test]
fn what_cannot_be_read_is_an_error() {
    for source in [
        "",
        "pub const A: usize = 1;",
        "/// Of something else.\nfn f() {}\npub const A: usize = 1;",
        "/// A.\npub const A: usize = B + 1;",
        "/// A.\npub const A: u64 = 99_999_999_999 * 99_999_999_999;",
        "/// A.\npub const A: f32 = 0.5;",
        "/// A.\npub const A;",
    ] {
        assert!(parse(source).is_err(), "{source}");
    }
}

#[test]
fn values_are_readable() {
    for (name, value, want) in [
        ("A_BYTES_MAX", 4 << 30, "4 GiB"),
        ("A_BYTES_MAX", 1536 << 10, "1536 KiB"),
        ("A_BYTES_MAX", 1000, "1000 bytes"),
        ("A_MAX", 16_384, "16,384"),
        ("A_MAX", 64, "64"),
        ("A_MAX", 1_000_000, "1,000,000"),
    ] {
        assert_eq!(shown(name, value), want);
    }
}
