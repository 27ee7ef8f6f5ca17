//! Values as Python spells them, in a text and as JSON.

use std::fmt::Write;

use minijinja::value::{Kwargs, Serde, ValueKind};
use minijinja::{Error, ErrorKind, Output, State, Value};
use minijinja_contrib::pycompat;

/// Values inside values.
const DEPTH_MAX: usize = 128;

/// A template's value of a JSON value.
pub(super) fn value(json: &serde_json::Value) -> Value {
    Value::from(Serde(json))
}

/// Methods of Python's strings, lists and dictionaries.
pub(super) fn method(
    state: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    pycompat::unknown_method_callback(state, value, name, args)
}

/// `value is iterable`. In Python nothing, `None`, is not, and an undefined value is.
pub(super) fn is_iterable(value: &Value) -> bool {
    use ValueKind as K;
    matches!(value.kind(), K::Seq | K::Map | K::Iterable | K::String | K::Bytes | K::Undefined)
}

/// `{{ value }}`.
pub(super) fn format(out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.as_str() {
        Some(text) => Ok(out.write_str(text)?),
        None => Ok(out.write_str(&text(value)?)?),
    }
}

/// `value | string`.
pub(super) fn to_text(value: &Value) -> Result<Value, Error> {
    text(value).map(Value::from)
}

/// `str(value)`.
fn text(value: &Value) -> Result<String, Error> {
    match value.as_str() {
        Some(text) => Ok(text.to_owned()),
        None if value.is_undefined() => Ok(String::new()),
        None => {
            let mut out = String::new();
            write(&mut out, value, &Style::REPR, 0)?;
            Ok(out)
        }
    }
}

/// `value | tojson`, as transformers defines it: characters stay as they are, `<` included.
pub(super) fn to_json(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let mut style = Style::JSON;
    let indent: Option<Value> = options.get("indent")?;
    if let Some(indent) = indent.filter(|indent| !indent.is_none()) {
        style.indent =
            Some(indent.as_usize().ok_or_else(|| wrong("the indent of tojson is no number"))?.min(16));
        style.comma = ",";
    }
    let ascii: Option<bool> = options.get("ensure_ascii")?;
    style.ascii = ascii.unwrap_or(false);
    let sorted: Option<bool> = options.get("sort_keys")?;
    style.sorted = sorted.unwrap_or(false);
    let separators: Option<Vec<String>> = options.get("separators")?;
    options.assert_all_used()?;
    let parts = separators.unwrap_or_default();
    if let [comma, colon] = parts.as_slice() {
        (style.comma, style.colon) = (comma, colon);
    }
    let mut out = String::new();
    write(&mut out, value, &style, 0)?;
    Ok(Value::from(out))
}

/// How values are spelled.
struct Style<'a> {
    /// JSON, or Python's `repr`.
    json: bool,
    comma: &'a str,
    colon: &'a str,
    indent: Option<usize>,
    ascii: bool,
    sorted: bool,
}

impl Style<'static> {
    const JSON: Self =
        Style { json: true, comma: ", ", colon: ": ", indent: None, ascii: false, sorted: false };
    const REPR: Self = Style { json: false, ..Self::JSON };
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

fn write(out: &mut String, value: &Value, style: &Style<'_>, depth: usize) -> Result<(), Error> {
    if DEPTH_MAX < depth {
        return Err(wrong("a value is nested too deep"));
    }
    match value.kind() {
        ValueKind::Undefined if style.json => return Err(wrong("an undefined value has no JSON")),
        ValueKind::Undefined => {}
        ValueKind::None => out.push_str(if style.json { "null" } else { "None" }),
        ValueKind::Bool => out.push_str(match (value.is_true(), style.json) {
            (true, true) => "true",
            (false, true) => "false",
            (true, false) => "True",
            (false, false) => "False",
        }),
        ValueKind::Number if value.is_integer() => out.push_str(&value.to_string()),
        ValueKind::Number => out.push_str(&float(f64::try_from(value.clone())?)),
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            if style.json { json_string(out, text, style.ascii) } else { repr_string(out, text) }
        }
        ValueKind::Map => {
            let mut keys: Vec<Value> = value.try_iter()?.collect();
            if style.sorted {
                keys.sort();
            }
            let length = keys.len();
            block(out, "{", "}", length, style, depth, |out, index| {
                match (style.json, keys[index].as_str()) {
                    // JSON has no other keys than strings.
                    (true, None) => {
                        let mut key = String::new();
                        write(&mut key, &keys[index], style, depth + 1)?;
                        json_string(out, &key, style.ascii);
                    }
                    _ => write(out, &keys[index], style, depth + 1)?,
                }
                out.push_str(style.colon);
                write(out, &value.get_item(&keys[index])?, style, depth + 1)
            })?;
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            block(out, "[", "]", items.len(), style, depth, |out, index| {
                write(out, &items[index], style, depth + 1)
            })?;
        }
        _ if style.json => return Err(wrong(format!("a {} has no JSON", value.kind()))),
        _ => out.push_str(&value.to_string()),
    }
    Ok(())
}

/// Items between brackets, on lines of their own where there is an indent.
fn block(
    out: &mut String,
    open: &str,
    close: &str,
    length: usize,
    style: &Style<'_>,
    depth: usize,
    mut item: impl FnMut(&mut String, usize) -> Result<(), Error>,
) -> Result<(), Error> {
    let line = |out: &mut String, depth: usize| {
        if let Some(indent) = style.indent.filter(|_| length != 0) {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    };
    out.push_str(open);
    for index in 0..length {
        if index != 0 {
            out.push_str(style.comma);
        }
        line(out, depth + 1);
        item(out, index)?;
    }
    line(out, depth);
    out.push_str(close);
    Ok(())
}

fn json_string(out: &mut String, text: &str, ascii: bool) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..'\u{20}' => escape(out, letter as u16),
            // Python escapes DEL together with what is not ASCII.
            '\u{7f}'.. if ascii => {
                letter.encode_utf16(&mut [0; 2]).iter().for_each(|unit| escape(out, *unit));
            }
            _ => out.push(letter),
        }
    }
    out.push('"');
}

fn escape(out: &mut String, unit: u16) {
    // Writing to a string does not fail.
    let _ = write!(out, "\\u{unit:04x}");
}

/// Python's `repr` of a string: single quotes, unless it has some and no double ones.
fn repr_string(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..'\u{20}' | '\u{7f}'..='\u{a0}' | '\u{ad}' => {
                let _ = write!(out, "\\x{:02x}", letter as u32);
            }
            _ if letter == quote => {
                out.push('\\');
                out.push(letter);
            }
            _ => out.push(letter),
        }
    }
    out.push(quote);
}

/// Python's `repr` of a float: shortest digits, an exponent below 1e-4 and from 1e16 on.
fn float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value < 0.0 { "-Infinity".into() } else { "Infinity".into() };
    }
    let shortest = format!("{value:e}");
    let Some((digits, exponent)) = shortest.split_once('e') else { return shortest };
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..16).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => {
            let text = value.to_string();
            if text.contains('.') { text } else { format!("{text}.0") }
        }
    }
}
