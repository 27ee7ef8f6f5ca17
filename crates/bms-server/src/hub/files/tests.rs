use super::*;

fn asked(range: &str, if_range: Option<&str>) -> Wanted {
    let mut headers = HeaderMap::new();
    headers.insert(header::RANGE, range.parse().unwrap());
    if let Some(tag) = if_range {
        headers.insert(header::IF_RANGE, tag.parse().unwrap());
    }
    wanted(&headers, "\"a\"", 10)
}

#[test]
fn ranges_are_read() {
    assert_eq!(wanted(&HeaderMap::new(), "\"a\"", 10), Wanted::Whole);
    for (text, expected) in [
        ("bytes=0-", Wanted::Part(0..10)),
        ("bytes=9-", Wanted::Part(9..10)),
        ("bytes=2-4", Wanted::Part(2..5)),
        ("bytes=2-99", Wanted::Part(2..10)),
        ("bytes=2-18446744073709551615", Wanted::Part(2..10)),
        ("bytes=-3", Wanted::Part(7..10)),
        ("bytes=-30", Wanted::Part(0..10)),
        ("bytes=10-", Wanted::Nothing),
        ("bytes=-0", Wanted::Nothing),
        ("bytes=4-2", Wanted::Whole),
        ("bytes=0-1,3-4", Wanted::Whole),
        ("bytes=-", Wanted::Whole),
        ("bytes=x-1", Wanted::Whole),
        ("items=0-1", Wanted::Whole),
    ] {
        assert_eq!(asked(text, None), expected, "{text}");
    }
    assert_eq!(asked("bytes=2-4", Some("\"a\"")), Wanted::Part(2..5));
    assert_eq!(asked("bytes=2-4", Some("\"b\"")), Wanted::Whole);
    assert_eq!(asked("bytes=2-4", Some("W/\"a\"")), Wanted::Whole);
}
