//! How secrets are written into documents and read from them.

use serde::{Deserialize, Deserializer, Serializer};
use zeroize::Zeroizing;

pub(super) fn serialize<S: Serializer>(secret: &Zeroizing<String>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(secret)
}

pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(from).map(Zeroizing::new)
}
