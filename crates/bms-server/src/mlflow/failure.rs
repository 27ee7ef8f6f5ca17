//! Errors as MLflow's clients read them: `{"error_code": …, "message": …}`.

use axum::response::{IntoResponse, Response};
use bms_wire::{Code, Error};
use serde_json::{Value, json};

use crate::failure::Dialect;

/// Whether MLflow's clients read what comes from a path.
pub(crate) fn is_path(path: &str) -> bool {
    ["/api/2.0/mlflow", "/api/3.0/mlflow"].iter().any(|prefix| path.starts_with(prefix))
}

/// The body of an answer that says what failed. A path that is not served has no method either.
pub(crate) fn body(error: &Error) -> Value {
    let message = match error.advice() {
        Some(hint) => format!("{}. {hint}", error.message()),
        None => error.message().to_owned(),
    };
    json!({ "error_code": code(error.code()), "message": message, "bms_code": error.code().as_str() })
}

/// The name of `databricks.proto` for a code.
fn code(code: Code) -> &'static str {
    match code {
        Code::NotFound | Code::ModelNotFound | Code::VersionNotFound => "RESOURCE_DOES_NOT_EXIST",
        Code::Conflict => "RESOURCE_ALREADY_EXISTS",
        Code::InvalidRequest | Code::InvalidInput | Code::TooLarge => "INVALID_PARAMETER_VALUE",
        Code::InvalidBundle | Code::UnsupportedModel | Code::QualityRefused => "INVALID_STATE",
        Code::Unauthenticated => "UNAUTHENTICATED",
        Code::PermissionDenied
        | Code::Tampered
        | Code::SignatureMissing
        | Code::SignatureInvalid
        | Code::SignerUntrusted
        | Code::MaliciousContent
        | Code::FormatDenied => "PERMISSION_DENIED",
        Code::QueueFull => "REQUEST_LIMIT_EXCEEDED",
        Code::Unavailable => "TEMPORARILY_UNAVAILABLE",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::StorageFull => "RESOURCE_EXHAUSTED",
        _ => "INTERNAL_ERROR",
    }
}

/// An error on its way to a client of MLflow.
#[derive(Debug)]
pub(crate) struct Refused(Error);

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Refused(error)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        Dialect::Mlflow.failure(self.0).into_response()
    }
}
