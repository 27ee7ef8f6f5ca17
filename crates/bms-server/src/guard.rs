//! What keeps web pages out: where a server listens on this machine only and needs no key, a browser on this machine
//! still runs code of strangers.
//!
//! A page can point its own host name at 127.0.0.1 (DNS rebinding): then the `Host` header carries that
//! name, and only loopback names pass. A page can send requests without being able to read the answer:
//! then `Origin` or `Sec-Fetch-Site` names the page, and only reading passes. A page can embed or frame
//! what it may not read: the answer's headers forbid it.

use std::sync::LazyLock;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
pub(crate) use bms_wire::check_address;
use bms_wire::{Code, Error, Result};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header};

use crate::failure::Failure;

/// What a page served from here may do: load its own parts, talk to its own server, nothing else.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; \
     font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// Headers every answer carries.
const HEADERS: [(HeaderName, HeaderValue); 6] = [
    (header::CONTENT_SECURITY_POLICY, PAGE_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
];

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Lets a request through, or refuses it, and puts the protecting headers on the answer.
/// Where every request needs a key the host may have any name: a page that came by another has none.
pub(crate) async fn protect(State(any_host): State<bool>, request: Request, next: Next) -> Response {
    let mut response = match check(request.version(), request.method(), request.headers(), any_host) {
        Ok(()) => next.run(request).await,
        Err(error) => Failure::from(error).into_response(),
    };
    shield(response.headers_mut());
    response
}

/// Puts the protecting headers on an answer.
fn shield(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.insert(name, value);
    }
}

/// The protecting headers as lines of an answer's head.
pub(crate) fn lines() -> &'static [u8] {
    static LINES: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let line = |(name, value): (HeaderName, HeaderValue)| {
            [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat()
        };
        HEADERS.into_iter().flat_map(line).collect()
    });
    &LINES
}

/// Whether a request may be one of a page.
///
/// # Errors
/// [`Code::PermissionDenied`] when a stranger's page makes it.
pub(crate) fn check(version: Version, method: &Method, headers: &HeaderMap, any_host: bool) -> Result<()> {
    if !any_host {
        bms_wire::check_host(version, headers)?;
    }
    match *method {
        Method::GET | Method::HEAD | Method::OPTIONS => Ok(()),
        _ => check_origin(headers),
    }
}

fn check_origin(headers: &HeaderMap) -> Result<()> {
    let refusal = || {
        Error::new(Code::PermissionDenied, "a page of another origin may not change anything here")
            .hint("Use the dashboard of this server, or a client that is no browser.")
    };
    let site = headers.get(SEC_FETCH_SITE).map_or(&b"none"[..], HeaderValue::as_bytes);
    if !matches!(site, b"same-origin" | b"none") {
        return Err(refusal());
    }
    let host = headers.get(header::HOST).map_or(&b""[..], HeaderValue::as_bytes);
    let same = |origin: &HeaderValue| {
        let origin = origin.as_bytes();
        let rest = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
        rest.is_some_and(|rest| rest.eq_ignore_ascii_case(host))
    };
    match headers.get_all(header::ORIGIN).iter().all(same) {
        true => Ok(()),
        false => Err(refusal()),
    }
}

#[cfg(test)]
mod tests;
