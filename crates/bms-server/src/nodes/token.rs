//! Join tokens: where the centre is, how to know it, and a secret it knows the digest of.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bms_wire::{Code, Error, Result};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// How a token begins.
const MARK: &str = "bmsw1_";
/// Characters of a token.
const CHARS_MAX: usize = 2000;
/// Bytes of its secret.
const SECRET_BYTES: usize = 32;

/// What a join token holds.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Token {
    /// `HOST:PORT` of the centre.
    pub(crate) address: String,
    /// Hex SHA-256 of its authority's public key.
    pub(crate) pin: String,
    /// The secret.
    #[serde(with = "super::secret")]
    pub(crate) secret: Zeroizing<String>,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("address", &self.address)
            .field("pin", &self.pin)
            .finish_non_exhaustive()
    }
}

impl Token {
    /// As it is handed on.
    pub(crate) fn write(&self) -> String {
        let json = Zeroizing::new(serde_json::json!(self).to_string());
        format!("{MARK}{}", URL_SAFE_NO_PAD.encode(json.as_bytes()))
    }

    /// Reads a token; white space around it is ignored.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] for what is none.
    pub(crate) fn read(text: &str) -> Result<Self> {
        let parsed = text.trim().strip_prefix(MARK).filter(|body| body.len() <= CHARS_MAX).and_then(|body| {
            let json = Zeroizing::new(URL_SAFE_NO_PAD.decode(body).ok()?);
            serde_json::from_slice::<Token>(&json).ok()
        });
        let token = parsed.ok_or_else(|| {
            Error::new(Code::InvalidRequest, "this is no join token")
                .hint("`bms node token create` at the centre prints one.")
        })?;
        super::host_and_port(&token.address)?;
        Ok(token)
    }

    /// What the centre knows of the secret.
    pub(crate) fn digest(&self) -> String {
        digest(&self.secret)
    }
}

/// What is kept of a secret. It is as long as random numbers are hard to guess, so that a plain digest says nothing of it.
pub(crate) fn digest(secret: &str) -> String {
    blake3::hash(secret.as_bytes()).to_hex().to_string()
}

/// A secret nobody can guess.
///
/// # Errors
/// [`Code::Internal`] when the system has no randomness.
pub(crate) fn fresh_secret() -> Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut *bytes)
        .map_err(|_| Error::new(Code::Internal, "the system gives no random numbers"))?;
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes)))
}

#[cfg(test)]
mod tests;
