//! `POST /v1/completions`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::chat::FinishReason;
use super::options::{self, HARMLESS};
use super::{Usage, options::token_list};
use crate::fields::{Fields, mistyped, unsupported};
use crate::generation::Generation;
use crate::{Result, limits};

/// Tokens of an answer when the request does not say; what OpenAI documents.
const TOKENS_DEFAULT: usize = 16;

/// What is continued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// A text.
    Text(String),
    /// Tokens of the model.
    Tokens(Vec<u32>),
}

/// A request, translated.
#[derive(Clone, Debug, PartialEq)]
pub struct CompletionRequest {
    /// What is continued; each gives `n` answers.
    pub prompts: Vec<Prompt>,
    /// The prompt is part of the answer.
    pub echo: bool,
    /// Special tokens, like the one a text begins with, are added to texts.
    pub add_special_tokens: bool,
    /// How it is continued.
    pub generation: Generation,
}

impl CompletionRequest {
    /// Reads a request's body.
    ///
    /// # Errors
    /// [`crate::Code::InvalidRequest`] or [`crate::Code::TooLarge`], with the field at fault.
    pub fn parse(body: &[u8]) -> Result<Self> {
        let mut fields = Fields::parse(body)?;
        let mut generation = options::generation(&mut fields)?;
        let echo = fields.flag("echo")?.unwrap_or(false);
        let least = usize::from(!echo);
        let tokens = fields.count("max_tokens", least..=i32::MAX as usize)?;
        generation.max_tokens = Some(tokens.unwrap_or(TOKENS_DEFAULT));
        generation.logprobs = fields.count("logprobs", 0..=limits::LOGPROBS_MAX)?;
        fields.only(
            "best_of",
            &[json!(1), json!(generation.n)],
            "is not supported: ask for `n` answers and choose",
        )?;
        fields.refuse("suffix", "is not supported: this model only continues a text")?;
        let prompt = fields.take("prompt");
        let prompts = prompts("prompt", fields.needed("prompt", prompt)?, limits::PROMPTS_MAX)?;
        let add_special_tokens = fields.flag("add_special_tokens")?.unwrap_or(true);
        fields.end(HARMLESS)?;
        Ok(CompletionRequest { prompts, echo, add_special_tokens, generation })
    }
}

/// A text, tokens, or a list of either.
pub(super) fn prompts(path: &str, value: Value, prompts_max: usize) -> Result<Vec<Prompt>> {
    let items = match value {
        Value::String(text) => return Ok(vec![Prompt::Text(text)]),
        Value::Array(items) if items.is_empty() => return Err(unsupported(path, "is empty")),
        Value::Array(items) if items[0].is_number() => {
            return Ok(vec![Prompt::Tokens(token_list(path, items)?)]);
        }
        Value::Array(items) => items,
        other => return Err(mistyped(path, &other, "a string, tokens, or a list of either")),
    };
    if prompts_max < items.len() {
        let what = format!("`{path}` has {} texts, at most {prompts_max} are taken", items.len());
        return Err(crate::Error::new(crate::Code::TooLarge, what).about(path));
    }
    let read = |(index, item)| match item {
        Value::String(text) => Ok(Prompt::Text(text)),
        Value::Array(tokens) => token_list(&format!("{path}[{index}]"), tokens).map(Prompt::Tokens),
        other => Err(mistyped(&format!("{path}[{index}]"), &other, "a string or tokens")),
    };
    items.into_iter().enumerate().map(read).collect()
}

/// A whole answer, or a piece of a streamed one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// Its identifier.
    pub id: String,
    /// Always `text_completion`.
    pub object: String,
    /// When, in seconds since 1970.
    pub created: u64,
    /// The model, as the request named it.
    pub model: String,
    /// The answers, or what is added to them.
    pub choices: Vec<CompletionChoice>,
    /// Tokens it took; in the last piece of a streamed answer, when asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// One answer, or what is added to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompletionChoice {
    /// Which: the prompt's number times `n`, plus which of `n`.
    pub index: usize,
    /// The text.
    pub text: String,
    /// The tokens' probabilities, when asked for.
    pub logprobs: Option<CompletionLogprobs>,
    /// Why it ended.
    pub finish_reason: Option<FinishReason>,
}

/// Probabilities of a completion's tokens, as parallel lists.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CompletionLogprobs {
    /// Texts of the tokens.
    pub tokens: Vec<String>,
    /// Natural logarithms of their probabilities; `null` for the first of an echoed prompt.
    pub token_logprobs: Vec<Option<f32>>,
    /// The likeliest alternatives by text, each with its logarithm.
    pub top_logprobs: Vec<Option<Map<String, Value>>>,
    /// Where each token begins in the text, in characters.
    pub text_offset: Vec<usize>,
}
