//! Errors in Anthropic's form.

use serde::{Deserialize, Serialize};

use crate::{Code, Error};

/// The body of a failed request, or of an event that ends a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorEnvelope {
    /// Always `error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What failed.
    pub error: ErrorDetail,
}

/// What failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// The kind, as Anthropic's clients tell errors apart.
    #[serde(rename = "type")]
    pub kind: String,
    /// For people, with advice when there is some.
    pub message: String,
}

impl From<&Error> for ErrorEnvelope {
    fn from(error: &Error) -> Self {
        let message = match error.advice() {
            Some(advice) => format!("{error}. {advice}"),
            None => error.to_string(),
        };
        ErrorEnvelope {
            kind: "error".to_owned(),
            error: ErrorDetail { kind: error_type(error.code()).to_owned(), message },
        }
    }
}

/// Anthropic's name for the kind of error a code is.
pub fn error_type(code: Code) -> &'static str {
    match code.http() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        503 => "overloaded_error",
        504 => "timeout_error",
        _ => "api_error",
    }
}
