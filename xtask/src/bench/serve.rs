//! What is measured over HTTP: the same requests, in the same order, to each engine's server.

use std::collections::BTreeMap;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::load::{self, Answer};
use super::prompts::Prompts;
use super::server::Server;
use super::work::Work;
use super::{Plan, progress};

/// Users at once.
pub(crate) const USERS: usize = 16;
/// Requests of each user with prompts of their own.
const REQUESTS_A_USER: usize = 2;
/// Models above this many bytes get shorter prompts, so that a round takes minutes and not an hour.
const LARGE_MODEL_BYTES: u64 = 400 << 20;
/// Tokens all users' prompts begin with.
const SHARED_TOKENS: usize = 1000;
/// Tokens of their own that follow.
const OWN_TOKENS: usize = 64;
/// Tokens of an answer behind a shared prefix: the first one is what counts.
const SHORT_ANSWER_TOKENS: usize = 8;
/// Answers that run while prompts arrive.
const RUNNING: usize = 8;
/// Tokens of each of them.
const RUNNING_TOKENS: usize = 128;
/// Prompts that arrive, at most, and their tokens.
const ARRIVING: usize = 6;
const ARRIVING_TOKENS: usize = 512;
/// Context of the server whose memory is measured, and the prompt it computes before.
const MEMORY_CONTEXT: usize = 2048;
const MEMORY_PROMPT_TOKENS: usize = 1024;

/// How a server is set up.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// Sequences at once.
    pub(crate) slots: usize,
    /// Tokens of each.
    pub(crate) context: usize,
}

/// An engine that serves.
pub(crate) trait Serves {
    fn name(&self) -> &'static str;
    /// Numbers of sequences worth trying; the best is kept.
    fn slot_choices(&self) -> &'static [usize];
    fn start(&self, plan: &Plan, port: u16, shape: Shape) -> Result<Child>;
}

/// The served works, the tokens the model knows, and what was learnt about each engine in the rounds before.
pub(crate) struct Served {
    vocab: u32,
    prompt_tokens: usize,
    answer_tokens: usize,
    /// The best number of slots, by engine and work.
    slots: BTreeMap<(&'static str, Work), usize>,
}

impl Served {
    pub(crate) fn new(plan: &Plan, vocab: u32) -> Served {
        let large = std::fs::metadata(&plan.model).is_ok_and(|model| LARGE_MODEL_BYTES < model.len());
        let (prompt_tokens, answer_tokens) = if large { (128, 32) } else { (256, 64) };
        Served { vocab, prompt_tokens, answer_tokens, slots: BTreeMap::new() }
    }

    /// Everything served of one round.
    pub(crate) fn round(
        &mut self,
        round: usize,
        engine: &dyn Serves,
        plan: &Plan,
    ) -> Result<Vec<(Work, f64)>> {
        let mut results = Vec::new();
        let wanted = |work| plan.works.contains(&work);
        if wanted(Work::Memory) || wanted(Work::Load) {
            let (memory, load) = self.alone(round, engine, plan)?;
            results.extend([(Work::Memory, memory), (Work::Load, load)]);
        }
        for work in [Work::Http, Work::Prefix, Work::Pauses] {
            if wanted(work) {
                let value = self
                    .best(work, round, engine, plan)
                    .with_context(|| format!("failed to measure `{}` with {}", work.name(), engine.name()))?;
                results.push((work, value));
            }
        }
        results.retain(|(work, _)| wanted(*work));
        for (work, value) in &results {
            progress(format_args!("  {}: {} {value:.1} {}", engine.name(), work.title(), work.unit()));
        }
        Ok(results)
    }

    /// Measures with every choice of slots in the first round, and with the best one from then on.
    fn best(&mut self, work: Work, round: usize, engine: &dyn Serves, plan: &Plan) -> Result<f64> {
        let key = (engine.name(), work);
        let choices = match self.slots.get(&key) {
            Some(slots) => vec![*slots],
            // Every answer that runs needs a slot, and the one that arrives another.
            None if work == Work::Pauses => vec![USERS],
            None => engine.slot_choices().to_vec(),
        };
        let mut best: Option<(f64, usize)> = None;
        for slots in choices {
            let value = self.once(work, round, engine, plan, slots)?;
            let better = |than: f64| if work.higher_is_better() { than < value } else { value < than };
            if best.is_none_or(|(than, _)| better(than)) {
                best = Some((value, slots));
            }
        }
        let (value, slots) = best.context("an engine offers no number of slots")?;
        self.slots.insert(key, slots);
        Ok(value)
    }

    fn once(&self, work: Work, round: usize, engine: &dyn Serves, plan: &Plan, slots: usize) -> Result<f64> {
        let mut prompts = Prompts::new((round * 8 + work as usize) as u64, self.vocab);
        let longest = match work {
            Work::Http => self.prompt_tokens + self.answer_tokens,
            Work::Prefix => SHARED_TOKENS + OWN_TOKENS + SHORT_ANSWER_TOKENS,
            _ => ARRIVING_TOKENS + RUNNING_TOKENS,
        };
        // Whole pages, and a little to spare for what a server adds of its own.
        let shape = Shape { slots, context: (longest + 32).next_multiple_of(64) };
        let server = Server::start(engine, plan, shape, &prompts.take(OWN_TOKENS))?;
        match work {
            Work::Http => {
                let all: Vec<_> =
                    (0..USERS * REQUESTS_A_USER).map(|_| prompts.take(self.prompt_tokens)).collect();
                let begin = Instant::now();
                let answers = load::closed_loop(&server, USERS, &all, self.answer_tokens)?;
                let tokens: usize = answers.iter().map(|answer| answer.tokens).sum();
                Ok(tokens as f64 / begin.elapsed().as_secs_f64())
            }
            Work::Prefix => {
                let shared = prompts.take(SHARED_TOKENS);
                let all: Vec<_> =
                    (0..USERS).map(|_| [shared.clone(), prompts.take(OWN_TOKENS)].concat()).collect();
                let answers = load::closed_loop(&server, USERS, &all, SHORT_ANSWER_TOKENS)?;
                let firsts: Vec<Duration> = answers.iter().filter_map(Answer::first).collect();
                quantile(firsts, 0.5).context("no answer came")
            }
            _ => {
                let running: Vec<_> = (0..RUNNING).map(|_| prompts.take(OWN_TOKENS)).collect();
                let arriving: Vec<_> = (0..ARRIVING).map(|_| prompts.take(ARRIVING_TOKENS)).collect();
                let (answers, span) =
                    load::disturbed(&server, &running, RUNNING_TOKENS, &arriving, SHORT_ANSWER_TOKENS)?;
                quantile(pauses(&answers, span), 0.99).context("no answer ran while prompts arrived")
            }
        }
    }

    /// Peak memory in MiB and milliseconds to the first token of a server for one user.
    fn alone(&self, round: usize, engine: &dyn Serves, plan: &Plan) -> Result<(f64, f64)> {
        let mut prompts = Prompts::new(round as u64 + 1000, self.vocab);
        let shape = Shape { slots: 1, context: MEMORY_CONTEXT };
        let server = Server::start(engine, plan, shape, &prompts.take(8))?;
        let load_ms = server.first_token.as_secs_f64() * 1000.0;
        server.ask(&prompts.take(MEMORY_PROMPT_TOKENS), SHORT_ANSWER_TOKENS)?;
        Ok((server.peak_bytes() as f64 / f64::from(1 << 20), load_ms))
    }
}

/// Pauses between pieces of answers that lie, in part at least, within the span.
fn pauses(answers: &[Answer], [begin, end]: [Instant; 2]) -> Vec<Duration> {
    let pairs = answers.iter().flat_map(|answer| answer.events.windows(2));
    pairs.filter(|pair| begin < pair[1] && pair[0] < end).map(|pair| pair[1] - pair[0]).collect()
}

/// A quantile in milliseconds: the smallest value that at least this share of them does not exceed.
fn quantile(mut values: Vec<Duration>, share: f64) -> Option<f64> {
    values.sort();
    let rank = (values.len() as f64 * share).ceil() as usize;
    values.get(rank.saturating_sub(1)).map(|value| value.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests;
