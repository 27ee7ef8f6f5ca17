//! What language models answer beside the protocols of OpenAI and Anthropic: tokens of a text and back, LoRA
//! adapters, and the readings a slot gives to the server's metrics.

use serde::{Deserialize, Serialize};

use crate::conversation::Conversation;
use crate::fields::Fields;
use crate::{Result, openai};

/// Fields that do not change the answer.
const HARMLESS: &[&str] = &["user"];

/// What `POST /tokenize` turns into tokens.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenizeInput {
    /// A text.
    Text {
        /// The text.
        text: String,
        /// Tokens like the one a text begins with are added.
        add_special: bool,
        /// Texts that stand for special tokens become them.
        parse_special: bool,
    },
    /// A conversation, through the model's template.
    Conversation(Conversation),
}

/// A request of `POST /tokenize`, in the form of vLLM (`prompt` or `messages`) or llama.cpp (`content`).
#[derive(Clone, Debug, PartialEq)]
pub struct TokenizeRequest {
    /// The model.
    pub model: Option<String>,
    /// What becomes tokens.
    pub input: TokenizeInput,
    /// The tokens' texts are wanted, too.
    pub with_texts: bool,
}

impl TokenizeRequest {
    /// Reads a request's body.
    ///
    /// # Errors
    /// [`crate::Code::InvalidRequest`] with the field at fault.
    pub fn parse(body: &[u8]) -> Result<Self> {
        let mut fields = Fields::parse(body)?;
        let model = fields.text("model")?;
        let with_texts =
            fields.flag("return_token_strs")?.unwrap_or(false) | fields.flag("with_pieces")?.unwrap_or(false);
        let (prompt, content) = (fields.text("prompt")?, fields.text("content")?);
        let is_llama_cpp = content.is_some();
        let input = match prompt.or(content) {
            None => {
                let conversation = openai::conversation(&mut fields)?;
                conversation.check()?;
                TokenizeInput::Conversation(conversation)
            }
            Some(text) => {
                let add_special = match fields.flag("add_special_tokens")? {
                    None => fields.flag("add_special")?,
                    given => given,
                };
                let parse_special = fields.flag("parse_special")?.unwrap_or(true);
                TokenizeInput::Text { text, add_special: add_special.unwrap_or(!is_llama_cpp), parse_special }
            }
        };
        fields.end(HARMLESS)?;
        Ok(TokenizeRequest { model, input, with_texts })
    }
}

/// An answer of `POST /tokenize`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokenized {
    /// How many tokens there are.
    pub count: usize,
    /// Tokens the model takes, prompt and answer together.
    pub max_model_len: usize,
    /// The tokens.
    pub tokens: Vec<u32>,
    /// Their texts, when asked for.
    pub token_strs: Option<Vec<String>>,
}

/// A request of `POST /detokenize`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetokenizeRequest {
    /// The model.
    pub model: Option<String>,
    /// The tokens.
    pub tokens: Vec<u32>,
}

impl DetokenizeRequest {
    /// Reads a request's body.
    ///
    /// # Errors
    /// [`crate::Code::InvalidRequest`] with the field at fault.
    pub fn parse(body: &[u8]) -> Result<Self> {
        let mut fields = Fields::parse(body)?;
        let model = fields.text("model")?;
        let tokens = openai::tokens(&mut fields, "tokens", usize::MAX)?;
        fields.end(HARMLESS)?;
        Ok(DetokenizeRequest { model, tokens })
    }
}

/// An answer of `POST /detokenize`, under the names vLLM and llama.cpp have for the text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detokenized {
    /// The text.
    pub prompt: String,
    /// The text again.
    pub content: String,
}

/// A request of `POST /v1/load_lora_adapter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadAdapter {
    /// The model the adapter is for.
    pub model: Option<String>,
    /// What requests call it.
    pub name: String,
    /// A file or folder, relative to the bundle's `adapters` folder or in the folder given at the start.
    pub path: String,
}

impl LoadAdapter {
    /// Reads a request's body.
    ///
    /// # Errors
    /// [`crate::Code::InvalidRequest`] with the field at fault.
    pub fn parse(body: &[u8]) -> Result<Self> {
        let mut fields = Fields::parse(body)?;
        let (name, path) = (fields.text("lora_name")?, fields.text("lora_path")?);
        let request = LoadAdapter {
            model: fields.text("model")?,
            name: fields.needed("lora_name", name)?,
            path: fields.needed("lora_path", path)?,
        };
        fields.refuse("load_inplace", "is not supported: unload the adapter first")?;
        fields.end(&["lora_int_id"])?;
        Ok(request)
    }
}

/// A request of `POST /v1/unload_lora_adapter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnloadAdapter {
    /// The model the adapter is for.
    pub model: Option<String>,
    /// The adapter.
    pub name: String,
}

impl UnloadAdapter {
    /// Reads a request's body.
    ///
    /// # Errors
    /// [`crate::Code::InvalidRequest`] with the field at fault.
    pub fn parse(body: &[u8]) -> Result<Self> {
        let mut fields = Fields::parse(body)?;
        let name = fields.text("lora_name")?;
        let request = UnloadAdapter { model: fields.text("model")?, name: fields.needed("lora_name", name)? };
        fields.end(&["lora_int_id"])?;
        Ok(request)
    }
}

/// What a slot's language engine has done and is doing; counts are since the slot started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Requests being generated.
    pub running: u64,
    /// Requests waiting to be.
    pub waiting: u64,
    /// Pages of the key-value cache that hold something.
    pub kv_pages_used: u64,
    /// Pages there are.
    pub kv_pages: u64,
    /// Prompt tokens found in the prefix cache.
    pub prefix_hit_tokens: u64,
    /// Prompt tokens looked up in it.
    pub prefix_queried_tokens: u64,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub generation_tokens: u64,
    /// Times a request had to make room for others.
    pub preemptions: u64,
    /// Tokens drafted by speculation.
    pub drafted_tokens: u64,
    /// Of them, those that were right.
    pub accepted_tokens: u64,
    /// What the audit of its weights has seen.
    #[serde(default)]
    pub weights: WeightReading,
    /// Requests that ended, by reason.
    pub finished: Vec<Finished>,
    /// From a request to its first token.
    pub time_to_first_token: Histogram,
    /// From one token to the next.
    pub inter_token_latency: Histogram,
    /// From a request to its end.
    pub request_latency: Histogram,
}

/// What the audit of a model's weights in memory has seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WeightReading {
    /// Passes over all weights.
    pub passes: u64,
    /// Bytes looked at.
    pub audited_bytes: u64,
    /// Blocks that were not what was loaded.
    pub faults: u64,
    /// Of them, those that were put back.
    pub repaired: u64,
    /// Seconds the last pass took.
    pub last_pass_seconds: f64,
}

/// Requests that ended for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// Why.
    pub reason: String,
    /// How many.
    pub requests: u64,
}

/// Observations in seconds, counted by size.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// Upper edges, rising.
    pub edges: Vec<f64>,
    /// Observations up to each edge that are over the one before, and then those over all edges.
    pub counts: Vec<u64>,
    /// Sum of all observations.
    pub sum: f64,
}
