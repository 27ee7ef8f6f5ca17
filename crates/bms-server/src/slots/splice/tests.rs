use serde_json::{Value, json};

use super::{field, replaced, set};

#[track_caller]
fn check(document: &str, key: &str, expected: Option<&str>) {
    let found = field(document.as_bytes(), key).map(|range| &document[range]);
    assert_eq!(found, expected, "{document}");
}

#[test]
fn a_field_of_the_outermost_object_is_found() {
    check(r#"{"model":"a"}"#, "model", Some(r#""a""#));
    check(" {\n\t\"x\" : [1, {\"model\": 2}, \"]\"] , \"model\" : 7 }", "model", Some("7"));
    check(r#"{"model":{"model":[]}}"#, "model", Some(r#"{"model":[]}"#));
    check(r#"{"a":"\"model\":1","model":null,"b":true}"#, "model", Some("null"));
    check(r#"{"a":"\\","model":-1.5e3}"#, "model", Some("-1.5e3"));
    check(r#"{"mod\u0065l":"a"}"#, "model", Some(r#""a""#));
    check(r#"{"model":1,"model":2}"#, "model", Some("1"));
}

#[test]
fn what_is_not_there_or_no_document_is_not_found() {
    for document in [
        "", " ", "{", "{}", "[]", "null", "\"model\"", r#"{"models":1}"#, r#"{"x":{"model":1}}"#, r#"{"model""#,
        r#"{"model":"#, r#"{"model":"a"#, r#"{"model":[1"#, r#"{"x" 1,"model":2}"#, r#"{"x":,"model":2}"#,
        r#"{"x":1 "model":2}"#, r#"{x:1,"model":2}"#, "{\"x\\", r#"[{"model":1}]"#,
    ] {
        check(document, "model", None);
    }
}

#[test]
fn a_value_is_replaced_and_nothing_else() {
    let document = json!({ "id": 1, "model": "gpt", "choices": [{ "model": "inner", "text": "{\"model\":\"x\"}" }] });
    let out = replaced(document.to_string().as_bytes(), "model", br#""m@1""#).unwrap();
    let mut expected = document;
    expected["model"] = json!("m@1");
    assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), expected);
    assert_eq!(replaced(b"{}", "model", b"1"), None);
}

#[test]
fn a_value_that_is_missing_is_added() {
    assert_eq!(set(b"{}", "model", b"1").unwrap(), br#"{"model":1}"#);
    assert_eq!(set(b" { \"a\":2}", "model", b"1").unwrap(), b" {\"model\":1, \"a\":2}");
    assert_eq!(set(b"{\"model\":0}", "model", b"1").unwrap(), b"{\"model\":1}");
    assert_eq!(set(b"[]", "model", b"1"), None);
    assert_eq!(set(b"{", "model", b"1"), None);
}
