//! The works of a decoder, as llama.cpp's benchmarks define them: random tokens, no sampling.

use std::time::Instant;

use bms_nn::lm::{Decoder, LogitRows, PageId, Segment};
use bms_wire::Result;

/// Tokens of the prompt that is read in one pass.
pub(super) const PROMPT_TOKENS: usize = 512;
/// Tokens that one sequence generates.
pub(super) const GENERATED_TOKENS: usize = 128;
/// Sequences of the batch; the prompt of each; the tokens that each generates.
pub(super) const BATCH: usize = 16;
const BATCH_PROMPT_TOKENS: usize = 64;
const BATCH_GENERATED_TOKENS: usize = 32;
/// Positions all works together need in the cache.
pub(super) const CACHE_TOKENS: usize = BATCH * (BATCH_PROMPT_TOKENS + BATCH_GENERATED_TOKENS);

const _: () = assert!(PROMPT_TOKENS <= CACHE_TOKENS && GENERATED_TOKENS <= CACHE_TOKENS);

/// A decoder and what goes into it.
pub(super) struct Driver<'a> {
    decoder: &'a mut dyn Decoder,
    logits: Vec<f32>,
    state: u64,
}

impl<'a> Driver<'a> {
    pub(super) fn new(decoder: &'a mut dyn Decoder) -> Driver<'a> {
        Driver { decoder, logits: Vec::new(), state: 1 }
    }

    /// Tokens per second of reading a prompt.
    pub(super) fn prompt(&mut self) -> Result<f64> {
        let (tokens, pages) = (self.tokens(PROMPT_TOKENS), self.pages(0, PROMPT_TOKENS));
        let begin = Instant::now();
        self.forward(&[Segment {
            tokens: &tokens,
            start: 0,
            pages: &pages,
            logits: LogitRows::Last,
            adapter: None,
        }])?;
        Ok(PROMPT_TOKENS as f64 / begin.elapsed().as_secs_f64())
    }

    /// Tokens per second of one sequence.
    pub(super) fn generate(&mut self) -> Result<f64> {
        self.generate_many(1, 0, GENERATED_TOKENS)
    }

    /// Tokens per second of all sequences of a batch together, behind their prompts.
    pub(super) fn batch(&mut self) -> Result<f64> {
        let all = BATCH_PROMPT_TOKENS + BATCH_GENERATED_TOKENS;
        for sequence in 0..BATCH {
            let (tokens, pages) = (self.tokens(BATCH_PROMPT_TOKENS), self.pages(sequence, all));
            let logits = LogitRows::Last;
            self.forward(&[Segment { tokens: &tokens, start: 0, pages: &pages, logits, adapter: None }])?;
        }
        self.generate_many(BATCH, BATCH_PROMPT_TOKENS, BATCH_GENERATED_TOKENS)
    }

    /// `count` tokens of each of `sequences` sequences that have `start` tokens.
    fn generate_many(&mut self, sequences: usize, start: usize, count: usize) -> Result<f64> {
        let pages: Vec<_> = (0..sequences).map(|sequence| self.pages(sequence, start + count)).collect();
        let begin = Instant::now();
        for position in start..start + count {
            let tokens = self.tokens(sequences);
            let segment = |(token, pages)| Segment {
                tokens: std::slice::from_ref(token),
                start: position,
                pages,
                logits: LogitRows::Last,
                adapter: None,
            };
            let segments: Vec<_> = tokens.iter().zip(pages.iter().map(Vec::as_slice)).map(segment).collect();
            self.forward(&segments)?;
        }
        Ok((sequences * count) as f64 / begin.elapsed().as_secs_f64())
    }

    fn forward(&mut self, segments: &[Segment<'_>]) -> Result<()> {
        self.logits.clear();
        self.decoder.forward(segments, &mut self.logits)
    }

    /// Pages of the `sequence`th of several sequences with `tokens` tokens each.
    fn pages(&self, sequence: usize, tokens: usize) -> Vec<PageId> {
        let each = tokens.div_ceil(self.decoder.info().page_tokens);
        (sequence * each..(sequence + 1) * each).map(|page| page as PageId).collect()
    }

    /// Random tokens, the same in every run.
    fn tokens(&mut self, count: usize) -> Vec<u32> {
        let vocab = self.decoder.info().vocab as u64;
        let mut next = || {
            // Knuth's multiplier; the high bits are the random ones.
            self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((self.state >> 33) % vocab) as u32
        };
        (0..count).map(|_| next()).collect()
    }
}

#[cfg(test)]
mod tests;
