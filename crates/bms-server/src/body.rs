//! Reading request bodies within their limits.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use bms_wire::{Code, Error, Result, limits};
use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use crate::failure::Failure;

/// How long the rest of a refused body is read and thrown away. A client that is still sending does
/// not look at the answer before it is done; closing at once would show it a reset instead.
const LINGER: Duration = Duration::from_secs(5);

/// How long a JSON document may take to arrive.
const DOCUMENT_WITHIN: Duration = Duration::from_secs(60);

/// The whole body, refused as soon as it is known to be over `limit` bytes: by its declared length
/// before a byte is read, otherwise at the byte that exceeds it. Never holds more than `limit`.
///
/// `admit` is asked before each piece is kept, with its size; an error from it ends the reading.
///
/// # Errors
/// [`Code::TooLarge`] over the limit, [`Code::InvalidRequest`] when the client stops half way, and
/// whatever `admit` returns.
pub(crate) async fn read(
    request: Request,
    limit: usize,
    mut admit: impl FnMut(usize) -> Result<()>,
) -> Result<Bytes> {
    let (parts, mut body) = request.into_parts();
    if declared_length(&parts.headers).is_some_and(|length| (limit as u64) < length) {
        linger(body);
        return Err(too_large(limit));
    }
    let mut pieces: Vec<Bytes> = Vec::new();
    let mut size = 0usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| {
            Error::new(Code::InvalidRequest, "the request's body ended before it was complete").because(e)
        })?;
        let Ok(piece) = frame.into_data() else { continue };
        size = size.saturating_add(piece.len());
        let refusal = if limit < size { Err(too_large(limit)) } else { admit(piece.len()) };
        if let Err(error) = refusal {
            linger(body);
            return Err(error);
        }
        pieces.push(piece);
    }
    Ok(join(pieces, size))
}

/// The length a request says its body has.
pub(crate) fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn join(mut pieces: Vec<Bytes>, size: usize) -> Bytes {
    if pieces.len() == 1 {
        return pieces.swap_remove(0);
    }
    let mut whole = BytesMut::with_capacity(size);
    for piece in pieces {
        whole.extend_from_slice(&piece);
    }
    whole.freeze()
}

fn too_large(limit: usize) -> Error {
    Error::new(Code::TooLarge, format!("the request's body is over the limit of {limit} bytes"))
        .hint("Send fewer or smaller inputs in one request.")
}

/// Throws the rest of a body away in the background, for a short while.
pub(crate) fn linger(mut body: Body) {
    tokio::spawn(async move {
        let rest = async { while let Some(Ok(_)) = body.frame().await {} };
        // Past the time the connection is closed, answer read or not.
        let _ = tokio::time::timeout(LINGER, rest).await;
    });
}

/// A JSON document of at most `limit` bytes.
///
/// # Errors
/// As [`read`], and [`Code::InvalidRequest`] when it is not the expected JSON.
pub(crate) async fn read_document<T: DeserializeOwned>(request: Request, limit: usize) -> Result<T> {
    let reading = read(request, limit, |_| Ok(()));
    let bytes = tokio::time::timeout(DOCUMENT_WITHIN, reading).await.map_err(|_| {
        Error::new(
            Code::DeadlineExceeded,
            format!("the request did not arrive within {} s", DOCUMENT_WITHIN.as_secs()),
        )
    })??;
    serde_json::from_slice(&bytes).map_err(|e| {
        Error::new(Code::InvalidRequest, format!("the request's body is not the expected JSON: {e}"))
            .because(e)
    })
}

/// A JSON document in a request's body, at most [`limits::CONTROL_BODY_BYTES_MAX`] long.
#[derive(Debug)]
pub(crate) struct Document<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Document<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Failure> {
        let value = read_document(request, limits::CONTROL_BODY_BYTES_MAX).await?;
        Ok(Document(value))
    }
}

/// The variable segments of the path.
#[derive(Debug)]
pub(crate) struct Segments<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Segments<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        let Path(segments) = path.map_err(|e| Error::new(Code::InvalidRequest, e.body_text()).because(e))?;
        Ok(Segments(segments))
    }
}

/// The query string.
#[derive(Debug)]
pub(crate) struct Asked<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        let Query(asked) = query.map_err(|e| Error::new(Code::InvalidRequest, e.body_text()).because(e))?;
        Ok(Asked(asked))
    }
}

#[cfg(test)]
mod tests;
