//! The key-value pairs of a file, by key and with their types checked.

use std::collections::HashMap;

use bms_wire::{Result, limits};

use super::broken;
use super::cursor::Cursor;
use super::value::{Array, Value};

/// Fewest bytes of one pair: the key's length, one character, type, one byte.
const PAIR_BYTES_MIN: usize = 8 + 1 + 4 + 1;
/// Bytes of a key, by the format.
const KEY_BYTES_MAX: usize = 65_535;

/// What a file says about itself.
///
/// The typed readers give `None` for an absent key and an error for one of another type: a value that
/// cannot be understood is never taken for an absent one.
#[derive(Clone, Debug, Default)]
pub struct Metadata<'a> {
    pairs: Vec<(&'a str, Value<'a>)>,
    places: HashMap<&'a str, usize>,
}

impl<'a> Metadata<'a> {
    pub(super) fn count(cursor: &mut Cursor<'a>) -> Result<usize> {
        cursor.count("key-value pairs", PAIR_BYTES_MIN, limits::MODEL_METADATA_PAIRS_MAX)
    }

    pub(super) fn read(cursor: &mut Cursor<'a>, count: usize) -> Result<Self> {
        let mut metadata = Metadata::default();
        for _ in 0..count {
            let key = std::str::from_utf8(cursor.string("a key", KEY_BYTES_MAX)?)
                .map_err(|_| broken("a key is not UTF-8"))?;
            let value = Value::read(cursor, key)?;
            if metadata.places.insert(key, metadata.pairs.len()).is_some() {
                return Err(broken(format_args!("the key `{key}` is given twice")));
            }
            metadata.pairs.push((key, value));
        }
        Ok(metadata)
    }

    /// All pairs, in the file's order.
    pub fn pairs(&self) -> &[(&'a str, Value<'a>)] {
        &self.pairs
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<Value<'a>> {
        self.places.get(key).map(|place| self.pairs[*place].1)
    }

    /// A whole number of any width that is not negative.
    pub fn number(&self, key: &str) -> Result<Option<usize>> {
        self.typed(key, "a whole number that is not negative", |value| {
            value.number().and_then(|number| number.try_into().ok())
        })
    }

    /// A real number.
    pub fn real(&self, key: &str) -> Result<Option<f32>> {
        self.typed(key, "a real number", Value::real)
    }

    /// True or false.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", |value| match value {
            Value::Bool(flag) => Some(flag),
            _ => None,
        })
    }

    /// A text in UTF-8.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>> {
        self.typed(key, "a text in UTF-8", Value::text)
    }

    /// An array.
    pub fn array(&self, key: &str) -> Result<Option<Array<'a>>> {
        self.typed(key, "an array", |value| match value {
            Value::Array(array) => Some(array),
            _ => None,
        })
    }

    /// An array of whole numbers that are not negative, or one such number for a single element.
    pub fn numbers(&self, key: &str) -> Result<Option<Vec<usize>>> {
        let whole = |value: Value<'_>| value.number().and_then(|number| usize::try_from(number).ok());
        self.typed(key, "whole numbers that are not negative", |value| match value {
            Value::Array(array) => array.iter().map(whole).collect(),
            value => whole(value).map(|number| vec![number]),
        })
    }

    /// The bytes of the texts of an array.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<&'a [u8]>>> {
        self.typed(key, "an array of texts", |value| match value {
            Value::Array(array) => array
                .iter()
                .map(|value| match value {
                    Value::Text(bytes) => Some(bytes),
                    _ => None,
                })
                .collect(),
            _ => None,
        })
    }

    /// An array of real numbers.
    pub fn reals(&self, key: &str) -> Result<Option<Vec<f32>>> {
        self.typed(key, "an array of real numbers", |value| match value {
            Value::Array(array) => array.iter().map(Value::real).collect(),
            _ => None,
        })
    }

    fn typed<T>(&self, key: &str, what: &str, take: impl Fn(Value<'a>) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match take(value) {
            Some(taken) => Ok(Some(taken)),
            None => Err(broken(format_args!("`{key}` must be {what}, it is {:?}", value.kind()))),
        }
    }
}
