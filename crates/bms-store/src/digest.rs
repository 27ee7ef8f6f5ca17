//! Names of things by what they contain.

use std::fmt;

use bms_wire::{Code, Error, Result};

/// A BLAKE3 digest: of a chunk's bytes, or of a whole file's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(*blake3::hash(bytes).as_bytes())
    }

    /// A digest as its 32 bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Digest {
        Digest(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 64 lower-case hex digits and nothing else, since a digest becomes part of a path.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`].
    pub fn parse(text: &str) -> Result<Digest> {
        let mut bytes = [0; 32];
        let lower = !text.bytes().any(|c| c.is_ascii_uppercase());
        match lower && hex::decode_to_slice(text, &mut bytes).is_ok() {
            true => Ok(Digest(bytes)),
            false => Err(Error::new(Code::InvalidRequest, format!("{text:?} is not a digest"))
                .hint("A digest is 64 lower-case hex digits of BLAKE3.")),
        }
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Digest {
        Digest(*hash.as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
        Digest::parse(&text).map_err(serde::de::Error::custom)
    }
}
