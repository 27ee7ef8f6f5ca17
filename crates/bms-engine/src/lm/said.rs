//! Answers that were interrupted and go on: what was said is not chosen again, it is told again and computed as a prompt.
//!
//! Whoever asked keeps the tokens it heard, event by event. With these a fresh engine comes to the same place: penalties,
//! constraint, stop strings and held back text follow from the tokens, and a random number is a function of the seed
//! and the place (`random`), so that nothing else has to be kept. The same events are told once more, so that
//! everything made of them is made again.

use bms_wire::{Code, Error, Result};

use crate::lm::cache::Chain;
use crate::lm::core::Core;
use crate::lm::request::invalid;
use crate::lm::sequence::{Rank, Sequence};
use crate::lm::speculate::Guess;
use crate::lm::{Event, Request};

/// A token that was chosen in an interrupted run, with what was told of it.
#[derive(Clone, Debug, PartialEq)]
pub struct SaidToken {
    /// Its number.
    pub id: u32,
    /// As [`crate::lm::TokenOut::logprob`].
    pub logprob: Option<f32>,
    /// As [`crate::lm::TokenOut::top`].
    pub top: Vec<(u32, f32)>,
}

/// The tokens of one answer so far, as they were told: those of one [`Event::Tokens`] together.
pub type Said = Vec<Vec<SaidToken>>;

impl Request {
    /// Checks what was said: it could have been said in answer to this request.
    pub(crate) fn check_said(&self, vocab: usize, context: usize) -> Result<()> {
        if self.said.is_empty() {
            return Ok(());
        }
        if self.said.len() != self.n {
            return Err(invalid(format!(
                "{} answers are to go on, {} were asked for",
                self.said.len(),
                self.n
            )));
        }
        if self.echo || self.prompt_logprobs.is_some() {
            return Err(invalid("an answer that begins with its prompt cannot go on"));
        }
        if self.sampling.seed.is_none() && self.sampling.temperature != 0.0 {
            return Err(invalid("an answer can go on only with the seed it began with"));
        }
        let most = self.answer_tokens_max(context);
        for said in &self.said {
            let tokens = said.iter().map(Vec::len).sum::<usize>();
            if most < tokens {
                return Err(invalid(format!("an answer of {tokens} tokens is to go on, {most} are allowed")));
            }
            if let Some(token) = said.iter().flatten().find(|token| vocab <= token.id as usize) {
                return Err(invalid(format!("an answer holds token {}; the model has {vocab}", token.id)));
            }
        }
        Ok(())
    }

    /// The prompt, and what the first answer says already.
    pub(crate) fn tokens_at_first(&self) -> Vec<u32> {
        let said = self.said.first().into_iter().flatten().flatten().map(|token| token.id);
        self.prompt.iter().copied().chain(said).collect()
    }
}

impl Core {
    /// Brings all answers of a request to where they were. The first one runs already, without its tokens; the others
    /// wait for their turn beside those that lost their pages.
    pub(crate) fn go_on(&mut self, first: Rank, said: Vec<Said>) {
        let Some(sequence) = self.running.get(&first) else { return };
        let fresh = |index: usize| Sequence {
            tokens: sequence.tokens.clone(),
            chain: Chain::default(),
            adapter: sequence.adapter,
            answer: sequence.answer.fork(index),
            guess: Guess::default(),
            waits: None,
            placed: false,
            last: None,
        };
        let others: Vec<Sequence> = (1..said.len()).map(fresh).collect();
        for (index, sequence) in (1..).zip(others) {
            self.parked.insert(Rank::new(first.priority(), first.group, index), sequence);
        }
        for (index, said) in said.into_iter().enumerate() {
            let rank = Rank::new(first.priority(), first.group, index);
            if let Err(error) = self.say_again(rank, said) {
                self.fail(first.group, error);
                return;
            }
        }
    }

    fn say_again(&mut self, rank: Rank, said: Said) -> Result<()> {
        for tokens in said.into_iter().filter(|tokens| !tokens.is_empty()) {
            let sequence = self.running.get_mut(&rank).or_else(|| self.parked.get_mut(&rank));
            // What ended must not say more.
            let sequence = sequence
                .ok_or_else(|| Error::new(Code::InvalidInput, "an answer that has ended cannot go on"))?;
            let advance = sequence.answer.repeat(tokens, &*self.vocabulary)?;
            sequence.tokens.extend(advance.tokens.iter().map(|token| token.id));
            self.tell(
                rank.group,
                Event::Tokens { index: rank.index, text: advance.text, tokens: advance.tokens },
            );
            if let Some(reason) = advance.end {
                self.finish(rank, reason);
            }
        }
        Ok(())
    }
}
