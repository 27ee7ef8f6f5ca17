//! Where a model's files keep its chat templates.

use bms_wire::{Code, Error, Result};
use serde_json::Value;

use super::ChatTemplate;
use crate::lm::Tokenizer;
use crate::lm::gguf::Metadata;

/// The files of a Hugging Face folder that may hold a template; the first one that does counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct TemplateFiles<'a> {
    /// `chat_template.jinja`.
    pub jinja: Option<&'a str>,
    /// `chat_template.json`, parsed.
    pub json: Option<&'a Value>,
    /// `tokenizer_config.json`, parsed.
    pub tokenizer_config: Option<&'a Value>,
}

/// Special tokens a template may write, besides those that begin and end a text.
const TOKENS: [&str; 5] = ["unk_token", "pad_token", "sep_token", "cls_token", "mask_token"];

impl ChatTemplate {
    /// The template of a GGUF file. Without one, ChatML where the vocabulary has its tokens, or `None`.
    ///
    /// Errors: as of [`ChatTemplate::new`], and [`Code::InvalidBundle`] for a template that is no text.
    pub fn from_gguf(metadata: &Metadata<'_>, tokenizer: &Tokenizer) -> Result<Option<Self>> {
        let Some(source) = metadata.text("tokenizer.chat_template")? else { return fallback(tokenizer) };
        let [bos, eos] = frame(tokenizer);
        let mut template = ChatTemplate::new(source, &bos, &eos)?;
        if let Some(source) = metadata.text("tokenizer.chat_template.tool_use")? {
            template.set_tools(source)?;
        }
        Ok(Some(template))
    }

    /// The template of a Hugging Face folder. Without one, ChatML where the vocabulary has its tokens, or `None`.
    ///
    /// Errors: as of [`ChatTemplate::new`], and [`Code::InvalidBundle`] for a template that is no text.
    pub fn from_hf(files: &TemplateFiles<'_>, tokenizer: &Tokenizer) -> Result<Option<Self>> {
        let of = |value: Option<&'_ Value>| value.and_then(|value| value.get("chat_template")).cloned();
        let found =
            files.jinja.map(Value::from).or_else(|| of(files.json)).or_else(|| of(files.tokenizer_config));
        let (default, tools) = match found {
            None | Some(Value::Null) => return fallback(tokenizer),
            Some(Value::String(source)) => (source, None),
            Some(Value::Array(list)) => {
                let named = |name: &str| {
                    let entry =
                        list.iter().find(|entry| entry.get("name").and_then(Value::as_str) == Some(name));
                    entry.and_then(|entry| entry.get("template")?.as_str()).map(str::to_owned)
                };
                let default = named("default").ok_or_else(|| invalid("has no template called `default`"))?;
                (default, named("tool_use"))
            }
            Some(_) => return Err(invalid("is neither a text nor a list of texts")),
        };
        let [bos, eos] = frame(tokenizer);
        let mut template = ChatTemplate::new(&default, &bos, &eos)?;
        if let Some(source) = tools {
            template.set_tools(&source)?;
        }
        for name in ["bos_token", "eos_token"].iter().chain(&TOKENS) {
            let text =
                files.tokenizer_config.and_then(|config| crate::lm::tokenizer::token_text(config, name));
            if let Some(text) = text {
                template.set_token(name, text);
            }
        }
        Ok(Some(template))
    }
}

fn invalid(what: &str) -> Error {
    Error::new(Code::InvalidBundle, format!("the model's `chat_template` {what}"))
}

/// The texts of the tokens that begin and end a text; nothing where there is no such token.
fn frame(tokenizer: &Tokenizer) -> [String; 2] {
    [tokenizer.bos(), tokenizer.eos()].map(|id| {
        let bytes = id.map(|id| tokenizer.token_bytes(id)).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    })
}

fn fallback(tokenizer: &Tokenizer) -> Result<Option<ChatTemplate>> {
    let has = |text: &str| tokenizer.token(text.as_bytes()).is_some_and(|id| tokenizer.is_control(id));
    match has("<|im_start|>") && has("<|im_end|>") {
        true => ChatTemplate::chatml().map(Some),
        false => Ok(None),
    }
}

/// The template with `{% generation %}` blocks, which mark what a model is trained to write, as blocks that
/// are always written.
pub(super) fn without_training_marks(source: &str) -> String {
    let mut output = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        output.push_str(before);
        let end = tag.find("%}").map_or(tag.len(), |end| end + 2);
        let (tag, after) = tag.split_at(end);
        let word = tag.trim_start_matches(['{', '%', '-', '+']).trim_end_matches(['}', '%', '-', '+']).trim();
        match word {
            "generation" => output.push_str(&tag.replacen("generation", "if true", 1)),
            "endgeneration" => output.push_str(&tag.replacen("endgeneration", "endif", 1)),
            _ => output.push_str(tag),
        }
        rest = after;
    }
    output.push_str(rest);
    output
}
