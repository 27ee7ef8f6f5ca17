//! `POST /v1/embeddings`.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Usage;
use super::completion::{Prompt, prompts};
use super::options::{self, HARMLESS};
use crate::fields::{Fields, unsupported};
use crate::{Result, limits};

/// A request, translated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddingRequest {
    /// The model.
    pub model: Option<String>,
    /// What is embedded.
    pub inputs: Vec<Prompt>,
    /// How vectors are written.
    pub encoding: EmbeddingEncoding,
    /// Keep this many leading dimensions and normalise again.
    pub dimensions: Option<usize>,
    /// On whose behalf.
    pub user: Option<String>,
}

/// How vectors are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmbeddingEncoding {
    /// A list of numbers.
    Float,
    /// The little-endian bytes of 32-bit floats, in base64.
    Base64,
}

impl EmbeddingRequest {
    /// Reads a request's body.
    ///
    /// # Errors
    /// [`crate::Code::InvalidRequest`] or [`crate::Code::TooLarge`], with the field at fault.
    pub fn parse(body: &[u8]) -> Result<Self> {
        let mut fields = Fields::parse(body)?;
        let model = fields.text("model")?;
        let input = fields.take("input");
        let inputs = prompts("input", fields.needed("input", input)?, limits::EMBED_INPUTS_MAX)?;
        let encoding = match fields.text("encoding_format")?.as_deref() {
            None | Some("float") => EmbeddingEncoding::Float,
            Some("base64") => EmbeddingEncoding::Base64,
            Some(_) => return Err(unsupported("encoding_format", "is neither float nor base64")),
        };
        let dimensions = fields.count("dimensions", 1..=1 << 20)?;
        let user = fields.text("user")?;
        fields.refuse("truncate_prompt_tokens", "is not supported: an input is never shortened silently")?;
        fields.only("add_special_tokens", &[json!(true)], "cannot be false")?;
        options::patience(&mut fields)?;
        fields.end(HARMLESS)?;
        Ok(EmbeddingRequest { model, inputs, encoding, dimensions, user })
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Embeddings {
    /// Always `list`.
    pub object: String,
    /// One for each input, in order.
    pub data: Vec<Embedding>,
    /// The model, as the request named it.
    pub model: String,
    /// Tokens it took.
    pub usage: Usage,
}

/// One vector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Embedding {
    /// Always `embedding`.
    pub object: String,
    /// Which input.
    pub index: usize,
    /// The vector.
    pub embedding: EmbeddingVector,
}

/// A vector as it is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EmbeddingVector {
    /// Numbers.
    Float(Vec<f32>),
    /// Bytes in base64.
    Base64(String),
}
