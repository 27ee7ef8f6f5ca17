//! `bms bench perplexity`: how well a model predicts a text, counted as llama.cpp's `llama-perplexity` counts.
//!
//! The text is cut into chunks; each is computed on its own, and the second half of each is scored, so that every
//! scored token has at least half a chunk before it. Numbers of the two programs can be compared for the same text and
//! the same chunks.

use std::path::PathBuf;

use bms_nn::lm::{Decoder, LogitRows, PageId, Segment};
use bms_wire::{Code, Error, Result};
use clap::Args;
use serde_json::json;

use super::model::ModelOptions;
use crate::output::Output;

/// Options of `bms bench perplexity`.
#[derive(Debug, Args)]
pub(super) struct Perplexity {
    #[command(flatten)]
    model: ModelOptions,
    /// A text in UTF-8.
    #[arg(long, value_name = "FILE")]
    text: PathBuf,
    /// Tokens of a chunk.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u16).range(8..))]
    chunk: u16,
}

/// What a text's scores add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Score {
    /// Scored tokens.
    tokens: usize,
    /// Negative logarithms of their probabilities.
    sum: f64,
    /// Their squares.
    squares: f64,
}

impl Score {
    fn add(&mut self, nll: f64) {
        self.tokens += 1;
        self.sum += nll;
        self.squares += nll * nll;
    }

    fn perplexity(&self) -> f64 {
        (self.sum / self.tokens as f64).exp()
    }

    /// One standard error of the perplexity.
    fn error(&self) -> f64 {
        let tokens = self.tokens as f64;
        let mean = self.sum / tokens;
        let variance = (self.squares / tokens - mean * mean).max(0.0);
        self.perplexity() * (variance / (tokens - 1.0).max(1.0)).sqrt()
    }
}

impl Perplexity {
    pub(super) fn run(self, output: &Output) -> Result<()> {
        let text = std::fs::read_to_string(&self.text).map_err(|e| Error::io("read", &self.text, e))?;
        let opened = self.model.open(output)?;
        let tokenizer = opened.tokenizer()?;
        let tokens = tokenizer.encode(&text, true, false)?;
        let chunk = usize::from(self.chunk);
        let chunks: Vec<&[u32]> = tokens.chunks_exact(chunk).collect();
        if chunks.is_empty() {
            return Err(Error::new(
                Code::InvalidInput,
                format!("the text has {} tokens, one chunk has {chunk}", tokens.len()),
            )
            .hint("Give a longer text or a smaller --chunk."));
        }
        let mut loaded = opened.load(&self.model.compute, chunk)?;
        let begin = tokenizer.begin().first().copied();
        let progress = output.progress("reading", chunks.len() as u64);
        let mut score = Score::default();
        for (index, tokens) in chunks.iter().enumerate() {
            add_chunk(&mut *loaded.decoder, tokens, begin, &mut score)?;
            progress.at(index as u64 + 1);
            progress.event(json!({"chunk": index + 1, "perplexity": score.perplexity()}));
        }
        progress.done();
        let (perplexity, error) = (score.perplexity(), score.error());
        let text = format!(
            "perplexity {perplexity:.4} ± {error:.4} over {} tokens in {} chunks",
            score.tokens,
            chunks.len()
        );
        let value = json!({
            "perplexity": perplexity, "standard_error": error, "scored_tokens": score.tokens,
            "chunks": chunks.len(), "chunk_tokens": chunk, "isa": self.model.compute.isa().as_str(),
        });
        output.result(text, &value);
        Ok(())
    }
}

/// Scores the second half of a chunk. A model that begins texts with a token sees it instead of the chunk's first.
fn add_chunk(decoder: &mut dyn Decoder, tokens: &[u32], begin: Option<u32>, score: &mut Score) -> Result<()> {
    let mut seen = tokens.to_vec();
    if let (Some(begin), Some(first)) = (begin, seen.first_mut()) {
        *first = begin;
    }
    let page_tokens = decoder.info().page_tokens;
    let pages: Vec<PageId> = (0..tokens.len().div_ceil(page_tokens)).map(|page| page as PageId).collect();
    let middle = tokens.len() / 2;
    let mut logits = Vec::new();
    let part = |range: std::ops::Range<usize>, logits| Segment {
        tokens: &seen[range.clone()],
        start: range.start,
        pages: &pages,
        logits,
        adapter: None,
    };
    decoder.forward(&[part(0..middle, LogitRows::None)], &mut logits)?;
    decoder.forward(&[part(middle..tokens.len(), LogitRows::All)], &mut logits)?;
    // The last position predicts what is not in the chunk.
    for (row, next) in logits.chunks_exact(decoder.info().vocab).zip(&tokens[middle + 1..]) {
        score.add(negative_log_probability(row, *next as usize));
    }
    Ok(())
}

/// The negative logarithm of the probability that the logits give to one of them.
fn negative_log_probability(logits: &[f32], of: usize) -> f64 {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - highest).exp()).sum();
    sum.ln() - f64::from(logits[of] - highest)
}

#[cfg(test)]
mod tests;
