//! One answer as it grows: choice by choice, until something ends it.

use bms_wire::Result;

use crate::lm::constraint::Form;
use crate::lm::said::SaidToken;
use crate::lm::sample::{Choice, Place, Sampler, Scratch};
use crate::lm::text::Text;
use crate::lm::vocabulary::Vocabulary;
use crate::lm::{FinishReason, Request, TokenOut};

/// The rules and the state of one answer.
pub(crate) struct Answer {
    sampler: Sampler,
    text: Text,
    form: Option<Form>,
    /// Tokens that end it.
    ends: Vec<u32>,
    /// Tokens that must not come, at all or before the least length.
    forbidden: Vec<u32>,
    forbidden_early: Vec<u32>,
    stops: Vec<String>,
    logprobs: Option<usize>,
    /// Tokens so far.
    pub(crate) generated: usize,
    tokens_min: usize,
    tokens_max: usize,
}

/// What one step added.
#[derive(Debug, Default)]
pub(crate) struct Advance {
    pub(crate) tokens: Vec<TokenOut>,
    pub(crate) text: String,
    pub(crate) end: Option<FinishReason>,
}

impl Answer {
    /// The rules of `request`. Its constraint, if any, comes compiled.
    pub(crate) fn new(
        request: &Request,
        form: Option<Form>,
        seed: u64,
        tokens_max: usize,
        vocabulary: &dyn Vocabulary,
    ) -> Answer {
        let own: &[u32] = vocabulary.ends();
        // A form ends by the end token, so it stays allowed.
        let forbidden = if request.ignore_eos && form.is_none() { own.to_vec() } else { Vec::new() };
        let mut ends = request.stop_tokens.clone();
        ends.extend(own.iter().filter(|_| !request.ignore_eos || form.is_some()));
        let forbidden_early = if form.is_some() { Vec::new() } else { [&forbidden[..], &ends[..]].concat() };
        Answer {
            sampler: Sampler::new(request.sampling.clone(), seed, 0, &request.prompt),
            text: Text::new(&request.stop),
            form,
            ends,
            forbidden,
            forbidden_early,
            stops: request.stop.clone(),
            logprobs: request.logprobs,
            generated: 0,
            tokens_min: request.min_tokens,
            tokens_max,
        }
    }

    /// The same beginning for answer `index`.
    pub(crate) fn fork(&self, index: usize) -> Answer {
        Answer {
            sampler: self.sampler.fork(index),
            text: self.text.clone(),
            form: self.form.as_ref().map(Form::fork),
            ends: self.ends.clone(),
            forbidden: self.forbidden.clone(),
            forbidden_early: self.forbidden_early.clone(),
            stops: self.stops.clone(),
            ..*self
        }
    }

    /// Tokens that may still come.
    pub(crate) fn left(&self) -> usize {
        self.tokens_max - self.generated
    }

    /// Tokens that must come next, when the form knows.
    pub(crate) fn forced(&mut self) -> Vec<u32> {
        self.form.as_mut().map(Form::forced).unwrap_or_default()
    }

    /// Whether a form holds the answer.
    pub(crate) fn has_form(&self) -> bool {
        self.form.is_some()
    }

    /// Chooses tokens from `rows` of logits, each of `width` values: the first row follows the last token, the others
    /// follow the drafted ones. Goes on as long as the choice is what was drafted; a draft changes no choice therefore,
    /// nor its distribution.
    pub(crate) fn advance(
        &mut self,
        rows: &mut [f32],
        width: usize,
        drafts: &[u32],
        vocabulary: &dyn Vocabulary,
        scratch: &mut Scratch,
    ) -> Result<Advance> {
        let mut advance = Advance::default();
        for (at, row) in rows.chunks_mut(width).enumerate() {
            let known = vocabulary.len().min(width);
            let token = self.step(&mut row[..known], vocabulary, scratch, &mut advance)?;
            if advance.end.is_some() || drafts.get(at) != Some(&token) {
                break;
            }
        }
        self.end_text(&mut advance);
        Ok(advance)
    }

    /// Goes on by tokens that were chosen earlier, as [`Answer::advance`] did then.
    pub(crate) fn repeat(&mut self, said: Vec<SaidToken>, vocabulary: &dyn Vocabulary) -> Result<Advance> {
        let mut advance = Advance::default();
        for SaidToken { id, logprob, top } in said {
            self.take(Choice { token: id, logprob, top }, vocabulary, &mut advance)?;
            if advance.end.is_some() {
                break;
            }
        }
        self.end_text(&mut advance);
        Ok(advance)
    }

    /// An answer that ends without a stop string ends with the text held back for one.
    fn end_text(&mut self, advance: &mut Advance) {
        if advance.end.as_ref().is_some_and(|end| !matches!(end, FinishReason::StopString(_))) {
            advance.text.push_str(&self.text.finish());
        }
    }

    /// The text held back, when something else ends the answer.
    pub(crate) fn finish(&mut self) -> String {
        self.text.finish()
    }

    fn step(
        &mut self,
        logits: &mut [f32],
        vocabulary: &dyn Vocabulary,
        scratch: &mut Scratch,
        advance: &mut Advance,
    ) -> Result<u32> {
        let allowed = self.form.as_mut().map(Form::allowed).transpose()?;
        let early = self.generated < self.tokens_min;
        let place = Place {
            position: self.generated,
            allowed: allowed.as_ref(),
            forbidden: if early { &self.forbidden_early } else { &self.forbidden },
            logprobs: self.logprobs,
        };
        let choice = self.sampler.choose(logits, &place, scratch)?;
        let token = choice.token;
        self.take(choice, vocabulary, advance)?;
        Ok(token)
    }

    /// Takes what was chosen over into the answer.
    fn take(&mut self, choice: Choice, vocabulary: &dyn Vocabulary, advance: &mut Advance) -> Result<()> {
        let token = choice.token;
        self.sampler.count(token);
        self.generated += 1;
        let bytes = vocabulary.bytes(token);
        let shown: &[u8] = if vocabulary.is_control(token) { &[] } else { bytes };
        advance.tokens.push(TokenOut {
            id: token,
            bytes: bytes.to_vec(),
            logprob: choice.logprob,
            top: choice.top,
        });
        if self.ends.contains(&token) {
            advance.end = Some(FinishReason::Stop);
            return Ok(());
        }
        if let Some(form) = &mut self.form {
            form.consume(token)?;
        }
        let clear = self.text.push(shown, self.tokens_min <= self.generated);
        advance.text.push_str(&clear.text);
        advance.end = match clear.stop {
            Some(stop) => Some(FinishReason::StopString(self.stops[stop].clone())),
            None if self.form.as_ref().is_some_and(Form::is_complete) => Some(FinishReason::Stop),
            None if self.tokens_max <= self.generated => Some(FinishReason::Length),
            None => None,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests;
