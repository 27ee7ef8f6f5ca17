//! What a key's secret looks like: `bms_`, ten digits by which the key is known, `_`, and 256 random bits, all in small hexadecimal digits.

use bms_wire::{Code, Error, Result};

/// What a secret begins with, so that it is found where it should not be.
const PREFIX: &str = "bms_";
/// Random bytes of the part by which a key is known.
const ID_BYTES: usize = 5;
/// Random bytes of the rest.
const SECRET_BYTES: usize = 32;
/// Characters of a key's identifier, with which its secret begins.
pub const KEY_ID_CHARS: usize = PREFIX.len() + 2 * ID_BYTES;

/// A whole secret. It does not print.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(String);

impl Secret {
    pub(super) fn random() -> Result<Self> {
        Ok(Secret(format!("{PREFIX}{}_{}", random_hex::<ID_BYTES>()?, random_hex::<SECRET_BYTES>()?)))
    }

    /// The secret in a text; space around it does not count.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] for what is no secret. The message does not repeat the text.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let parts = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_'));
        let is_hex = |part: &str, bytes: usize| {
            part.len() == 2 * bytes && part.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
        };
        match parts {
            Some((id, rest)) if is_hex(id, ID_BYTES) && is_hex(rest, SECRET_BYTES) => {
                Ok(Secret(text.to_owned()))
            }
            _ => {
                let what = format!(
                    "it is not `{PREFIX}`, {} hexadecimal digits, `_` and {} more, all small",
                    2 * ID_BYTES,
                    2 * SECRET_BYTES
                );
                Err(Error::new(Code::InvalidRequest, what).hint(format!(
                    "Make one with: echo {PREFIX}$(openssl rand -hex {ID_BYTES})_$(openssl rand -hex {SECRET_BYTES})"
                )))
            }
        }
    }

    /// The part by which the key is known, and which may be shown.
    pub(super) fn id(&self) -> &str {
        &self.0[..KEY_ID_CHARS]
    }

    pub(super) fn hash(&self) -> blake3::Hash {
        blake3::hash(self.0.as_bytes())
    }

    /// The secret itself, for whoever it is made for.
    pub(super) fn shown(self) -> String {
        self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret({}…)", self.id())
    }
}

/// A key that is in no registry: a server lets who shows it read its metrics, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MonitorKey(blake3::Hash);

impl MonitorKey {
    /// The key with this secret, which has the form of every other.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] for what is no secret.
    pub fn new(secret: &str) -> Result<Self> {
        Secret::parse(secret).map(|secret| MonitorKey(secret.hash()))
    }

    /// Whether this is its secret. That takes the same time for all that are not.
    pub fn is(&self, secret: &[u8]) -> bool {
        blake3::hash(secret) == self.0
    }
}

pub(super) fn random_hex<const BYTES: usize>() -> Result<String> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|e| Error::new(Code::Io, format!("the system gives no random numbers: {e}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests;
