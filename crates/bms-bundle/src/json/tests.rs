use super::*;

#[test]
fn a_repeated_key_is_an_error_even_when_escaped() {
    for text in [r#"{"a":1,"a":2}"#, r#"{"a":1,"\u0061":2}"#, r#"[{"x":{"a":1,"a":1}}]"#] {
        let error = Json::parse(text.as_bytes()).expect_err(text);
        assert!(error.to_string().contains(REPEATED_KEY), "{error}");
    }
}

#[test]
fn values_keep_their_order() {
    let value = Json::parse(br#"{"b":[1,"x",-1,null],"a":{}}"#).unwrap();
    let expected = vec![Json::Unsigned(1), Json::Text("x".into()), Json::Other, Json::Other];
    assert_eq!(value.members()[0], ("b".to_owned(), Json::Array(expected)));
    assert_eq!(value.get("a"), Some(&Json::Object(vec![])));
}

#[test]
fn deep_nesting_is_an_error_and_not_a_crash() {
    assert!(Json::parse("[".repeat(100_000).as_bytes()).is_err());
}
