//! How errors leave: every one as JSON, in the shape of the protocol the request spoke.

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bms_wire::{Code, Error, Retry, anthropic, openai};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};

use crate::{hub, mlflow};

/// An [`Error`] on its way out as a response: the code's status, the JSON body, and `Retry-After`
/// when sending the same request again later makes sense.
#[derive(Debug)]
pub(crate) struct Failure {
    error: Error,
    dialect: Dialect,
}

/// Whose clients read the answers of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Our own, and the Open Inference Protocol's: [`ErrorBody`](bms_wire::ErrorBody).
    Own,
    /// OpenAI's: [`openai::ErrorEnvelope`].
    OpenAi,
    /// Anthropic's: [`anthropic::ErrorEnvelope`].
    Anthropic,
    /// MLflow's.
    Mlflow,
}

impl Dialect {
    /// The one spoken at a path.
    pub(crate) fn at(path: &str) -> Self {
        match path {
            _ if path == "/v1/messages" || path.starts_with("/v1/messages/") => Dialect::Anthropic,
            "/tokenize" | "/detokenize" => Dialect::OpenAi,
            _ if path.starts_with("/v1/") => Dialect::OpenAi,
            _ if mlflow::is_path(path) => Dialect::Mlflow,
            _ => Dialect::Own,
        }
    }

    /// An error in this dialect.
    pub(crate) fn failure(self, error: Error) -> Failure {
        Failure { error, dialect: self }
    }

    /// An error as the body of an answer.
    fn body(self, error: &Error) -> http::Response<Bytes> {
        let document = match self {
            Dialect::Own => serde_json::to_vec(&error.body()),
            Dialect::OpenAi => serde_json::to_vec(&openai::ErrorEnvelope::from(error)),
            Dialect::Anthropic => serde_json::to_vec(&anthropic::ErrorEnvelope::from(error)),
            Dialect::Mlflow => serde_json::to_vec(&mlflow::failure_body(error)),
        };
        // They are texts and numbers, which can always be written.
        let mut response = http::Response::new(Bytes::from(document.unwrap_or_default()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Dialect::Own.failure(error)
    }
}

impl Failure {
    /// An answer that broke off on its way through this program.
    pub(crate) fn broken_off(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Error::new(Code::Internal, "the answer broke off").because(why).into()
    }

    /// The answer, in one piece.
    pub(crate) fn whole(self) -> http::Response<Bytes> {
        let code = self.error.code();
        if code == Code::Unavailable {
            // What a readiness probe hears while a model loads is no fault.
            tracing::debug!("not available: {}", self.error);
        } else if code.http() >= 500 {
            let cause = std::error::Error::source(&self.error).map(ToString::to_string);
            tracing::warn!(code = code.as_str(), cause, "request failed: {}", self.error);
        }
        let status = StatusCode::from_u16(code.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = self.dialect.body(&self.error);
        *response.status_mut() = status;
        if let Some(seconds) = retry_after_seconds(&self.error) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        self.whole().map(Body::from)
    }
}

/// How long a client should pause: as long as the error says; else a full queue empties in well under a second, a restart or
/// a full disk takes longer.
fn retry_after_seconds(error: &Error) -> Option<u64> {
    let usual = match (error.code().retry(), error.code()) {
        (Retry::Never, _) => return None,
        (Retry::Later, Code::QueueFull | Code::Unavailable | Code::DeadlineExceeded) => 1,
        (Retry::Later, _) => 10,
    };
    Some(error.pause().map_or(usual, |pause| pause.as_secs_f64().ceil().max(1.0) as u64))
}

/// The answer on a path nobody serves.
pub(crate) async fn no_such_route(request: Request) -> Response {
    let path = request.uri().path();
    if mlflow::is_path(path) {
        return no_such_endpoint(path);
    }
    if hub::is_path(path) {
        return hub::Refused::no_such_repository(path).into_response();
    }
    let error = Error::new(Code::NotFound, format!("there is nothing at `{path}`"))
        .hint("Models answer under /v1/ and /v2/models/, the management API lives under /api/v1/.");
    Dialect::at(path).failure(error).into_response()
}

/// As MLflow's clients expect it: they then try an older way, or say that the server lacks something.
fn no_such_endpoint(path: &str) -> Response {
    let body = serde_json::json!({
        "error_code": "ENDPOINT_NOT_FOUND",
        "message": format!("this server has no `{path}`: it serves MLflow's tracking, registry and artifacts"),
    });
    (StatusCode::NOT_FOUND, axum::Json(body)).into_response()
}

/// The answer to a method a path does not take. The table of codes has none of its own for this: it
/// is an invalid request, with the status HTTP has for it.
pub(crate) async fn no_such_method(request: Request) -> Response {
    let what = format!("`{}` cannot be used on `{}`", request.method(), request.uri().path());
    let error =
        Error::new(Code::InvalidRequest, what).hint("The `Allow` header names the methods that can be.");
    let mut response = Dialect::at(request.uri().path()).body(&error);
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response.map(Body::from)
}

#[cfg(test)]
mod tests;
