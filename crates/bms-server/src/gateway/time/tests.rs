use http::HeaderValue;

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
