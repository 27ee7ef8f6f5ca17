use http::{HeaderName, HeaderValue};

use super::*;

#[test]
fn a_request_says_how_long_it_may_take() {
    let asked = |body: &str, head: Option<usize>| {
        let mut headers = HeaderMap::new();
        if let Some(head) = head {
            headers.insert(INFERENCE_HEADER_LENGTH, HeaderValue::from(head));
        }
        asked_for(&headers, body.as_bytes())
    };
    let json = r#"{"parameters":{"timeout":1500},"inputs":[{"name":"\"timeout\"","data":[1]}]}"#;
    assert_eq!(asked(json, None), Some(Duration::from_micros(1500)));
    assert_eq!(asked(&format!("{json}\0\0"), Some(json.len())), Some(Duration::from_micros(1500)));
    assert_eq!(asked(json, Some(json.len() + 1)), None);
    assert_eq!(asked(&format!("{json}\0\0"), None), None);
    for other in [r#"{"timeout":5}"#, r#"{"parameters":{"timeout":0}}"#, r#"{"parameters":{"timeout":-1}}"#] {
        assert_eq!(asked(other, None), None, "{other}");
    }
}

#[test]
fn nobody_allows_more_than_the_server() {
    let time = Time::of(Duration::from_secs(2));
    assert_eq!(time.within(Some(Duration::from_secs(9))).allowed(), Duration::from_secs(2));
    assert_eq!(time.within(Some(Duration::from_secs(1))).allowed(), Duration::from_secs(1));
    assert_eq!(time.within(None).allowed(), Duration::from_secs(2));
}

#[test]
fn who_talks_to_a_language_model_says_how_long_they_wait() {
    let waits = |headers: &[(&'static str, &str)], timeout: Value| {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        waits_for(&headers.iter().map(pair).collect(), &timeout)
    };
    let (read, all) = ("x-stainless-read-timeout", "x-stainless-timeout");
    assert_eq!(waits(&[], Value::Null), None);
    assert_eq!(waits(&[], 2.into()), Some(Duration::from_secs(2)));
    assert_eq!(waits(&[(read, "0.5")], Value::Null), Some(Duration::from_millis(500)));
    assert_eq!(waits(&[(read, "600.0"), (all, "60")], 90.into()), Some(Duration::from_secs(60)));
    for none in ["0", "-1", "NaN", "inf", "NOT_GIVEN", "", "1e-30"] {
        assert_eq!(waits(&[(all, none)], Value::Null), None, "{none}");
    }
    for none in [0.into(), (-1).into(), "5".into(), Value::Bool(true)] {
        assert_eq!(waits(&[], none), None);
    }
    let long = waits(&[(all, "1e18")], Value::Null);
    assert_eq!(Time::of(Duration::from_secs(2)).within(long).allowed(), Duration::from_secs(2));
}
