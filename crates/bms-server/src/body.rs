//! Reading request bodies within their limits.

use std::time::Duration;

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
/// `admit` is asked before each piece is kept, with the size up to and with it; an error from it ends the
/// reading.
///
/// # Errors
/// [`Code::TooLarge`] over the limit, [`Code::InvalidRequest`] when the client stops half way, and
/// whatever `admit` returns.
pub(crate) async fn read(
    request: Request,
    limit: usize,
    mut admit: impl FnMut(usize) -> Result<()>,
) -> Result<Bytes> {
    if declared_length(request.headers()).is_some_and(|length| (limit as u64) < length) {
        linger(request);
        return Err(too_large(limit));
    }
    let (parts, mut body) = request.into_parts();
    let mut content = Content::Empty;
    let mut size = 0usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| {
            Error::new(Code::InvalidRequest, "the request's body ended before it was complete").because(e)
        })?;
        let Ok(piece) = frame.into_data() else { continue };
        size = size.saturating_add(piece.len());
        let refusal = if limit < size { Err(too_large(limit)) } else { admit(size) };
        if let Err(error) = refusal {
            linger(Request::from_parts(parts, body));
            return Err(error);
        }
        content = content.with(piece);
    }
    Ok(content.into_bytes())
}

/// What has arrived of a body. The usual one comes in one piece and is never copied.
enum Content {
    Empty,
    One(Bytes),
    /// Copied together: many small pieces would each keep a whole receive buffer alive.
    Many(BytesMut),
}

impl Content {
    fn with(self, piece: Bytes) -> Self {
        match self {
            Content::Empty => Content::One(piece),
            Content::One(first) => {
                let mut all = BytesMut::with_capacity(2 * (first.len() + piece.len()));
                all.extend_from_slice(&first);
                Content::Many(all).with(piece)
            }
            Content::Many(mut all) => {
                all.extend_from_slice(&piece);
                Content::Many(all)
            }
        }
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Content::Empty => Bytes::new(),
            Content::One(bytes) => bytes,
            Content::Many(bytes) => bytes.freeze(),
        }
    }
}

/// The length a request says its body has.
pub(crate) fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_large(limit: usize) -> Error {
    Error::new(Code::TooLarge, format!("the request's body is over the limit of {limit} bytes"))
        .hint("Send fewer or smaller inputs in one request.")
}

/// Throws the rest of a refused request's body away in the background, for a short while.
pub(crate) fn linger(request: Request) {
    // Such a client waits for the answer before it sends; reading on would invite it to.
    if request.headers().contains_key(header::EXPECT) {
        return;
    }
    let mut body = request.into_body();
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
    let bytes = read_document_bytes(request, limit).await?;
    serde_json::from_slice(&bytes).map_err(|e| {
        Error::new(Code::InvalidRequest, format!("the request's body is not the expected JSON: {e}"))
            .because(e)
    })
}

/// The bytes of a document of at most `limit` bytes.
///
/// # Errors
/// As [`read`], and [`Code::DeadlineExceeded`] when it does not arrive in time.
pub(crate) async fn read_document_bytes(request: Request, limit: usize) -> Result<Bytes> {
    let reading = read(request, limit, |_| Ok(()));
    tokio::time::timeout(DOCUMENT_WITHIN, reading).await.map_err(|_| {
        Error::new(
            Code::DeadlineExceeded,
            format!("the request did not arrive within {} s", DOCUMENT_WITHIN.as_secs()),
        )
    })?
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
