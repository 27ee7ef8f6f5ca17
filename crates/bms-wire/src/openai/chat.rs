//! `POST /v1/chat/completions`.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::message::AnsweredMessage;
use super::options::{self, HARMLESS};
use super::{Usage, message, tool};
use crate::conversation::Conversation;
use crate::fields::{Fields, unsupported};
use crate::generation::Generation;
use crate::{Code, Error, Result, limits};

/// A request, translated.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatRequest {
    /// What is to be answered.
    pub conversation: Conversation,
    /// How.
    pub generation: Generation,
}

impl ChatRequest {
    /// Reads a request's body.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`], [`Code::InvalidInput`] or [`Code::TooLarge`], with the field at fault.
    pub fn parse(body: &[u8]) -> Result<Self> {
        let mut fields = Fields::parse(body)?;
        let mut generation = options::generation(&mut fields)?;
        let tokens = 1..=i32::MAX as usize;
        let old = fields.count("max_tokens", tokens.clone())?;
        generation.max_tokens = fields.count("max_completion_tokens", tokens)?.or(old);
        generation.logprobs = logprobs(&mut fields)?;
        let conversation = conversation(&mut fields)?;
        refuse_other_media(&mut fields)?;
        fields.end(HARMLESS)?;
        conversation.check()?;
        Ok(ChatRequest { conversation, generation })
    }
}

/// What the model's template is given: the messages, the tools, and its variables.
pub(crate) fn conversation(fields: &mut Fields) -> Result<Conversation> {
    let continues = fields.flag("continue_final_message")?.unwrap_or(false);
    let prompt_for_answer = fields.flag("add_generation_prompt")?;
    if prompt_for_answer == Some(continues) {
        let what = "must be the opposite of `continue_final_message`";
        return Err(unsupported("add_generation_prompt", what));
    }
    fields.refuse("chat_template", "is not taken from requests: the model brings its own")?;
    fields.only("add_special_tokens", &[json!(false)], "cannot be true: the model's template adds them")?;
    fields.only("echo", &[json!(false)], "is for completions")?;
    Ok(Conversation {
        messages: message::messages(fields)?,
        tools: tool::chat_tools(fields)?,
        tool_choice: tool::choice(fields)?,
        parallel_tool_calls: fields.flag("parallel_tool_calls")?,
        template_variables: options::template_variables(fields)?,
        continues,
    })
}

fn logprobs(fields: &mut Fields) -> Result<Option<usize>> {
    let wanted = fields.flag("logprobs")?.unwrap_or(false);
    let top = fields.count("top_logprobs", 0..=limits::LOGPROBS_MAX)?;
    match (wanted, top) {
        (false, Some(1..)) => {
            Err(Error::new(Code::InvalidRequest, "`top_logprobs` needs `logprobs` to be true")
                .about("top_logprobs"))
        }
        (false, _) => Ok(None),
        (true, top) => Ok(Some(top.unwrap_or(0))),
    }
}

fn refuse_other_media(fields: &mut Fields) -> Result<()> {
    fields.only("modalities", &[json!(["text"])], "can only be [\"text\"]: this model writes text only")?;
    fields.only("verbosity", &[json!("medium")], "is not supported")?;
    fields.refuse("audio", "is not supported: this model writes text only")?;
    fields.refuse("web_search_options", "is not supported: the server fetches nothing")
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model was done, or came to a stop text.
    Stop,
    /// It came to the limit of tokens.
    Length,
    /// It calls functions.
    ToolCalls,
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatCompletion {
    /// Its identifier.
    pub id: String,
    /// Always `chat.completion`.
    pub object: String,
    /// When, in seconds since 1970.
    pub created: u64,
    /// The model, as the request named it.
    pub model: String,
    /// The answers.
    pub choices: Vec<ChatChoice>,
    /// Tokens it took.
    pub usage: Usage,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatChoice {
    /// Which of `n`.
    pub index: usize,
    /// What the model says.
    pub message: AnsweredMessage,
    /// The tokens' probabilities, when asked for.
    pub logprobs: Option<TokenLogprobs>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// Probabilities of an answer's tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprobs {
    /// One entry a token.
    pub content: Vec<TokenLogprob>,
}

/// A token's probability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprob {
    /// Its text; bytes that are no text as replacement characters.
    pub token: String,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The likeliest tokens in its place.
    pub top_logprobs: Vec<TopLogprob>,
}

/// An alternative to a token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopLogprob {
    /// Its text.
    pub token: String,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A piece of a streamed answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatChunk {
    /// The answer's identifier, the same in all pieces.
    pub id: String,
    /// Always `chat.completion.chunk`.
    pub object: String,
    /// When the answer began, in seconds since 1970.
    pub created: u64,
    /// The model, as the request named it.
    pub model: String,
    /// What is added; empty in the piece that brings the usage.
    pub choices: Vec<ChunkChoice>,
    /// Tokens it took: in the last piece, when asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// What is added to one answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChunkChoice {
    /// Which of `n`.
    pub index: usize,
    /// The addition.
    pub delta: Delta,
    /// Probabilities of the tokens that are added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<TokenLogprobs>,
    /// Why the answer ended, in its last piece.
    pub finish_reason: Option<FinishReason>,
}

/// An addition to an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// `assistant`, in the first piece.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// More text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// More of what the model thinks first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// More of the functions it calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<CallDelta>,
}

/// An addition to a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallDelta {
    /// Which call.
    pub index: usize,
    /// Its identifier, in its first piece.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `function`, in its first piece.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The function and more of its arguments.
    pub function: FunctionDelta,
}

/// An addition to a function's name and arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionDelta {
    /// The name, in the first piece.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// More text of the arguments.
    #[serde(default)]
    pub arguments: String,
}
