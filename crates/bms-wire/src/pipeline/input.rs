//! What other raw input than pictures becomes.

use serde::{Deserialize, Serialize};

/// How a text becomes tokens: the tokenizer's own normalisation and special tokens, cut after `tokens_max`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextInput {
    /// The bundle's `tokenizer.json`.
    pub tokenizer: String,
    /// Tokens of one text at most, special ones included; longer texts are cut.
    pub tokens_max: usize,
    /// The token of the places that a shorter text of one request leaves; they are masked.
    #[serde(default)]
    pub pad: u32,
    /// Name of the graph's input of tokens, i64 `[batch, tokens]`.
    #[serde(default = "input_ids")]
    pub ids: String,
    /// Name of the input that is one where there is a token and zero where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<String>,
    /// Name of the input of the tokens' segments, all zero for one text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub types: Option<String>,
}

fn input_ids() -> String {
    "input_ids".to_owned()
}

/// How the bytes of a file become numbers: `head` bytes of the first `block` and `tail` bytes of the last, white space
/// stripped from the outer ends, missing ones padded on the inner side. What Magika's features are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BytesInput {
    /// Bytes of the beginning.
    pub head: usize,
    /// Bytes of the end.
    pub tail: usize,
    /// Bytes looked at at either end.
    pub block: usize,
    /// The number that stands for no byte.
    pub pad: i32,
    /// A file must have so many bytes.
    #[serde(default)]
    pub bytes_min: usize,
}

/// How a recording is heard: mono samples, −1 to 1, in windows, each with the last `context` samples before it. The graph
/// gives its state back with each answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AudioInput {
    /// Samples a second. A recording of another rate is refused.
    pub sample_rate: u32,
    /// New samples of each run.
    pub window: usize,
    /// Samples of the window before that come again.
    #[serde(default)]
    pub context: usize,
    /// Name of the input of samples, f32 `[1, context + window]`.
    pub samples: String,
    /// Name of the input of the sample rate, i64, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// What the graph remembers.
    #[serde(default)]
    pub state: Vec<StateTensor>,
}

/// A tensor that goes from one run to the next; zero at first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateTensor {
    /// Name of the input.
    pub input: String,
    /// Name of the output it comes from.
    pub output: String,
    /// Its lengths, f32.
    pub shape: Vec<usize>,
}
