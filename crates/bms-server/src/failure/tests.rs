use axum::response::IntoResponse;
use bms_wire::{Code, Error, ErrorBody};
use http::header;
use http_body_util::BodyExt;

use super::Failure;

#[tokio::test]
async fn every_code_keeps_its_status_and_says_when_to_retry() {
    for &code in Code::ALL {
        let response = Failure::from(Error::new(code, "it broke").hint("Mend it.")).into_response();
        assert_eq!(response.status().as_u16(), code.http(), "{code}");
        let retry = response.headers().contains_key(header::RETRY_AFTER);
        assert_eq!(retry, code.retry() == bms_wire::Retry::Later, "{code}");
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let body: ErrorBody = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(
            (body.code, body.error.as_str(), body.hint.as_deref()),
            (code, "it broke", Some("Mend it."))
        );
    }
}

#[tokio::test]
async fn an_error_that_knows_how_long_to_wait_says_so() {
    let told = |error: Error| {
        let response = Failure::from(error).into_response();
        response.headers().get(header::RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned())
    };
    let pause = std::time::Duration::from_millis(12_300);
    assert_eq!(told(Error::new(Code::QueueFull, "full").retry_after(pause)).as_deref(), Some("13"));
    assert_eq!(told(Error::new(Code::QueueFull, "full")).as_deref(), Some("1"));
    assert_eq!(told(Error::new(Code::InvalidInput, "wrong").retry_after(pause)), None);
}
