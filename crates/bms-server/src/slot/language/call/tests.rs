use super::{CallReader, Malformed, Told};

/// What the text tells: name, arguments, and whether it ended.
fn read(mut reader: CallReader, text: &str) -> Result<(String, String, bool), Malformed> {
    let (mut name, mut arguments, mut ended) = (String::new(), String::new(), false);
    let mut told = Vec::new();
    for c in text.chars() {
        reader.push(c, &mut told)?;
        for one in told.drain(..) {
            match one {
                Told::Begins(begun) => name = begun,
                Told::Arguments(more) => arguments.push_str(&more),
                Told::Ends => ended = true,
            }
        }
    }
    Ok((name, arguments, ended))
}

#[track_caller]
fn reads(text: &str, name: &str, arguments: &str) {
    let read = read(CallReader::of_object(), text);
    assert_eq!(read, Ok((name.to_owned(), arguments.to_owned(), true)), "{text}");
}

#[test]
fn calls_in_every_order_and_form() {
    reads(
        r#"{"name": "f", "arguments": {"a": "}\"{", "b": [1, {"c": null}]}}"#,
        "f",
        r#"{"a": "}\"{", "b": [1, {"c": null}]}"#,
    );
    reads(r#" {"arguments": {"a": 1}, "name": "f"}"#, "f", r#"{"a": 1}"#);
    reads(r#"{"name": "f", "parameters": {}}"#, "f", "{}");
    reads(r#"{"name": "f"}"#, "f", "{}");
    reads(r#"{"type": "function", "id": 7, "name": "f", "arguments": "{\"a\": 1}"}"#, "f", r#"{"a": 1}"#);
    reads(r#"{"name": "f", "arguments": null}"#, "f", "{}");
    reads("{\"name\": \"f\",\n\"arguments\": {\"a\": 1}\n}", "f", "{\"a\": 1}");
}

#[test]
fn arguments_are_told_while_they_are_written() {
    let mut reader = CallReader::of_object();
    let mut told = Vec::new();
    for c in r#"{"name": "f", "arguments": {"a"#.chars() {
        reader.push(c, &mut told).unwrap();
    }
    assert_eq!(told[0], Told::Begins("f".into()));
    assert_eq!(told.len(), 4, "{told:?}");
}

#[test]
fn bare_arguments_end_with_their_object() {
    let read = read(CallReader::of_arguments("f"), r#" {"a": {}}"#).unwrap();
    assert_eq!(read, (String::new(), r#"{"a": {}}"#.to_owned(), true));
}

#[test]
fn what_is_no_call_is_noticed() {
    for text in ["hello", "[1]", r#"{"arguments": {}}"#, r#"{name: 1}"#, r#"{"name": 7}"#] {
        assert_eq!(read(CallReader::of_object(), text), Err(Malformed), "{text}");
    }
}
