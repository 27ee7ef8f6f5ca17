//! A secret that a source asks for, and to whom it may be shown.

use bms_wire::{Code, Error, Result};
use url::Url;

/// A bearer token. It never prints.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when it is empty, or cannot stand in a header.
    pub fn new(text: &str) -> Result<Token> {
        let text = text.trim();
        match !text.is_empty() && text.len() <= 16 << 10 && text.bytes().all(|c| c.is_ascii_graphic()) {
            true => Ok(Token(text.to_owned())),
            false => {
                Err(Error::new(Code::InvalidRequest, "the token is empty or holds impossible characters"))
            }
        }
    }

    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A token and the one place it is for.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    token: Token,
    /// An address there.
    origin: Url,
}

impl Scope {
    pub(crate) fn new(token: Token, origin: &Url) -> Scope {
        Scope { token, origin: origin.clone() }
    }

    /// The header for a request to `url`: only when scheme, host and port are the same.
    pub(crate) fn header(&self, url: &Url) -> Option<String> {
        (self.origin.origin() == url.origin()).then(|| self.token.bearer())
    }
}
