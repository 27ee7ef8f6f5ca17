//! What a caller asks of a language model.

use std::time::Instant;

use bms_wire::{Code, Error, Result, limits};

/// How the next token is chosen. The default is greedy: the most probable token.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 is greedy. 0 to [`limits::TEMPERATURE_MAX`].
    pub temperature: f32,
    /// Only the so many most probable tokens; 0 is all.
    pub top_k: usize,
    /// Only the most probable tokens that together reach this probability, in (0, 1]; 1 is all.
    pub top_p: f32,
    /// Only tokens at least this share as probable as the most probable one, in [0, 1]; 0 is all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens that prompt or answer hold, in (0, 10]; 1 is none.
    pub repetition_penalty: f32,
    /// Taken from a token's logit for each time the answer holds it, in [-2, 2].
    pub frequency_penalty: f32,
    /// Taken from a token's logit when the answer holds it, in [-2, 2].
    pub presence_penalty: f32,
    /// The same seed and prompt give the same tokens, as far as the decoder's numbers are the same; without one the
    /// engine draws a seed.
    pub seed: Option<u64>,
    /// Added to the logits of these tokens, in [-100, 100]. -100 forbids the token.
    pub logit_bias: Vec<(u32, f32)>,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            seed: None,
            logit_bias: Vec::new(),
        }
    }
}

/// A form that the answer's text must have. Only tokens that keep to it are chosen, and the answer ends when it is
/// complete.
#[derive(Clone, Debug, PartialEq)]
pub enum Constraint {
    /// JSON that this JSON Schema admits.
    JsonSchema(serde_json::Value),
    /// Any JSON object.
    JsonObject,
    /// Text that matches this regular expression from beginning to end (Rust's `regex` syntax, without anchors).
    Regex(String),
    /// Text of this grammar, in llguidance's dialect of Lark. `%json { … }` embeds a schema, which makes tool calls:
    /// `start: "<tool_call>" call "</tool_call>"` with `call: %json { … }`.
    Lark(String),
    /// One of these strings.
    Choice(Vec<String>),
}

/// One question to a language model.
#[derive(Clone, Debug)]
pub struct Request {
    /// The prompt's tokens; at least one.
    pub prompt: Vec<u32>,
    /// Answers to make of the one prompt; its keys and values are computed once.
    pub n: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// The answer ends before the first of these strings; it is not part of the text.
    pub stop: Vec<String>,
    /// The answer ends with one of these tokens, besides the model's own.
    pub stop_tokens: Vec<u32>,
    /// Goes on past the model's own end tokens.
    pub ignore_eos: bool,
    /// Tokens to generate at most; `None` is what the context leaves. Zero makes none, for a prompt's log-probabilities.
    pub max_tokens: Option<usize>,
    /// Tokens to generate at least before an end token or stop string counts.
    pub min_tokens: usize,
    /// A form the answer must have.
    pub constraint: Option<Constraint>,
    /// The name of a loaded adapter.
    pub adapter: Option<String>,
    /// Whose request it is: tenants share the engine evenly.
    pub tenant: String,
    /// Higher is served first, also before other tenants' requests; -100 to 100.
    pub priority: i32,
    /// When the answer ends unfinished, with [`crate::lm::FinishReason::Deadline`].
    pub deadline: Option<Instant>,
    /// Log-probabilities of the tokens chosen, and of so many most probable ones beside them.
    pub logprobs: Option<usize>,
    /// An [`crate::lm::Event::Prompt`] before the answer, with the prompt's text.
    pub echo: bool,
    /// Log-probabilities in that event, with so many most probable tokens beside them. The prompt is then computed
    /// whole, also where its prefix is cached.
    pub prompt_logprobs: Option<usize>,
    /// Whether drafted tokens may be tried; the answer is the same without.
    pub speculate: bool,
    /// Of answers that were interrupted, what each has said: they go on from there, after its events are told again.
    /// Empty for a request that begins; else one for each of the `n` answers, with the seed they began with.
    pub said: Vec<crate::lm::Said>,
}

impl Default for Request {
    fn default() -> Self {
        Request {
            prompt: Vec::new(),
            n: 1,
            sampling: Sampling::default(),
            stop: Vec::new(),
            stop_tokens: Vec::new(),
            ignore_eos: false,
            max_tokens: None,
            min_tokens: 0,
            constraint: None,
            adapter: None,
            tenant: String::new(),
            priority: 0,
            deadline: None,
            logprobs: None,
            echo: false,
            prompt_logprobs: None,
            speculate: true,
            said: Vec::new(),
        }
    }
}

impl Request {
    /// A greedy request with this prompt.
    pub fn new(prompt: Vec<u32>) -> Request {
        Request { prompt, ..Request::default() }
    }

    /// Checks everything that needs no more than the model's numbers of tokens and positions.
    pub(crate) fn check(&self, vocab: usize, context: usize) -> Result<()> {
        self.check_tokens(vocab)?;
        self.check_counts()?;
        self.check_length(context)?;
        self.check_said(vocab, context)?;
        self.sampling.check(vocab)
    }

    /// The tokens of an answer at most: what was asked for, or what the context leaves.
    pub(crate) fn answer_tokens_max(&self, context: usize) -> usize {
        self.max_tokens.unwrap_or(usize::MAX).min(context.saturating_sub(self.prompt.len()))
    }

    fn check_tokens(&self, vocab: usize) -> Result<()> {
        if self.prompt.is_empty() {
            return Err(invalid("the prompt has no tokens"));
        }
        let foreign = |tokens: &[u32]| tokens.iter().copied().find(|t| vocab <= *t as usize);
        match foreign(&self.prompt).or_else(|| foreign(&self.stop_tokens)) {
            Some(token) => Err(invalid(format!("the model has no token {token}, only {vocab}"))),
            None => Ok(()),
        }
    }

    fn check_counts(&self) -> Result<()> {
        within("n", self.n, 1, limits::ANSWERS_MAX)?;
        within("the number of stop strings", self.stop.len(), 0, limits::STOP_STRINGS_MAX)?;
        within("the number of stop tokens", self.stop_tokens.len(), 0, limits::STOP_TOKENS_MAX)?;
        for stop in &self.stop {
            within("a stop string's length", stop.len(), 1, limits::STOP_STRING_BYTES_MAX)?;
        }
        within("the tenant's length", self.tenant.len(), 0, limits::NAME_CHARS_MAX)?;
        for (name, top) in [("logprobs", self.logprobs), ("prompt_logprobs", self.prompt_logprobs)] {
            within(name, top.unwrap_or(0), 0, limits::LOGPROBS_MAX)?;
        }
        match self.priority {
            -100..=100 => Ok(()),
            other => Err(invalid(format!("the priority is {other}, not in -100 to 100"))),
        }
    }

    /// The prompt and the answer asked for fit the context; without a length one token at least does.
    fn check_length(&self, context: usize) -> Result<()> {
        let (prompt, answer) = (self.prompt.len(), self.max_tokens.unwrap_or(1));
        if answer == 0 && !self.echo && self.prompt_logprobs.is_none() {
            return Err(invalid("max_tokens is 0 and nothing of the prompt is asked for"));
        }
        if context < prompt.saturating_add(answer) {
            let message = format!(
                "this model's context is {context} tokens; {} were asked for ({prompt} in the prompt, {answer} for \
                 the answer)",
                prompt.saturating_add(answer)
            );
            return Err(Error::new(Code::InvalidInput, message)
                .hint("Shorten the prompt or ask for a shorter answer."));
        }
        if self.max_tokens.is_some_and(|max| max < self.min_tokens) {
            return Err(invalid("min_tokens is more than max_tokens"));
        }
        Ok(())
    }
}

impl Sampling {
    fn check(&self, vocab: usize) -> Result<()> {
        between("temperature", self.temperature, 0.0, limits::TEMPERATURE_MAX)?;
        between("top_p", self.top_p, f32::MIN_POSITIVE, 1.0)?;
        between("min_p", self.min_p, 0.0, 1.0)?;
        between("repetition_penalty", self.repetition_penalty, 0.01, 10.0)?;
        between("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?;
        between("presence_penalty", self.presence_penalty, -2.0, 2.0)?;
        within("the number of logit biases", self.logit_bias.len(), 0, limits::LOGIT_BIASES_MAX)?;
        for (token, bias) in &self.logit_bias {
            if vocab <= *token as usize {
                return Err(invalid(format!("logit_bias names token {token}; the model has {vocab}")));
            }
            between("a logit bias", *bias, -100.0, 100.0)?;
        }
        Ok(())
    }
}

fn within(name: &str, value: usize, least: usize, most: usize) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(invalid(format!("{name} is {value}, not in {least} to {most}")))
}

fn between(name: &str, value: f32, least: f32, most: f32) -> Result<()> {
    // NaN is in no range.
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(invalid(format!("{name} is {value}, not in {least} to {most}")))
}

pub(crate) fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidInput, message)
}

#[cfg(test)]
mod tests;
