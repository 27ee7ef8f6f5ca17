use super::*;

#[test]
fn names_are_lower_case_words() {
    for good in ["digits", "a", "0", "resnet-50_v1.5"] {
        check_name("model name", good).unwrap();
    }
    let long = "a".repeat(limits::NAME_CHARS_MAX + 1);
    for bad in ["", ".", "..", "-a", "_a", "A", "a/b", "a b", "a\0", "数字", "é", long.as_str()] {
        let error = check_name("model name", bad).unwrap_err();
        assert_eq!(error.code(), Code::InvalidRequest, "{bad:?}");
    }
    check_name("model name", &long[1..]).unwrap();
}

#[test]
fn aliases_cannot_be_mistaken_for_versions() {
    check_alias("production").unwrap();
    check_alias("v2").unwrap();
    for bad in ["latest", "3", "007", "Production"] {
        assert!(check_alias(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn digests_are_64_lower_case_hex_digits() {
    check_digest(&"0a".repeat(32)).unwrap();
    for bad in
        [String::new(), "0A".repeat(32), "0g".repeat(32), "0a".repeat(31), "0a".repeat(33), "../".repeat(22)]
    {
        assert!(check_digest(&bad).is_err(), "{bad:?}");
    }
}
