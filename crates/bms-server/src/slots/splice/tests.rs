use serde_json::{Value, json};

use super::{field, fields, replaced, set};

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
        "",
        " ",
        "{",
        "{}",
        "[]",
        "null",
        "\"model\"",
        r#"{"models":1}"#,
        r#"{"x":{"model":1}}"#,
        r#"{"model""#,
        r#"{"model":"#,
        r#"{"model":"a"#,
        r#"{"model":[1"#,
        r#"{"x" 1,"model":2}"#,
        r#"{"x":,"model":2}"#,
        r#"{"x":1 "model":2}"#,
        r#"{x:1,"model":2}"#,
        "{\"x\\",
        r#"[{"model":1}]"#,
    ] {
        check(document, "model", None);
    }
}

#[test]
fn a_value_is_replaced_and_nothing_else() {
    let document =
        json!({ "id": 1, "model": "gpt", "choices": [{ "model": "inner", "text": "{\"model\":\"x\"}" }] });
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

/// A small generator of numbers, so that a failure can be seen again.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % limit
    }
}

#[test]
fn whatever_comes_in_nothing_breaks_and_documents_stay_documents() {
    let parts = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"model\"",
        "\"mod\\u0065l\"",
        "\"a\\\"b\"",
        "\"\\\\\"",
        "1",
        "-0.5e9",
        "null",
        " ",
        "\n",
        "\"",
        "\\",
        "{\"model\":",
        "\"x\":",
        "\u{e9}",
    ];
    let mut numbers = Numbers(7);
    let mut documents = 0;
    for _ in 0..200_000 {
        let mut one = |of: &[&'static str]| of[numbers.below(of.len())];
        let mut fields = String::new();
        for at in 0..3 {
            let comma = if at == 0 { "" } else { one(&[",", " , ", "", "},{"]) };
            fields += &[comma, one(&parts[6..10]), ":", one(&parts), one(&["", "", "7", "]}"])].concat();
        }
        let text = format!("{{{fields}}}");
        let set = set(text.as_bytes(), "model", b"7");
        let Ok(Value::Object(mut expected)) = serde_json::from_str::<Value>(&text) else { continue };
        documents += 1;
        let found = field(text.as_bytes(), "model").map(|range| text[range].to_owned());
        assert_eq!(found.is_some(), expected.contains_key("model"), "{text}");
        // Of two fields of a name the last counts there, and the first is what is replaced here.
        if text.matches("mod").count() < 2 {
            expected.insert("model".into(), json!(7));
            let out: Value = serde_json::from_slice(&set.unwrap()).unwrap();
            assert_eq!(out, Value::Object(expected), "{text}");
        }
    }
    assert!(100 < documents, "{documents}");
}

#[test]
fn all_fields_are_listed_as_they_are_written() {
    let document = br#"{ "a":1 , "b" : {"c":[2, 3]},"a":"}" }"#;
    let listed = fields(document).unwrap();
    let listed: Vec<_> = listed.into_iter().map(|(name, value)| [name, value].map(str::from_utf8)).collect();
    let expected = [[r#""a""#, "1"], [r#""b""#, r#"{"c":[2, 3]}"#], [r#""a""#, r#""}""#]];
    assert_eq!(listed, expected.map(|field| field.map(Ok)));
    assert_eq!(fields(b"{}"), Some(Vec::new()));
    for broken in [&b""[..], b"[]", br#"{"a":1"#, br#"{"a":1]"#, br#"{"a" 1}"#] {
        assert_eq!(fields(broken), None, "{}", String::from_utf8_lossy(broken));
    }
}
