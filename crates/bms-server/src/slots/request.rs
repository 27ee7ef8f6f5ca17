//! Requests as slots get them.

use bms_wire::oip::binary;
use bms_wire::{Code, Error, Result};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, header};
use http_body_util::Full;

use super::VersionName;

/// Says where the JSON part of a body with binary tensors ends.
pub(crate) const INFERENCE_HEADER_LENGTH: HeaderName = HeaderName::from_static(binary::HEADER_LENGTH);
/// Headers that mean something to whoever runs a model. Others, a caller's key above all, are not for it.
pub(crate) const REQUEST_HEADERS: [HeaderName; 3] =
    [header::CONTENT_TYPE, header::ACCEPT, INFERENCE_HEADER_LENGTH];

/// The operation that is inference.
pub(crate) const INFER: &str = "/infer";

/// Inference with a version of a model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inference<'a> {
    pub(crate) of: &'a VersionName,
    /// Those of the client's request.
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a Bytes,
}

impl Inference<'_> {
    /// As a request of its own.
    ///
    /// # Errors
    /// [`Code::Internal`] for a version whose name cannot stand in a path.
    pub(super) fn request(&self) -> Result<Request<Full<Bytes>>> {
        for_slot(Method::POST, &of_version(self.of, INFER), self.headers, self.body.clone())
    }
}

/// The path of an operation of a version.
pub(crate) fn of_version(of: &VersionName, operation: &str) -> String {
    format!("/v2/models/{}/versions/{}{operation}", of.model, of.version)
}

/// The model, and the version if one is named, of which a path asks inference: what the routes of the protocol find in it.
pub(crate) fn inferring(path: &str) -> Option<(&str, Option<&str>)> {
    let named = path.strip_prefix("/v2/models/")?.strip_suffix(INFER)?;
    let (model, version) = match named.split_once('/') {
        Some((model, rest)) => (model, Some(rest.strip_prefix("versions/")?)),
        None => (named, None),
    };
    let are_segments = !model.is_empty() && version.is_none_or(|v| !v.is_empty() && !v.contains('/'));
    are_segments.then_some((model, version))
}

/// A request as a slot gets it.
pub(crate) fn for_slot(
    method: Method,
    path: &str,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<Request<Full<Bytes>>> {
    let request = Request::builder().method(method).uri(path).header(header::HOST, "slot");
    let mut request = request
        .body(Full::new(body))
        .map_err(|e| Error::new(Code::Internal, "the request cannot be forwarded").because(e))?;
    request.headers_mut().extend(forwarded(headers));
    Ok(request)
}

/// What a slot gets of a request's headers. What is kept of a request has no others: a caller's key is not for keeping.
pub(crate) fn forwarded(headers: &HeaderMap) -> HeaderMap {
    let known = |name: HeaderName| headers.get(&name).map(|value| (name, value.clone()));
    REQUEST_HEADERS.into_iter().filter_map(known).collect()
}

#[cfg(test)]
mod tests;
