//! JSON read strictly: a repeated key is an error, since two readers may take different values.

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// A JSON value with the objects' order kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    /// `null`, a boolean, or a number that is not an unsigned integer.
    Other,
    /// An unsigned integer.
    Unsigned(u64),
    /// A string.
    Text(String),
    /// An array.
    Array(Vec<Json>),
    /// An object.
    Object(Vec<(String, Json)>),
}

/// What the parser says when a key is repeated; callers tell this fault from others by it.
pub(crate) const REPEATED_KEY: &str = "repeated key";

impl Json {
    /// Parses one document. Nesting is limited to the parser's 128 levels.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Json, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// As [`Json::parse`], but keeps every value of a repeated key: whoever judges a document that others will read
    /// must judge what any of them takes.
    pub(crate) fn parse_all(bytes: &[u8]) -> Result<Json, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let value = Seed { strict: false }.deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(value)
    }

    /// Whether a key is repeated anywhere inside.
    pub(crate) fn has_repeated_key(&self) -> bool {
        match self {
            Json::Array(items) => items.iter().any(Json::has_repeated_key),
            Json::Object(members) => {
                let mut seen = std::collections::HashSet::new();
                members.iter().any(|(key, value)| !seen.insert(key) || value.has_repeated_key())
            }
            _ => false,
        }
    }

    /// The text of one member.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        match self.get(key) {
            Some(Json::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The members of an object.
    pub(crate) fn members(&self) -> &[(String, Json)] {
        match self {
            Json::Object(members) => members,
            _ => &[],
        }
    }

    /// One member of an object.
    pub(crate) fn get(&self, key: &str) -> Option<&Json> {
        self.members().iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }
}

/// A document as Python reads it: the numbers that JSON does not have become `null`. `None` when there are none.
pub(crate) fn without_odd_numbers(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(bytes.len());
    let (mut at, mut changed) = (0, false);
    let mut inside = false;
    while let Some(byte) = bytes.get(at) {
        let rest = &bytes[at..];
        let odd =
            [&b"NaN"[..], b"-Infinity", b"Infinity"].into_iter().find(|odd| !inside && rest.starts_with(odd));
        if let Some(odd) = odd {
            plain.extend(b"null");
            at += odd.len();
            changed = true;
            continue;
        }
        match byte {
            b'"' => inside = !inside,
            // What is escaped ends no text.
            b'\\' if inside => {
                plain.push(*byte);
                at += 1;
            }
            _ => {}
        }
        plain.extend(bytes.get(at));
        at += 1;
    }
    changed.then_some(plain)
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        Seed { strict: true }.deserialize(deserializer)
    }
}

/// How repeated keys are taken, all the way down.
#[derive(Clone, Copy)]
struct Seed {
    strict: bool,
}

impl<'de> DeserializeSeed<'de> for Seed {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed {
    type Value = Json;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Unsigned(value))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut members: Vec<(String, Json)> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if self.strict && !seen.insert(key.clone()) {
                return Err(de::Error::custom(REPEATED_KEY));
            }
            members.push((key, map.next_value_seed(self)?));
        }
        Ok(Json::Object(members))
    }
}

#[cfg(test)]
mod tests;
