use super::*;

#[track_caller]
fn check(input: &str, want: &str) {
    let value: Value = serde_json::from_str(input).unwrap();
    assert_eq!(json(&value), want);
}

#[test]
fn keys_are_sorted_at_every_depth() {
    check(r#"{ "b": [ {"z":1, "a":2} ], "a": null }"#, r#"{"a":null,"b":[{"a":2,"z":1}]}"#);
}

#[test]
fn strings_are_escaped_and_numbers_kept() {
    check(
        r#"["\u0007\"\\é",-1,18446744073709551615,0.5,true,{},[]]"#,
        r#"["\u0007\"\\é",-1,18446744073709551615,0.5,true,{},[]]"#,
    );
}
