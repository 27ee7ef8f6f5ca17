//! `/{model}/resolve/{revision}/{path}`: a file, or a range of it.

use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bms_wire::{Code, Error, Result};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::failure::Refused;
use super::{revision, shape};
use crate::api::{Api, blobs};
use crate::body::Segments;

const COMMIT: HeaderName = HeaderName::from_static("x-repo-commit");
const LINKED_TAG: HeaderName = HeaderName::from_static("x-linked-etag");
const LINKED_SIZE: HeaderName = HeaderName::from_static("x-linked-size");

/// What of a file is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    Whole,
    Part(Range<u64>),
    /// A range behind the end.
    Nothing,
}

pub(super) async fn download(
    State(api): State<Arc<Api>>,
    Segments((model, revision, path)): Segments<(String, String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let found = revision::find(&api, &model, &revision).await?;
    let file = found.version.files.iter().find(|file| file.path == path).ok_or_else(|| {
        let shown: String = path.chars().take(200).collect();
        Error::new(Code::NotFound, format!("version {} has no file `{shown}`", found.version.version))
    })?;
    let sha256 = shape::hex(&api.registry.blob_sha256(&file.blake3).await?);
    let tag = format!("\"{sha256}\"");
    let wanted = wanted(&headers, &tag, file.size);
    let bodiless = method == Method::HEAD;
    let (mut response, status, length) = match &wanted {
        Wanted::Nothing => (Body::empty().into_response(), StatusCode::RANGE_NOT_SATISFIABLE, 0),
        Wanted::Whole if bodiless => (Body::empty().into_response(), StatusCode::OK, file.size),
        Wanted::Whole => {
            (blobs::stream(api.registry.get_blob(&file.blake3).await?), StatusCode::OK, file.size)
        }
        Wanted::Part(range) => {
            let body = match bodiless {
                true => Body::empty().into_response(),
                false => blobs::stream(api.registry.get_blob_range(&file.blake3, range.clone()).await?),
            };
            (body, StatusCode::PARTIAL_CONTENT, range.end - range.start)
        }
    };
    *response.status_mut() = status;
    let place = match &wanted {
        Wanted::Whole => None,
        Wanted::Part(range) => Some(format!("bytes {}-{}/{}", range.start, range.end - 1, file.size)),
        Wanted::Nothing => Some(format!("bytes */{}", file.size)),
    };
    let headers = response.headers_mut();
    let text = |text: &str| {
        HeaderValue::from_str(text)
            .map_err(|e| Error::new(Code::Internal, "a header cannot be written").because(e))
    };
    headers.insert(COMMIT, text(&found.commit)?);
    headers.insert(header::ETAG, text(&tag)?);
    headers.insert(LINKED_TAG, text(&tag)?);
    headers.insert(LINKED_SIZE, HeaderValue::from(file.size));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if let Some(place) = place {
        headers.insert(header::CONTENT_RANGE, text(&place)?);
    }
    Ok(response)
}

/// What the headers ask for (RFC 9110, 14.2). A range of another version, several ranges, and what is not understood mean the
/// whole.
fn wanted(headers: &HeaderMap, tag: &str, size: u64) -> Wanted {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if text(header::IF_RANGE).is_some_and(|asked| asked != tag) {
        return Wanted::Whole;
    }
    let Some(range) = text(header::RANGE).and_then(|range| range.strip_prefix("bytes=")) else {
        return Wanted::Whole;
    };
    let Some((first, last)) = range.split_once('-') else { return Wanted::Whole };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let range = match (number(first), number(last)) {
        (None, Some(count)) if first.trim().is_empty() => size.saturating_sub(count)..size,
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Some(first), None) if last.trim().is_empty() => first..size,
        _ => return Wanted::Whole,
    };
    if range.start < range.end { Wanted::Part(range) } else { Wanted::Nothing }
}

#[cfg(test)]
mod tests;
