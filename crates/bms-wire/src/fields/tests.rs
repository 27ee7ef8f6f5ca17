use serde_json::json;

use super::Fields;
use crate::Code;

fn fields(value: serde_json::Value) -> Fields {
    Fields::of(value, "").unwrap()
}

#[test]
fn a_refusal_names_the_field() {
    let mut body = fields(json!({"temperature": "hot", "options": {"n": 3.5}, "top_p": 2, "x": null}));
    assert_eq!(body.number("temperature", 0.0..=2.0).unwrap_err().field(), Some("temperature"));
    assert_eq!(body.number("top_p", 0.0..=1.0).unwrap_err().field(), Some("top_p"));
    let mut options = body.nested("options").unwrap().unwrap();
    assert_eq!(options.whole("n", 0..=9).unwrap_err().field(), Some("options.n"));
    assert_eq!(body.text("x").unwrap(), None);
    assert_eq!(Fields::parse(b"[1]").unwrap_err().code(), Code::InvalidRequest);
}

#[test]
fn what_was_not_read_is_refused_unless_it_is_harmless_or_null() {
    let body = fields(json!({"metadata": {"a": "b"}, "nothing": null}));
    body.clone().end(&["metadata"]).unwrap();
    assert_eq!(body.end(&[]).unwrap_err().field(), Some("metadata"));
}

#[test]
fn whole_numbers_may_be_written_with_a_point() {
    let mut body = fields(json!({"a": 3.0, "b": 3.25, "c": 1e300}));
    assert_eq!(body.count("a", 0..=10).unwrap(), Some(3));
    assert!(body.count("b", 0..=10).is_err());
    assert!(body.count("c", 0..=10).is_err());
}

#[test]
fn values_that_change_nothing_pass() {
    let mut body = fields(json!({"store": false, "best_of": 2}));
    body.only("store", &[json!(false)], "is not kept").unwrap();
    assert_eq!(body.only("best_of", &[json!(1)], "is not supported").unwrap_err().field(), Some("best_of"));
}
