//! What a model's file says about its computation, whichever format says it.
//!
//! [`Hyper::from_gguf`] and [`Hyper::from_config`] give the same value for the same model. What would change the
//! computation and is not supported is refused, never passed over.

mod config;
mod file;
mod rope;

pub use bms_kernels::{Activation, RopeStyle};
pub use rope::{Rope, Scaling};

use bms_wire::{Code, Error, Result};

/// A family of models, as GGUF tells them apart. Mistral and Mixtral are `llama`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arch {
    /// Llama 1 to 3, SmolLM2, TinyLlama, Mistral, Mixtral.
    Llama,
    /// Qwen 2 and 2.5.
    Qwen2,
    /// Qwen 1.5 and 2 with experts.
    Qwen2Moe,
    /// Qwen 3.
    Qwen3,
    /// Qwen 3 with experts.
    Qwen3Moe,
    /// Gemma 2.
    Gemma2,
    /// Gemma 3, text.
    Gemma3,
    /// Phi 3, 3.5 and 4 mini.
    Phi3,
    /// BERT and what is trained from it: an encoder, which embeds.
    Bert,
}

impl Arch {
    /// All of them.
    pub const ALL: &'static [Arch] = &[
        Arch::Llama,
        Arch::Qwen2,
        Arch::Qwen2Moe,
        Arch::Qwen3,
        Arch::Qwen3Moe,
        Arch::Gemma2,
        Arch::Gemma3,
        Arch::Phi3,
        Arch::Bert,
    ];

    /// The name in a GGUF file's `general.architecture`.
    pub fn as_str(self) -> &'static str {
        match self {
            Arch::Llama => "llama",
            Arch::Qwen2 => "qwen2",
            Arch::Qwen2Moe => "qwen2moe",
            Arch::Qwen3 => "qwen3",
            Arch::Qwen3Moe => "qwen3moe",
            Arch::Gemma2 => "gemma2",
            Arch::Gemma3 => "gemma3",
            Arch::Phi3 => "phi3",
            Arch::Bert => "bert",
        }
    }

    /// The family with this name in a GGUF file.
    pub fn parse(name: &str) -> Option<Arch> {
        Arch::ALL.iter().copied().find(|arch| arch.as_str() == name)
    }

    /// The family of a folder's `model_type`.
    pub fn of_model_type(name: &str) -> Option<Arch> {
        Some(match name {
            "llama" | "mistral" | "mixtral" => Arch::Llama,
            "qwen2" => Arch::Qwen2,
            "qwen2_moe" => Arch::Qwen2Moe,
            "qwen3" => Arch::Qwen3,
            "qwen3_moe" => Arch::Qwen3Moe,
            "gemma2" => Arch::Gemma2,
            "gemma3" | "gemma3_text" => Arch::Gemma3,
            "phi3" => Arch::Phi3,
            "bert" => Arch::Bert,
            _ => return None,
        })
    }

    fn unknown(name: &str) -> Error {
        let known: Vec<&str> = Arch::ALL.iter().map(|arch| arch.as_str()).collect();
        Error::new(Code::UnsupportedModel, format!("the architecture `{name}` is not supported"))
            .hint(format!("Supported are {}.", known.join(", ")))
    }
}

/// Feed-forward networks of which each token uses a few.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Experts {
    /// How many there are.
    pub count: usize,
    /// How many a token uses.
    pub used: usize,
    /// Hidden width of one.
    pub ffn: usize,
    /// Hidden width of the one every token uses, 0 when there is none.
    pub shared_ffn: usize,
    /// Whether the weights of the used ones are scaled to sum to one.
    pub normalised: bool,
    /// What the weights are multiplied with then.
    pub scale: f32,
}

/// Layers whose tokens see only the nearest ones before them.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// How many positions a token sees, its own included.
    pub tokens: usize,
    /// For each layer whether it is one of these.
    pub layers: Vec<bool>,
    /// Their rotary embedding, where it differs.
    pub rope: Option<Rope>,
}

/// How hidden states of an encoder become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The first one.
    Cls,
    /// The last one.
    Last,
}

/// Everything that shapes the computation beside the weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Hyper {
    /// The family.
    pub arch: Arch,
    /// The model's name, when its file gives one.
    pub name: Option<String>,
    /// Transformer blocks.
    pub layers: usize,
    /// Width of a hidden state.
    pub d_model: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Hidden width of the feed-forward network.
    pub ffn: usize,
    /// Tokens of the vocabulary; rows of the embedding. `None` when only the embedding tells.
    pub vocab: Option<usize>,
    /// Positions the model was trained for.
    pub context: usize,
    /// What is added to a variance.
    pub norm_eps: f32,
    /// The rotary embedding. An encoder with learnt positions has none.
    pub rope: Option<Rope>,
    /// Layers with limited sight.
    pub window: Option<Window>,
    /// What products of queries and keys are multiplied with.
    pub attention_scale: f32,
    /// Bound of attention scores: `c · tanh(score / c)`.
    pub attention_softcap: Option<f32>,
    /// Bound of logits.
    pub logit_softcap: Option<f32>,
    /// What embeddings are multiplied with.
    pub embedding_scale: f32,
    /// The activation.
    pub activation: Activation,
    /// Experts, when the model has them.
    pub experts: Option<Experts>,
    /// Layers that have an ordinary feed-forward network although the model has experts.
    pub dense_layers: Vec<usize>,
    /// Whether the output matrix is the embedding. `None` when only the tensors tell.
    pub tied: Option<bool>,
    /// How an encoder pools, when its file says so.
    pub pooling: Option<Pooling>,
}

/// Highest plausible sizes: what is above is a broken file, and products of any two stay far from overflow.
const LAYERS_MAX: usize = 1024;
const WIDTH_MAX: usize = 1 << 20;
const VOCAB_MAX: usize = 1 << 24;
const CONTEXT_MAX: usize = 1 << 27;

impl Hyper {
    /// Checks that the numbers fit each other.
    fn checked(self) -> Result<Hyper> {
        let wrong = |what: String| Err(Error::new(Code::InvalidBundle, format!("the model's {what}")));
        let ranges = [
            ("number of layers", self.layers, LAYERS_MAX),
            ("hidden width", self.d_model, WIDTH_MAX),
            ("number of heads", self.heads, 1 << 14),
            ("number of key-value heads", self.kv_heads, 1 << 14),
            ("head width", self.head_dim, 1 << 14),
            ("feed-forward width", self.ffn, WIDTH_MAX),
            ("vocabulary", self.vocab.unwrap_or(1), VOCAB_MAX),
            ("context", self.context, CONTEXT_MAX),
        ];
        for (what, value, most) in ranges {
            if !(1..=most).contains(&value) {
                return wrong(format!("{what} is {value}, possible is 1 to {most}"));
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return wrong(format!(
                "{} heads do not share {} key-value heads evenly",
                self.heads, self.kv_heads
            ));
        }
        if !(self.norm_eps.is_finite() && 0.0 <= self.norm_eps) {
            return wrong(format!("norm epsilon is {}", self.norm_eps));
        }
        for value in [self.attention_scale, self.embedding_scale] {
            if !(value.is_finite() && 0.0 < value) {
                return wrong(format!("scale is {value}"));
            }
        }
        for cap in [self.attention_softcap, self.logit_softcap].into_iter().flatten() {
            if !(cap.is_finite() && 0.0 < cap) {
                return wrong(format!("soft cap is {cap}"));
            }
        }
        for rope in self.rope.iter().chain(self.window.iter().filter_map(|window| window.rope.as_ref())) {
            rope.check(self.head_dim)?;
        }
        if let Some(window) = &self.window
            && (window.tokens == 0 || window.layers.len() != self.layers)
        {
            return wrong(format!(
                "window of {} positions is given for {} layers",
                window.tokens,
                window.layers.len()
            ));
        }
        if let Some(experts) = &self.experts {
            experts.check()?;
        }
        if self.dense_layers.iter().any(|layer| self.layers <= *layer) {
            return wrong("list of dense layers names one that is not there".to_owned());
        }
        Ok(self)
    }

    /// Whether layer `layer` has experts.
    pub fn has_experts(&self, layer: usize) -> bool {
        self.experts.is_some() && !self.dense_layers.contains(&layer)
    }

    /// How many positions the tokens of layer `layer` see, when that is limited.
    pub fn window_of(&self, layer: usize) -> Option<usize> {
        self.window.as_ref().filter(|window| window.layers[layer]).map(|window| window.tokens)
    }
}

impl Experts {
    fn check(&self) -> Result<()> {
        let fits = (1..=4096).contains(&self.count)
            && (1..=self.count).contains(&self.used)
            && (1..=WIDTH_MAX).contains(&self.ffn)
            && self.shared_ffn <= WIDTH_MAX
            && self.scale.is_finite();
        match fits {
            true => Ok(()),
            false => Err(Error::new(
                Code::InvalidBundle,
                format!("the model has {} experts of width {} and uses {}", self.count, self.ffn, self.used),
            )),
        }
    }
}

/// A model with something that is not computed here.
pub(super) fn unsupported(what: impl std::fmt::Display) -> Error {
    Error::new(Code::UnsupportedModel, format!("the model is not supported: {what}"))
}

/// The layers of a model of which every `period`-th sees everything and the others a window.
fn alternating(layers: usize, period: usize) -> Vec<bool> {
    (0..layers).map(|layer| (layer + 1) % period != 0).collect()
}

#[cfg(test)]
mod tests;
