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
