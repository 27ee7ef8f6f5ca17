//! Reading and replacing single fields of JSON documents without parsing the rest: what an engine answers is passed on as
//! it is, however long, but for the name of its model.
//!
//! A document that is none is left as it is. What is found is always a whole value of the outermost object.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr2;

/// Where the value of a field of the outermost object stands; the first, should there be several.
pub(crate) fn field(json: &[u8], key: &str) -> Option<Range<usize>> {
    let mut found = None;
    // What follows it may be no document any more.
    let _ = walk(json, |name, value| {
        if is_key(&json[name], key) {
            found = Some(value);
        }
        found.is_none()
    });
    found
}

/// Goes over the fields of the outermost object, with where their names and values stand, as long as it is told to.
/// `None` where there is no object.
fn walk(json: &[u8], mut next: impl FnMut(Range<usize>, Range<usize>) -> bool) -> Option<()> {
    let mut at = expect(json, 0, b'{')?;
    if *json.get(skip_space(json, at))? == b'}' {
        return Some(());
    }
    loop {
        let from = skip_space(json, at);
        let name_end = string(json, from)?;
        let value = skip_space(json, expect(json, name_end, b':')?);
        let value_end = self::value(json, value)?;
        if !next(from..name_end, value..value_end) {
            return Some(());
        }
        at = skip_space(json, value_end);
        match json.get(at)? {
            b',' => at += 1,
            b'}' => return Some(()),
            _ => return None,
        }
    }
}

/// All fields of the outermost object, with names and values as they are written; `None` when it is none.
pub(crate) fn fields(json: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut fields = Vec::new();
    walk(json, |name, value| {
        fields.push((&json[name], &json[value]));
        true
    })?;
    Some(fields)
}

/// The document with another value for a field that it has; `None` when it has it not.
pub(crate) fn replaced(json: &[u8], key: &str, value: &[u8]) -> Option<Vec<u8>> {
    field(json, key).map(|range| splice(json, range, value))
}

/// The document with this value for a field, which is added when it is not there; `None` when this is no object.
pub(crate) fn set(json: &[u8], key: &str, value: &[u8]) -> Option<Vec<u8>> {
    if let Some(replaced) = replaced(json, key, value) {
        return Some(replaced);
    }
    let at = expect(json, 0, b'{')?;
    let is_empty = *json.get(skip_space(json, at))? == b'}';
    let end: &[u8] = if is_empty { b"" } else { b"," };
    let added = [b"\"", key.as_bytes(), b"\":", value, end].concat();
    Some(splice(json, at..at, &added))
}

/// The bytes with others in place of a range.
pub(crate) fn splice(bytes: &[u8], range: Range<usize>, with: &[u8]) -> Vec<u8> {
    [&bytes[..range.start], with, &bytes[range.end..]].concat()
}

fn is_key(written: &[u8], key: &str) -> bool {
    match written.contains(&b'\\') {
        // The same name can be written in many ways.
        true => serde_json::from_slice::<Cow<'_, str>>(written).is_ok_and(|name| name == key),
        false => written.get(1..written.len() - 1) == Some(key.as_bytes()),
    }
}

fn skip_space(json: &[u8], from: usize) -> usize {
    let rest = json.get(from..).unwrap_or_default();
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    from + rest.iter().position(|byte| !is_space(byte)).unwrap_or(rest.len())
}

/// Behind this byte, which comes next.
fn expect(json: &[u8], from: usize, byte: u8) -> Option<usize> {
    let at = skip_space(json, from);
    (*json.get(at)? == byte).then_some(at + 1)
}

/// The end of the string that begins here.
fn string(json: &[u8], from: usize) -> Option<usize> {
    if *json.get(from)? != b'"' {
        return None;
    }
    let mut at = from + 1;
    loop {
        at += memchr2(b'"', b'\\', json.get(at..)?)?;
        match json[at] {
            b'"' => return Some(at + 1),
            _ => at += 2,
        }
    }
}

/// The end of the value that begins here.
fn value(json: &[u8], from: usize) -> Option<usize> {
    match json.get(from)? {
        b'"' => string(json, from),
        b'{' | b'[' => container(json, from),
        _ => {
            let rest = &json[from..];
            let length = rest
                .iter()
                .position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r'))?;
            (0 < length).then_some(from + length)
        }
    }
}

/// The end of the object or list that begins here. How deep it goes costs nothing: only the depth is counted.
fn container(json: &[u8], from: usize) -> Option<usize> {
    let mut depth = 0usize;
    let mut at = from;
    loop {
        match json.get(at)? {
            b'"' => {
                at = string(json, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests;
