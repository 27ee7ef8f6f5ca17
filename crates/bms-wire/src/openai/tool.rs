//! Functions on offer and the choice among them, as chat completions write them.

use serde_json::{Value, json};

use super::options::checked_schema;
use crate::conversation::{Tool, ToolChoice};
use crate::fields::{Fields, mistyped, unsupported};
use crate::{Code, Error, Result, limits};

/// Characters of a function's name.
const NAME_CHARS_MAX: usize = 128;

/// `tools` of a chat completion: the function lies in an object of its own.
pub(super) fn chat_tools(fields: &mut Fields) -> Result<Vec<Tool>> {
    fields.refuse("functions", "is the old form of `tools`, which is what to use")?;
    fields.refuse("function_call", "is the old form of `tool_choice`, which is what to use")?;
    let items = fields.list("tools", limits::TOOLS_MAX)?.unwrap_or_default();
    let path = fields.path("tools");
    let read = |(index, item)| {
        let mut item = Fields::of(item, format!("{path}[{index}]"))?;
        check_kind(&mut item)?;
        let function = item.nested("function")?;
        let function = item.needed("function", function)?;
        item.end(&[])?;
        tool(function)
    };
    items.into_iter().enumerate().map(read).collect()
}

/// `tools` of the responses route: the function's fields lie beside its type.
pub(super) fn flat_tools(fields: &mut Fields) -> Result<Vec<Tool>> {
    let items = fields.list("tools", limits::TOOLS_MAX)?.unwrap_or_default();
    let path = fields.path("tools");
    let read = |(index, item)| {
        let mut item = Fields::of(item, format!("{path}[{index}]"))?;
        check_kind(&mut item)?;
        tool(item)
    };
    items.into_iter().enumerate().map(read).collect()
}

fn check_kind(item: &mut Fields) -> Result<()> {
    item.only("type", &[json!("function")], "is not a kind of tool supported here; only `function` is")
}

fn tool(mut function: Fields) -> Result<Tool> {
    let name = function.text("name")?;
    let name = checked_name(&function.path("name"), function.needed("name", name)?)?;
    let description = function.text("description")?;
    let parameters = match function.take("parameters") {
        Some(schema) => checked_schema(&function.path("parameters"), schema)?,
        None => json!({ "type": "object", "properties": {} }),
    };
    function.end(&["strict"])?;
    Ok(Tool { name, description, parameters })
}

/// A name a function may have.
pub(crate) fn checked_name(path: &str, name: String) -> Result<String> {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/');
    if !name.is_empty() && name.len() <= NAME_CHARS_MAX && name.chars().all(known) {
        return Ok(name);
    }
    let what = format!("`{path}` is not a function's name: letters, digits, `_`, `-` and `.`");
    Err(Error::new(Code::InvalidRequest, what).about(path))
}

/// `tool_choice`: a word, or an object that names the function directly or in an object of its own.
pub(super) fn choice(fields: &mut Fields) -> Result<ToolChoice> {
    let path = fields.path("tool_choice");
    match fields.take("tool_choice") {
        None => Ok(ToolChoice::Auto),
        Some(Value::String(word)) => match word.as_str() {
            "auto" => Ok(ToolChoice::Auto),
            "none" => Ok(ToolChoice::None),
            "required" => Ok(ToolChoice::Required),
            _ => Err(unsupported(&path, "is auto, none, required or an object that names a function")),
        },
        Some(value @ Value::Object(_)) => {
            let mut named = Fields::of(value, path)?;
            check_kind(&mut named)?;
            if let Some(function) = named.nested("function")? {
                named.end(&[])?;
                named = function;
            }
            let name = named.text("name")?;
            let name = named.needed("name", name)?;
            named.end(&[])?;
            Ok(ToolChoice::Named(name))
        }
        Some(other) => Err(mistyped(&path, &other, "a word or an object")),
    }
}
