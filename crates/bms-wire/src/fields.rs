//! Reading a JSON object field by field, so that every refusal names the field at fault.
//!
//! The text-generation protocols have dozens of optional fields, and a field that is ignored gives an answer
//! the caller did not ask for. So what was read is taken out, and [`Fields::end`] refuses the rest.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::{Code, Error, Result};

/// The fields of one JSON object that have not been read yet. `null` counts as absent.
#[derive(Clone, Debug)]
pub struct Fields {
    map: Map<String, Value>,
    /// Where the object lies in the body, empty for the body itself.
    path: String,
}

impl Fields {
    /// The fields of a request's body.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when it is not a JSON object.
    pub fn parse(body: &[u8]) -> Result<Self> {
        let value: Value = serde_json::from_slice(body).map_err(|e| {
            Error::new(Code::InvalidRequest, format!("the request's body is not JSON: {e}")).because(e)
        })?;
        Fields::of(value, "")
    }

    /// The fields of the object that lies at `path` of the body.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when it is not an object.
    pub fn of(value: Value, path: impl Into<String>) -> Result<Self> {
        let path = path.into();
        match value {
            Value::Object(map) => Ok(Fields { map, path }),
            other if path.is_empty() => Err(Error::new(
                Code::InvalidRequest,
                format!("the request's body is {}, expected a JSON object", kind(&other)),
            )),
            other => Err(mistyped(&path, &other, "an object")),
        }
    }

    /// The path of a field of this object.
    pub fn path(&self, name: impl Display) -> String {
        if self.path.is_empty() { name.to_string() } else { format!("{}.{name}", self.path) }
    }

    /// Takes a field out.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// A field that must be there.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when it is absent.
    pub fn needed<T>(&self, name: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| {
            let path = self.path(name);
            Error::new(Code::InvalidRequest, format!("`{path}` is missing")).about(path)
        })
    }

    /// A string.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when it is something else; so for all that follow.
    pub fn text(&mut self, name: &str) -> Result<Option<String>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(mistyped(&self.path(name), &other, "a string")),
        }
    }

    /// `true` or `false`.
    pub fn flag(&mut self, name: &str) -> Result<Option<bool>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(mistyped(&self.path(name), &other, "true or false")),
        }
    }

    /// A number in a range.
    pub fn number(&mut self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f64>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let path = self.path(name);
        let number = value.as_f64().ok_or_else(|| mistyped(&path, &value, "a number"))?;
        if range.contains(&number) {
            return Ok(Some(number));
        }
        Err(outside(&path, number, range.start(), range.end()))
    }

    /// A whole number in a range. `1.0` is one.
    pub fn whole(&mut self, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let path = self.path(name);
        let whole = whole(&value).ok_or_else(|| mistyped(&path, &value, "a whole number"))?;
        if range.contains(&whole) {
            return Ok(Some(whole));
        }
        Err(outside(&path, whole, range.start(), range.end()))
    }

    /// A count from `range`.
    pub fn count(&mut self, name: &str, range: RangeInclusive<usize>) -> Result<Option<usize>> {
        let end = i64::try_from(*range.end()).unwrap_or(i64::MAX);
        let start = i64::try_from(*range.start()).unwrap_or(i64::MAX);
        Ok(self.whole(name, start..=end)?.and_then(|count| usize::try_from(count).ok()))
    }

    /// A list of at most `items_max` items.
    pub fn list(&mut self, name: &str, items_max: usize) -> Result<Option<Vec<Value>>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(items)) if items_max < items.len() => {
                let path = self.path(name);
                let what = format!("`{path}` has {} items, at most {items_max} are taken", items.len());
                Err(Error::new(Code::TooLarge, what).about(path))
            }
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(other) => Err(mistyped(&self.path(name), &other, "a list")),
        }
    }

    /// An object, as it is.
    pub fn object(&mut self, name: &str) -> Result<Option<Map<String, Value>>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(other) => Err(mistyped(&self.path(name), &other, "an object")),
        }
    }

    /// An object whose fields are to be read.
    pub fn nested(&mut self, name: &str) -> Result<Option<Fields>> {
        let path = self.path(name);
        self.take(name).map(|value| Fields::of(value, path)).transpose()
    }

    /// A field that is taken only with a value that changes nothing; `why` completes "`field` … ".
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] with any other value.
    pub fn only(&mut self, name: &str, allowed: &[Value], why: &str) -> Result<()> {
        match self.take(name) {
            None => Ok(()),
            Some(value) if allowed.contains(&value) => Ok(()),
            Some(_) => Err(unsupported(&self.path(name), why)),
        }
    }

    /// Refuses the field if it is there; `why` completes "`field` … ".
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when it is there.
    pub fn refuse(&mut self, name: &str, why: &str) -> Result<()> {
        self.only(name, &[], why)
    }

    /// Says that every field was read, but for `harmless` ones that change nothing in the answer.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] with the first field left.
    pub fn end(self, harmless: &[&str]) -> Result<()> {
        let left =
            self.map.iter().find(|(name, value)| !value.is_null() && !harmless.contains(&name.as_str()));
        match left {
            None => Ok(()),
            Some((name, _)) => {
                let path = self.path(name);
                Err(Error::new(Code::InvalidRequest, format!("`{path}` is not a field known here"))
                    .hint("Fields are refused rather than ignored, because ignoring one could change the answer.")
                    .about(path))
            }
        }
    }
}

/// A whole number, also when it is written as `1.0`.
pub(crate) fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| {
        let number = value.as_f64()?;
        // Every whole f64 below 2^53 is exact as i64.
        (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64)
    })
}

/// A field of the wrong type.
pub(crate) fn mistyped(path: &str, value: &Value, expected: &str) -> Error {
    Error::new(Code::InvalidRequest, format!("`{path}` is {}, expected {expected}", kind(value))).about(path)
}

/// A field this program does not support; `why` completes "`field` … ".
pub(crate) fn unsupported(path: &str, why: &str) -> Error {
    Error::new(Code::InvalidRequest, format!("`{path}` {why}")).about(path)
}

fn outside(path: &str, value: impl Display, start: impl Display, end: impl Display) -> Error {
    let what = format!("`{path}` is {value}, expected a value from {start} to {end}");
    Error::new(Code::InvalidRequest, what).about(path)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests;
