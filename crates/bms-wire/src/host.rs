//! Who can reach a server: the address it listens on, and the host a request names.

use std::net::{IpAddr, SocketAddr};

use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Version, header};

use crate::{Code, Error, Result};

/// Refuses to listen where others than this machine's users can connect: requests carry no credentials.
///
/// # Errors
/// [`Code::PermissionDenied`] when `address` is not a loopback address.
pub fn check_address(address: SocketAddr) -> Result<()> {
    if address.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    let what = format!("`{address}` can be reached by other machines and requests are not authenticated");
    Err(Error::new(Code::PermissionDenied, what)
        .hint("Listen on 127.0.0.1 and put a proxy that authenticates in front."))
}

/// Refuses a request that does not name this machine's loopback as its host.
///
/// A page on the web can make a browser look up a name of its own as 127.0.0.1 and so reach a server that
/// listens there (DNS rebinding); its requests then still carry that name.
///
/// # Errors
/// [`Code::PermissionDenied`] for another host, [`Code::InvalidRequest`] for none or several.
pub fn check_host(version: Version, headers: &HeaderMap) -> Result<()> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if is_loopback(host) => Ok(()),
        // No browser speaks HTTP/1.0.
        (None, _) if version < Version::HTTP_11 => Ok(()),
        (Some(host), None) => {
            let what = format!("the host {host:?} is not this machine's loopback");
            Err(Error::new(Code::PermissionDenied, what).hint("Address it as localhost, 127.0.0.1 or [::1]."))
        }
        _ => Err(Error::new(Code::InvalidRequest, "a request names exactly one host")),
    }
}

fn is_loopback(host: &HeaderValue) -> bool {
    let Ok(authority) = Authority::try_from(host.as_bytes()) else { return false };
    if authority.as_str().contains('@') {
        return false;
    }
    let name = authority.host();
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    match address.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    }
}
