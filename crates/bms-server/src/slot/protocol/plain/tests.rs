use super::*;

#[track_caller]
fn check(headers: &[(&'static str, &'static str)], brings_plain: bool, wants_picture: bool) {
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), http::HeaderValue::from_static(value)))
        .collect();
    assert_eq!(Manner::of(&headers), Manner { brings_plain, wants_picture });
}

#[test]
fn manners() {
    check(&[], false, false);
    check(&[("content-type", "application/json"), ("accept", "*/*")], false, false);
    check(&[("content-type", "application/json"), ("accept", "image/png")], false, true);
    check(&[("content-type", "Image/JPEG")], true, false);
    check(&[("content-type", "text/plain; charset=utf-8"), ("accept", "application/json")], true, false);
    check(&[("content-type", "application/octet-stream")], true, false);
    let length = ("inference-header-content-length", "10");
    check(&[("content-type", "application/octet-stream"), length], false, false);
    check(&[("content-type", "image/png"), ("accept", "image/png;q=1, */*")], true, true);
}
