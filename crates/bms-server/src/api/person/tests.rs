use http::HeaderValue;

use super::*;

#[track_caller]
fn check(header: &'static [u8], want: Option<&str>) {
    let mut headers = HeaderMap::new();
    headers.insert(PERSON_HEADER, HeaderValue::from_bytes(header).unwrap());
    assert_eq!(named(&headers).as_deref(), want);
}

#[test]
fn names_come_percent_encoded() {
    check(b"Ada", Some("Ada"));
    check(b"%E7%8E%8B%E8%8A%B3", Some("王芳"));
    check(b"100%", Some("100%"));
    check(b"a%2", Some("a%2"));
    check(b"%FF", None);
    check(b" %20 ", None);
    assert_eq!(named(&HeaderMap::new()), None);
}
