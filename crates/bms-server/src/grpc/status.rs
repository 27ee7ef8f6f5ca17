//! Errors and times as gRPC has them.

use std::time::Duration;

use bms_wire::{Code, Error, ErrorBody, Result};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tonic::Status;

/// The header that says how long a call may take,
/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.
const TIMEOUT: &str = "grpc-timeout";

/// An error as the status of a call: its code by the one table of codes, its message with the advice behind it.
pub(super) fn of(error: &Error) -> Status {
    let message = match error.advice() {
        Some(advice) => format!("{}. {advice}", error.message()),
        None => error.message().to_owned(),
    };
    if error.code().http() == 500 {
        tracing::warn!(code = error.code().as_str(), "request failed: {error}");
    }
    Status::new(code(error.code()), message)
}

/// The code of the name in the table.
fn code(code: Code) -> tonic::Code {
    match code.grpc() {
        "INVALID_ARGUMENT" => tonic::Code::InvalidArgument,
        "RESOURCE_EXHAUSTED" => tonic::Code::ResourceExhausted,
        "UNAUTHENTICATED" => tonic::Code::Unauthenticated,
        "PERMISSION_DENIED" => tonic::Code::PermissionDenied,
        "NOT_FOUND" => tonic::Code::NotFound,
        "ALREADY_EXISTS" => tonic::Code::AlreadyExists,
        "FAILED_PRECONDITION" => tonic::Code::FailedPrecondition,
        "UNAVAILABLE" => tonic::Code::Unavailable,
        "DEADLINE_EXCEEDED" => tonic::Code::DeadlineExceeded,
        "UNIMPLEMENTED" => tonic::Code::Unimplemented,
        "INTERNAL" => tonic::Code::Internal,
        _ => tonic::Code::Unknown,
    }
}

/// The error a slot answered with, when it did.
pub(super) fn successful(answer: http::Response<Bytes>) -> Result<http::Response<Bytes>> {
    if answer.status() == StatusCode::OK {
        return Ok(answer);
    }
    let status = answer.status();
    Err(serde_json::from_slice::<ErrorBody>(answer.body()).map_or_else(
        |e| Error::new(Code::Internal, format!("the slot answered with status {status}")).because(e),
        Error::from,
    ))
}

/// How long a call may take.
///
/// # Errors
/// [`Code::InvalidRequest`] when it is no time.
pub(super) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>> {
    let Some(value) = headers.get(TIMEOUT) else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(|text| {
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        // The protocol has eight digits at most.
        if digits.is_empty() || 8 < digits.len() || !digits.bytes().all(|c| c.is_ascii_digit()) {
            return None;
        }
        let number: u64 = digits.parse().ok()?;
        Some(match unit {
            "H" => Duration::from_secs(number * 3600),
            "M" => Duration::from_secs(number * 60),
            "S" => Duration::from_secs(number),
            "m" => Duration::from_millis(number),
            "u" => Duration::from_micros(number),
            "n" => Duration::from_nanos(number),
            _ => return None,
        })
    });
    match parsed {
        Some(timeout) => Ok(Some(timeout)),
        None => Err(Error::new(Code::InvalidRequest, format!("`{TIMEOUT}` is no time: {value:?}"))),
    }
}

#[cfg(test)]
mod tests;
