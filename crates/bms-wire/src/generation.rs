//! How text is generated, in the form all protocols are translated to.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How the next token is drawn. What is absent is left to the model's own defaults.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampling {
    /// 0 takes the likeliest token; 1 draws from the model's own distribution.
    pub temperature: Option<f32>,
    /// Draw from this many likeliest tokens; 0 from all.
    pub top_k: Option<usize>,
    /// Draw from the likeliest tokens that together have this probability.
    pub top_p: Option<f32>,
    /// Draw from tokens with at least this share of the likeliest one's probability.
    pub min_p: Option<f32>,
    /// Divides positive and multiplies negative logits of tokens seen before; 1 changes nothing.
    pub repetition_penalty: Option<f32>,
    /// Taken from a token's logit for each time it was generated.
    pub frequency_penalty: Option<f32>,
    /// Taken from a token's logit once it was generated.
    pub presence_penalty: Option<f32>,
    /// Makes the draw repeatable.
    pub seed: Option<u64>,
    /// Added to the logits of these tokens, from -100 to 100.
    pub logit_bias: Vec<(u32, f32)>,
}

/// What the generated text must look like.
#[derive(Clone, Debug, PartialEq)]
pub enum Constraint {
    /// Any JSON object.
    JsonObject,
    /// JSON that fits this schema.
    JsonSchema(Value),
    /// Text that matches this regular expression as a whole.
    Regex(String),
    /// Text of this grammar, in Lark's notation.
    Grammar(String),
    /// One of these texts.
    Choice(Vec<String>),
}

/// What to generate, whatever the prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// The model, or `model:adapter`; absent when the protocol leaves it open.
    pub model: Option<String>,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Texts that end the answer and are not part of it.
    pub stop: Vec<String>,
    /// Tokens that end the answer.
    pub stop_tokens: Vec<u32>,
    /// Go on when the model says that it is done.
    pub ignore_eos: bool,
    /// Tokens before which the answer does not end.
    pub min_tokens: usize,
    /// Tokens after which it does; absent when only the model's context limits it.
    pub max_tokens: Option<usize>,
    /// Answers to the same prompt.
    pub n: usize,
    /// The logarithm of each token's probability, and of that many likeliest alternatives.
    pub logprobs: Option<usize>,
    /// What the text must look like.
    pub constraint: Option<Constraint>,
    /// On whose behalf: tenants share the model fairly.
    pub user: Option<String>,
    /// Lower values go first; -100 to 100.
    pub priority: i32,
    /// Answer piece by piece.
    pub stream: bool,
    /// End a streamed answer with the number of tokens.
    pub include_usage: bool,
}

impl Default for Generation {
    fn default() -> Self {
        Generation {
            model: None,
            sampling: Sampling::default(),
            stop: Vec::new(),
            stop_tokens: Vec::new(),
            ignore_eos: false,
            min_tokens: 0,
            max_tokens: None,
            n: 1,
            logprobs: None,
            constraint: None,
            user: None,
            priority: 0,
            stream: false,
            include_usage: false,
        }
    }
}

/// Tokens a request took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// Of the prompt, those whose computation was shared included.
    pub prompt: usize,
    /// Of the prompt, those whose computation was shared with an earlier request.
    pub cached: usize,
    /// Generated.
    pub completion: usize,
}
