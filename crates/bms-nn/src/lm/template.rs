//! Chat templates: the Jinja program of a model that writes a conversation as the text it was trained on.
//!
//! Rendered as `apply_chat_template` of Python's transformers renders: the same white space rules, the same
//! functions, JSON and values spelled as Python spells them. A template comes with the model and may be a
//! stranger's: it sees only what it is given, has no files and no other templates, and stops at a budget of
//! work, of depth and of output.

mod clock;
mod python;
mod source;
#[cfg(test)]
mod tests;

pub use source::TemplateFiles;

use std::collections::BTreeMap;
use std::io::{self, Write};

use bms_wire::{Code, Error, Result, limits};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, Value};

/// Work one rendering may do: instructions, and one for each 64 bytes that are made.
const FUEL: u64 = 20_000_000;
/// Macros inside macros, and other nesting.
const DEPTH_MAX: usize = 100;

/// A template that conversations are written with, used when a model brings none.
const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// Where a template comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateOrigin {
    /// The model's own.
    Model,
    /// The model has none; this one, by name, fits its vocabulary.
    Fallback(&'static str),
}

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    origin: TemplateOrigin,
    /// Texts of special tokens by their names: `bos_token`, `eos_token`, …
    tokens: BTreeMap<String, String>,
    default: String,
    /// The template for conversations with tools, where the model has its own for them.
    tools: Option<String>,
}

impl ChatTemplate {
    /// Compiles a template. `bos` and `eos` are the texts of the tokens that begin and end a text.
    ///
    /// Errors: [`Code::UnsupportedModel`] for a template that is too large or no valid program.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self> {
        let mut template = ChatTemplate {
            environment: environment()?,
            origin: TemplateOrigin::Model,
            tokens: BTreeMap::new(),
            default: String::new(),
            tools: None,
        };
        template.default = template.add("default", source)?;
        template.set_token("bos_token", bos);
        template.set_token("eos_token", eos);
        Ok(template)
    }

    /// The ChatML template, for a model without a template whose vocabulary has ChatML's tokens.
    pub fn chatml() -> Result<Self> {
        let mut template = ChatTemplate::new(CHATML, "", "<|im_end|>")?;
        template.origin = TemplateOrigin::Fallback("chatml");
        Ok(template)
    }

    /// Sets the text of a special token that the template may use, `unk_token`.
    pub fn set_token(&mut self, name: &str, text: &str) {
        self.tokens.insert(name.to_owned(), text.to_owned());
    }

    /// Uses another template for conversations with tools.
    ///
    /// Errors: as of [`Self::new`].
    pub fn set_tools(&mut self, source: &str) -> Result<()> {
        self.tools = Some(self.add("tool_use", source)?);
        Ok(())
    }

    fn add(&mut self, name: &str, source: &str) -> Result<String> {
        if limits::CHAT_TEMPLATE_BYTES_MAX < source.len() {
            return Err(Error::new(
                Code::UnsupportedModel,
                format!(
                    "the chat template has {} bytes, the limit is {}",
                    source.len(),
                    limits::CHAT_TEMPLATE_BYTES_MAX
                ),
            ));
        }
        let source = source::without_training_marks(source);
        self.environment.add_template_owned(name.to_owned(), source).map_err(|error| {
            Error::new(
                Code::UnsupportedModel,
                format!("the chat template is no valid Jinja: {}", told(&error)),
            )
            .because(error)
        })?;
        Ok(name.to_owned())
    }

    /// Whose template it is.
    pub fn origin(&self) -> TemplateOrigin {
        self.origin
    }

    /// Writes a conversation as the model's prompt.
    ///
    /// `messages` is a list of `{"role", "content", …}` and `tools` one of tool definitions, both in OpenAI's
    /// form. `add_generation_prompt` ends with what begins the model's answer. `extra` are further variables
    /// that a template may know, `enable_thinking`. The result holds control tokens as texts: tokenize it with
    /// `parse_special`, and without adding special tokens.
    ///
    /// Errors: [`Code::InvalidInput`] with the template's own words when it refuses the conversation or fails,
    /// [`Code::TooLarge`] when the prompt or the work for it goes beyond the limit.
    pub fn render(
        &self,
        messages: &serde_json::Value,
        tools: Option<&serde_json::Value>,
        add_generation_prompt: bool,
        extra: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<String> {
        // The library's own iteration order is that of insertion, as in Python.
        let mut variables: Vec<(String, Value)> =
            self.tokens.iter().map(|(name, text)| (name.clone(), Value::from(text))).collect();
        variables.extend(extra.iter().map(|(name, value)| (name.clone(), python::value(value))));
        variables.push(("messages".into(), python::value(messages)));
        variables.push(("tools".into(), tools.map_or_else(|| Value::from(()), python::value)));
        variables.push(("documents".into(), Value::from(())));
        variables.push(("add_generation_prompt".into(), add_generation_prompt.into()));
        let name = self.tools.as_ref().filter(|_| tools.is_some()).unwrap_or(&self.default);
        let template = self
            .environment
            .get_template(name)
            .map_err(|error| Error::new(Code::Internal, "the chat template is missing").because(error))?;
        let mut output = Output { bytes: Vec::new(), is_full: false };
        let context = Value::from_pairs(variables);
        let rendered = template.render_captured_to(context, &mut output).map(drop);
        if output.is_full {
            return Err(Error::new(
                Code::TooLarge,
                format!("the prompt has more than {} bytes", limits::CHAT_PROMPT_BYTES_MAX),
            ));
        }
        rendered.map_err(|error| failed(&error))?;
        String::from_utf8(output.bytes)
            .map_err(|error| Error::new(Code::Internal, "the chat template wrote no UTF-8").because(error))
    }
}

fn environment() -> Result<Environment<'static>> {
    let whitespace = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
        .map_err(|error| Error::new(Code::Internal, "failed to set up chat templates").because(error))?;
    let mut environment = Environment::new();
    environment.set_syntax(whitespace);
    environment.set_recursion_limit(DEPTH_MAX);
    environment.set_fuel(Some(FUEL));
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(python::method);
    environment.set_formatter(python::format);
    environment.add_test("iterable", python::is_iterable);
    environment.add_filter("tojson", python::to_json);
    environment.add_filter("string", python::to_text);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", clock::strftime_now);
    Ok(environment)
}

/// What marks an error as a template's own word.
const RAISED: &str = "the chat template refuses the conversation: ";

fn raise_exception(message: String) -> Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{message}")))
}

/// What went wrong and where, in one line.
fn told(error: &minijinja::Error) -> String {
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        Some(line) => format!("{detail} (line {line})"),
        None => detail,
    }
}

fn failed(error: &minijinja::Error) -> Error {
    let mut cause = Some(error as &(dyn std::error::Error + 'static));
    while let Some(each) = cause {
        let inner = each.downcast_ref::<minijinja::Error>();
        if let Some(words) = inner.and_then(|inner| inner.detail()).filter(|words| words.starts_with(RAISED))
        {
            return Error::new(Code::InvalidInput, words);
        }
        if inner.is_some_and(|inner| inner.kind() == ErrorKind::OutOfFuel) {
            return Error::new(Code::TooLarge, "the chat template works too long on the conversation");
        }
        cause = each.source();
    }
    Error::new(Code::InvalidInput, format!("the chat template fails on the conversation: {}", told(error)))
}

/// What is written, up to the limit.
struct Output {
    bytes: Vec<u8>,
    is_full: bool,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if limits::CHAT_PROMPT_BYTES_MAX < self.bytes.len() + bytes.len() {
            self.is_full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
