//! What keeps web pages out: the node listens on this machine only, but a browser on this machine runs
//! code of strangers.
//!
//! A page can point its own host name at 127.0.0.1 (DNS rebinding): only loopback names pass. A page
//! can post without being able to read the answer: then `Origin` or `Sec-Fetch-Site` names it. No page
//! is served here, so whoever sends an origin is refused.

pub(crate) use bms_wire::check_address;
use bms_wire::{Code, Error, Result};
use http::{HeaderMap, HeaderValue, Method, Version, header};

/// # Errors
/// [`Code::PermissionDenied`] for a request of a web page, [`Code::InvalidRequest`] without one host.
pub(crate) fn check(method: &Method, version: Version, headers: &HeaderMap) -> Result<()> {
    bms_wire::check_host(version, headers)?;
    if matches!(*method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    let direct = |site: &HeaderValue| site.as_bytes() == b"none";
    if headers.contains_key(header::ORIGIN) || !headers.get_all("sec-fetch-site").iter().all(direct) {
        return Err(Error::new(Code::PermissionDenied, "a web page may not ask for answers here")
            .hint("Use a client that is no browser."));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
