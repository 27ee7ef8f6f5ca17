use super::*;

fn of(version: u64) -> VersionName {
    VersionName { model: "m".to_owned(), version }
}

#[test]
fn whatever_differs_is_another_request() {
    let json = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    let plain = digest(&of(1), "", &json, b"body", "");
    assert_eq!(digest(&of(1), "", &json, b"body", ""), plain);
    let mut tracing = json.clone();
    tracing.insert("traceparent", HeaderValue::from_static("00-1"));
    assert_eq!(digest(&of(1), "", &tracing, b"body", ""), plain, "a slot does not see it");
    for other in [
        digest(&of(2), "", &json, b"body", ""),
        digest(&of(1), "e", &json, b"body", ""),
        digest(&of(1), "", &HeaderMap::new(), b"body", ""),
        digest(&of(1), "", &json, b"body ", ""),
        digest(&of(1), "", &json, b"body", "a"),
        digest(&VersionName { model: "mm".to_owned(), version: 1 }, "", &json, b"body", ""),
    ] {
        assert_ne!(other, plain);
    }
}

#[test]
fn callers_may_want_an_answer_of_their_own() {
    for said in ["no-cache", "max-age=0, No-Store"] {
        assert!(refuses(&HeaderValue::from_static(said)), "{said}");
    }
    for said in ["max-age=60", "", "no-cache-please"] {
        assert!(!refuses(&HeaderValue::from_static(said)), "{said}");
    }
}

#[test]
fn memory_is_bounded() {
    let settings = CacheSettings { memory: 100 << 10, age: Duration::from_secs(60), models: Vec::new() };
    let answers = Answers::new(settings);
    for number in 0..1000_u16 {
        let mut key = [0; 32];
        key[..2].copy_from_slice(&number.to_le_bytes());
        let answer = Answer::Whole(Response::new(Bytes::from(vec![0; 4096])));
        answers.kept.insert(key, Kept { at: Instant::now(), of: of(1), answer });
    }
    assert!(answers.bytes() <= 100 << 10, "{}", answers.bytes());
    assert!(50 << 10 <= answers.bytes(), "{}", answers.bytes());
}
