//! Files by digest: uploaded before the version that names them, downloaded by edge nodes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bms_registry::BlobReader;
use bms_wire::{Code, Error, Result, limits};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Frame;
use serde::Serialize;
use tokio::sync::mpsc;

use super::Api;
use crate::body::{self, Segments};
use crate::failure::Failure;

/// How long a client may stay silent during an upload.
pub(crate) const STALL: Duration = Duration::from_secs(30);
/// Parts read ahead of a client that downloads.
const PARTS_AHEAD: usize = 1;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/blobs/{blake3}", get(download).head(exists).put(upload))
}

/// Those of the routes that read.
pub(super) fn reading() -> Router<Arc<Api>> {
    Router::new().route("/blobs/{blake3}", get(download))
}

#[derive(Debug, Serialize)]
struct Stored {
    blake3: String,
    size: u64,
}

async fn upload(
    State(api): State<Arc<Api>>,
    Segments(blake3): Segments<String>,
    request: Request,
) -> Result<axum::Json<Stored>, Failure> {
    if body::declared_length(request.headers()).is_some_and(|length| limits::BLOB_BYTES_MAX < length) {
        body::linger(request);
        let what = format!("the file is over the limit of {} bytes", limits::BLOB_BYTES_MAX);
        return Err(Error::new(Code::TooLarge, what).into());
    }
    let (parts, mut body) = request.into_parts();
    let size = body::declared_length(&parts.headers);
    let stored = receive(&api, &blake3, size, &mut body).await;
    if stored.is_err() {
        body::linger(Request::from_parts(parts, body));
    }
    Ok(axum::Json(Stored { size: stored?, blake3 }))
}

async fn receive(api: &Api, blake3: &str, size: Option<u64>, body: &mut Body) -> Result<u64> {
    let mut upload = api.registry.upload_blob(blake3, size)?;
    loop {
        let frame = tokio::time::timeout(STALL, body.frame()).await.map_err(|_| {
            Error::new(Code::DeadlineExceeded, format!("no byte of the file came for {} s", STALL.as_secs()))
        })?;
        let Some(frame) = frame else { return upload.finish().await };
        let frame = frame.map_err(|e| {
            Error::new(Code::InvalidRequest, "the file ended before it was complete").because(e)
        })?;
        if let Ok(part) = frame.into_data() {
            upload.write(&part).await?;
        }
    }
}

async fn exists(
    State(api): State<Arc<Api>>,
    Segments(blake3): Segments<String>,
) -> Result<StatusCode, Failure> {
    match api.registry.has_blob(&blake3).await? {
        true => Ok(StatusCode::OK),
        false => Err(Error::new(Code::NotFound, format!("the store holds no file `{blake3}`")).into()),
    }
}

async fn download(
    State(api): State<Arc<Api>>,
    Segments(blake3): Segments<String>,
) -> Result<Response, Failure> {
    Ok(stream(api.registry.get_blob(&blake3).await?))
}

/// A file of the store as an answer.
pub(crate) fn stream(reader: BlobReader) -> Response {
    let size = reader.size();
    let mut response = Body::new(Parts::of(reader)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    // Whatever the file is, a browser shall save it and not show it.
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    response
}

/// A file of the store as a response's body. A file that turns out to be rotten ends the body early, so
/// that its length is wrong and the client notices.
struct Parts(mpsc::Receiver<Result<Bytes>>);

impl Parts {
    fn of(mut reader: BlobReader) -> Self {
        let (sender, receiver) = mpsc::channel(PARTS_AHEAD);
        tokio::spawn(async move {
            while let Some(part) = reader.next().await.transpose() {
                let is_last = part.is_err();
                // A client that has left ends the reading.
                if sender.send(part).await.is_err() || is_last {
                    break;
                }
            }
        });
        Parts(receiver)
    }
}

impl hyper::body::Body for Parts {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        self.0.poll_recv(context).map(|part| part.map(|part| part.map(Frame::data)))
    }
}
