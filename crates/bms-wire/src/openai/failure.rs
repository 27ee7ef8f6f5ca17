//! Errors in OpenAI's form.

use serde::{Deserialize, Serialize};

use crate::{Code, Error};

/// The body of a failed request, or of an event that ends a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorEnvelope {
    /// What failed.
    pub error: ErrorDetail,
}

/// What failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// For people, with advice when there is some.
    pub message: String,
    /// The kind, as OpenAI's clients tell errors apart.
    #[serde(rename = "type")]
    pub kind: String,
    /// The field at fault.
    pub param: Option<String>,
    /// The code of [`Code`], or OpenAI's own where it has one for the same thing.
    pub code: Option<String>,
}

impl From<&Error> for ErrorEnvelope {
    fn from(error: &Error) -> Self {
        let message = match error.advice() {
            Some(advice) => format!("{error}. {advice}"),
            None => error.to_string(),
        };
        let code = match error.code() {
            Code::QueueFull | Code::RateLimited => "rate_limit_exceeded",
            code => code.as_str(),
        };
        ErrorEnvelope {
            error: ErrorDetail {
                message,
                kind: error_type(error.code()).to_owned(),
                param: error.field().map(str::to_owned),
                code: Some(code.to_owned()),
            },
        }
    }
}

impl ErrorEnvelope {
    /// The error it tells of: with its own code where it is one of ours, otherwise with this one.
    pub fn into_error(self, otherwise: Code) -> Error {
        let own = self.error.code.as_deref().and_then(Code::from_wire);
        let error = Error::new(own.unwrap_or(otherwise), self.error.message);
        match self.error.param {
            Some(field) => error.about(field),
            None => error,
        }
    }
}

/// OpenAI's name for the kind of error a code is.
pub fn error_type(code: Code) -> &'static str {
    match code.http() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    }
}
