//! A small model that guesses for the large one. It has pages of its own, and what it guesses is checked like any other
//! draft, so it may be wrong, late or broken without harm.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bms_nn::lm::{Decoder, LogitRows, PageId, Segment};
use bms_wire::{Code, Error, Result};

use crate::lm::pages::Pages;
use crate::lm::sample::argmax;
use crate::lm::sequence::Rank;

/// Tokens of a history that it reads in one step, so that a long prompt does not hold the answers up.
const READ_MAX: usize = 128;

/// What one answer's guesses are wanted of.
pub(crate) struct Wanted<'a> {
    pub(crate) rank: Rank,
    pub(crate) tokens: &'a [u32],
    pub(crate) most: usize,
}

/// What the draft model has read of one answer.
#[derive(Debug, Default)]
struct Reading {
    pages: Vec<PageId>,
    tokens: Vec<u32>,
}

/// The draft model.
pub(crate) struct DraftModel {
    decoder: Box<dyn Decoder>,
    pages: Pages,
    readings: BTreeMap<Rank, Reading>,
    logits: Vec<f32>,
    /// Tokens both models know.
    vocab: usize,
    /// Seconds of one guess, learned.
    round: f64,
}

impl DraftModel {
    /// Guesses for a model of so many tokens.
    ///
    /// # Errors
    /// [`Code::InvalidInput`] when the two models have different vocabularies.
    pub(crate) fn new(decoder: Box<dyn Decoder>, vocab: usize) -> Result<DraftModel> {
        let info = decoder.info();
        // Models of one family pad their embeddings differently.
        if info.vocab.abs_diff(vocab) * 50 > vocab || info.page_tokens == 0 {
            let message = format!(
                "the draft model has {} tokens, the model has {vocab}: they do not belong together",
                info.vocab
            );
            return Err(Error::new(Code::InvalidInput, message));
        }
        let (pages, vocab) = (Pages::new(info.pages), vocab.min(info.vocab));
        Ok(DraftModel { decoder, pages, readings: BTreeMap::new(), logits: Vec::new(), vocab, round: 0.0 })
    }

    /// Seconds of one guess.
    pub(crate) fn round(&self) -> f64 {
        self.round
    }

    /// Forgets answers that are done.
    pub(crate) fn keep(&mut self, runs: impl Fn(&Rank) -> bool) {
        let gone: Vec<Rank> = self.readings.keys().filter(|rank| !runs(rank)).copied().collect();
        gone.into_iter().for_each(|rank| self.forget(rank));
    }

    /// Guesses what follows. Answers it has not read yet get no guess this time.
    pub(crate) fn propose(
        &mut self,
        wanted: &[Wanted<'_>],
        clock: &dyn Fn() -> std::time::Instant,
    ) -> Result<HashMap<Rank, Vec<u32>>> {
        let mut guesses = HashMap::new();
        let mut inputs: Vec<(Rank, usize, Vec<u32>)> = Vec::new();
        let mut reads = Vec::new();
        for Wanted { rank, tokens, most } in wanted {
            let Some(rest) = self.prepare(*rank, tokens, *most) else { continue };
            match READ_MAX < rest.len() {
                true if reads.is_empty() => reads.push((*rank, 0, rest[..READ_MAX].to_vec())),
                true => {}
                false => inputs.push((*rank, *most, rest.to_vec())),
            }
        }
        if !reads.is_empty() {
            self.pass(&reads, LogitRows::None)?;
        }
        let mut round = 0;
        while !inputs.is_empty() {
            let begin = clock();
            let best = self.pass(&inputs, LogitRows::Last)?;
            if 0 < round {
                self.learn(clock().saturating_duration_since(begin));
            }
            round += 1;
            let mut next = Vec::new();
            for ((rank, most, _), token) in inputs.into_iter().zip(best) {
                guesses.entry(rank).or_insert_with(Vec::new).push(token);
                if round < most {
                    next.push((rank, most, vec![token]));
                }
            }
            inputs = next;
        }
        Ok(guesses)
    }

    fn learn(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        self.round = if self.round == 0.0 { took } else { self.round + 0.1 * (took - self.round) };
    }

    /// Goes back to where the history is still the same, and makes room for what is to come; what is to be read.
    fn prepare<'a>(&mut self, rank: Rank, tokens: &'a [u32], most: usize) -> Option<&'a [u32]> {
        let info = self.decoder.info();
        let end = tokens.len() + most;
        if info.context < end || tokens.iter().any(|token| info.vocab <= *token as usize) {
            self.forget(rank);
            return None;
        }
        let needed = end.div_ceil(info.page_tokens);
        let reading = self.readings.entry(rank).or_default();
        let same = reading.tokens.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        reading.tokens.truncate(same.min(tokens.len() - 1));
        while reading.pages.len() < needed {
            match self.pages.take() {
                Some(page) => reading.pages.push(page),
                None => {
                    self.forget(rank);
                    return None;
                }
            }
        }
        Some(&tokens[reading.tokens.len()..])
    }

    fn forget(&mut self, rank: Rank) {
        for page in self.readings.remove(&rank).into_iter().flat_map(|reading| reading.pages) {
            self.pages.release(page);
        }
    }

    /// One pass over the inputs; the best token after each, when logits are wanted.
    fn pass(&mut self, inputs: &[(Rank, usize, Vec<u32>)], rows: LogitRows) -> Result<Vec<u32>> {
        let segments: Vec<Segment<'_>> = inputs
            .iter()
            .filter_map(|(rank, _, tokens)| {
                let reading = self.readings.get(rank)?;
                let (start, pages) = (reading.tokens.len(), &reading.pages[..]);
                Some(Segment { tokens, start, pages, logits: rows, adapter: None })
            })
            .collect();
        self.logits.clear();
        let (decoder, logits) = (&mut self.decoder, &mut self.logits);
        let failed = |_| Err(Error::new(Code::Internal, "the draft model failed"));
        catch_unwind(AssertUnwindSafe(|| decoder.forward(&segments, logits))).unwrap_or_else(failed)?;
        for (rank, _, tokens) in inputs {
            if let Some(reading) = self.readings.get_mut(rank) {
                reading.tokens.extend(tokens);
            }
        }
        let width = self.decoder.info().vocab;
        self.logits.chunks(width).map(|row| argmax(&row[..self.vocab.min(row.len())])).collect()
    }
}
