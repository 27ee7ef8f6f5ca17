//! Who makes a request: the name of its key. Where requests need no key it is who the request says, which nobody has verified.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use bms_wire::api::PERSON_HEADER;
use http::HeaderMap;
use http::request::Parts;

/// The name in the header [`PERSON_HEADER`], empty when there is none.
#[derive(Debug)]
pub(crate) struct Person(pub(crate) String);

impl Person {
    /// The name as it is recorded.
    pub(crate) fn said(&self) -> &str {
        match self.0.is_empty() {
            true => "unknown",
            false => &self.0,
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Person {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Person(named(&parts.headers).unwrap_or_default()))
    }
}

/// The name in the header. It is percent-encoded: headers hold ASCII, and names do not.
pub(crate) fn named(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(PERSON_HEADER)?.as_bytes();
    let mut bytes = Vec::with_capacity(value.len());
    let mut at = 0;
    while at < value.len() {
        let hex = value.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match (value[at], hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                at += 3;
            }
            (byte, _) => {
                bytes.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(bytes).ok().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests;
