//! How errors leave: every one as the protocol's JSON [`ErrorBody`](bms_wire::ErrorBody).

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bms_wire::{Code, Error, Retry};
use http::{HeaderValue, StatusCode, header};

/// An [`Error`] on its way out as a response: the code's status, the JSON body, and `Retry-After`
/// when sending the same request again later makes sense.
#[derive(Debug)]
pub(crate) struct Failure(Error);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let code = self.0.code();
        if code == Code::Unavailable {
            // What a readiness probe hears while a model loads is no fault.
            tracing::debug!("not available: {}", self.0);
        } else if code.http() >= 500 {
            let cause = std::error::Error::source(&self.0).map(ToString::to_string);
            tracing::warn!(code = code.as_str(), cause, "request failed: {}", self.0);
        }
        let status = StatusCode::from_u16(code.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(self.0.body())).into_response();
        if let Some(seconds) = retry_after_seconds(code) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// How long a client should pause: a full queue empties in well under a second, a restart or a full
/// disk takes longer.
fn retry_after_seconds(code: Code) -> Option<u32> {
    match (code.retry(), code) {
        (Retry::Never, _) => None,
        (Retry::Later, Code::QueueFull | Code::Unavailable | Code::DeadlineExceeded) => Some(1),
        (Retry::Later, _) => Some(10),
    }
}

/// The answer on a path nobody serves.
pub(crate) async fn no_such_route(request: Request) -> Failure {
    Error::new(Code::NotFound, format!("there is nothing at `{}`", request.uri().path()))
        .hint("Models answer under /v2/models/, the management API lives under /api/v1/.")
        .into()
}

/// The answer to a method a path does not take. The table of codes has none of its own for this: it
/// is an invalid request, with the status HTTP has for it.
pub(crate) async fn no_such_method(request: Request) -> Response {
    let what = format!("`{}` cannot be used on `{}`", request.method(), request.uri().path());
    let body = Error::new(Code::InvalidRequest, what)
        .hint("The `Allow` header names the methods that can be.")
        .body();
    (StatusCode::METHOD_NOT_ALLOWED, axum::Json(body)).into_response()
}

#[cfg(test)]
mod tests;
