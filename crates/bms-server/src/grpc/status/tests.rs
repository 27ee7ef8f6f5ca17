use http::HeaderValue;

use super::*;

#[test]
fn every_code_of_the_table_has_a_status() {
    for &each in Code::ALL {
        assert_ne!(code(each), tonic::Code::Unknown, "{each}: {}", each.grpc());
    }
    let status = of(&Error::new(Code::QueueFull, "full").hint("Wait."));
    assert_eq!((status.code(), status.message()), (tonic::Code::ResourceExhausted, "full. Wait."));
}

#[test]
fn times_have_units() {
    let read = |text: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(TIMEOUT, HeaderValue::from_str(text).unwrap());
        timeout(&headers)
    };
    assert_eq!(read("1S").unwrap(), Some(Duration::from_secs(1)));
    assert_eq!(read("250m").unwrap(), Some(Duration::from_millis(250)));
    assert_eq!(read("99999999H").unwrap(), Some(Duration::from_secs(99_999_999 * 3600)));
    assert_eq!(timeout(&HeaderMap::new()).unwrap(), None);
    for text in ["", "S", "1", "1s", "-1S", "1.5S", "999999999S", "1 S"] {
        assert_eq!(read(text).unwrap_err().code(), Code::InvalidRequest, "{text}");
    }
}

#[test]
fn a_slots_error_is_the_callers() {
    let error = Error::new(Code::InvalidInput, "no").hint("Yes.");
    let body = serde_json::to_vec(&error.body()).unwrap();
    let answer = http::Response::builder().status(400).body(Bytes::from(body)).unwrap();
    let got = successful(answer).unwrap_err();
    assert_eq!((got.code(), got.message(), got.advice()), (Code::InvalidInput, "no", Some("Yes.")));
    let answer = http::Response::builder().status(502).body(Bytes::new()).unwrap();
    assert_eq!(successful(answer).unwrap_err().code(), Code::Internal);
}
