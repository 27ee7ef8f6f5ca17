//! A planned step carried out: one pass of the decoder, then the choice of tokens, on several threads when it pays.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use bms_nn::lm::{LogitRows, Segment};
use bms_wire::{Code, Error, Result};

use crate::lm::answer::{Advance, Answer};
use crate::lm::core::{ANSWER_TOKEN_CHARGE, Core};
use crate::lm::plan::{Part, Plan};
use crate::lm::sample::{Scratch, largest, log_sum_exp};
use crate::lm::sequence::{Rank, Sequence};
use crate::lm::speculate::Guess;
use crate::lm::vocabulary::Vocabulary;
use crate::lm::{Event, FinishReason, TokenOut};

/// Logits from which on several threads choose tokens.
const PARALLEL_LOGITS_MIN: usize = 1 << 20;

/// One answer's choice in one step.
struct Task<'a> {
    rank: Rank,
    answer: &'a mut Answer,
    rows: &'a mut [f32],
    drafts: &'a [u32],
    outcome: Result<Advance>,
}

impl Core {
    /// Carries a plan out.
    pub(crate) fn compute(&mut self, plan: Plan) {
        let begin = (self.clock)();
        if let Err(error) = self.forward(&plan.parts) {
            for part in &plan.parts {
                self.fail(part.rank.group, copy_of(&error));
            }
            return;
        }
        let took = (self.clock)().saturating_duration_since(begin);
        self.cost.learn(plan.decoded, plan.prefilled, took);
        let mut logits = std::mem::take(&mut self.logits);
        self.choose(&plan.parts, &mut logits);
        self.logits = logits;
    }

    /// One pass of the decoder over all parts.
    fn forward(&mut self, parts: &[Part]) -> Result<()> {
        let mut segments = Vec::with_capacity(parts.len());
        let mut rows = 0;
        for part in parts {
            let Some(sequence) = self.running.get(&part.rank) else { continue };
            rows += match part.logits {
                LogitRows::None => 0,
                LogitRows::Last => 1,
                LogitRows::All => part.input.len(),
            };
            segments.push(Segment {
                tokens: &part.input,
                start: sequence.chain.computed,
                pages: &sequence.chain.pages,
                logits: part.logits,
                adapter: sequence.adapter,
            });
        }
        self.logits.clear();
        let (decoder, logits) = (&mut self.decoder, &mut self.logits);
        let passed = catch_unwind(AssertUnwindSafe(|| decoder.forward(&segments, logits)));
        passed.unwrap_or_else(|_| Err(Error::new(Code::Internal, "the decoder failed on this batch")))?;
        let wanted = rows * self.decoder.info().vocab;
        if self.logits.len() != wanted {
            let message = format!("the decoder gave {} logits, not {wanted}", self.logits.len());
            return Err(Error::new(Code::Internal, message));
        }
        Ok(())
    }

    /// Goes through the parts: notes what is computed, and chooses tokens where the last row is there.
    fn choose(&mut self, parts: &[Part], logits: &mut [f32]) {
        let width = self.decoder.info().vocab;
        let mut rest = logits;
        let mut rows: HashMap<Rank, (&mut [f32], &[u32])> = HashMap::new();
        let mut copies: Vec<(Rank, Vec<f32>)> = Vec::new();
        for part in parts {
            let count = match part.logits {
                LogitRows::None => 0,
                LogitRows::Last => 1,
                LogitRows::All => part.input.len(),
            };
            let (own, others) = rest.split_at_mut(count * width);
            rest = others;
            let own = self.note_prompt(part, own, width);
            if !own.is_empty() {
                self.fork(part.rank, own, &mut copies);
                rows.insert(part.rank, (own, &part.input[part.input.len() - part.drafted..]));
            }
        }
        for (rank, row) in &mut copies {
            rows.insert(*rank, (&mut row[..], &[]));
        }
        let tasks = self.running.iter_mut().filter_map(|(rank, sequence)| {
            let (rows, drafts) = rows.remove(rank)?;
            let outcome = Ok(Advance::default());
            Some(Task { rank: *rank, answer: &mut sequence.answer, rows, drafts, outcome })
        });
        let mut tasks: Vec<Task<'_>> = tasks.collect();
        run(&mut tasks, width, &*self.vocabulary, self.bounds.threads);
        let outcomes: Vec<(Rank, usize, Result<Advance>)> =
            tasks.into_iter().map(|task| (task.rank, task.drafts.len(), task.outcome)).collect();
        let now = (self.clock)();
        for (rank, drafted, outcome) in outcomes {
            match outcome {
                Ok(advance) => self.apply(rank, drafted, advance, now),
                Err(error) => self.fail(rank.group, error),
            }
        }
        self.park_those_beyond_the_bound();
    }

    /// Notes the part of a prompt that is computed. Gives the rows that tokens are chosen from; none before the end of
    /// the prompt.
    fn note_prompt<'l>(&mut self, part: &Part, rows: &'l mut [f32], width: usize) -> &'l mut [f32] {
        let own = part.input.len() - part.drafted;
        if self.wants_prompt_rows(part.rank) {
            self.note_prompt_rows(part, rows, width);
        }
        let Some(sequence) = self.running.get_mut(&part.rank) else { return &mut [] };
        // The last token's page is noted with what is chosen after it.
        let computed = sequence.chain.computed + own;
        self.cache.advance(&mut sequence.chain, computed, &sequence.tokens);
        match sequence.pending() {
            // The rows of the last token and of the drafts after it.
            0 => {
                let chosen = (part.drafted + 1) * width;
                let at = rows.len().saturating_sub(chosen);
                &mut rows[at..]
            }
            _ => &mut [],
        }
    }

    /// Log-probabilities of the prompt's tokens, which the rows before them give.
    fn note_prompt_rows(&mut self, part: &Part, rows: &[f32], width: usize) {
        let Some(sequence) = self.running.get(&part.rank) else { return };
        let Some(group) = self.groups.get_mut(&part.rank.group) else { return };
        let known = self.vocabulary.len().min(width);
        let first = sequence.chain.computed;
        let wanted = group.request.prompt_logprobs.unwrap_or(0);
        if first == 0 {
            group.prompt_out = vec![token_out(sequence.tokens[0], None, Vec::new(), &*self.vocabulary)];
        }
        for (at, row) in rows.chunks(width).enumerate() {
            let Some(next) = sequence.tokens.get(first + at + 1).filter(|_| first + at + 1 < group.prompt)
            else {
                break;
            };
            let row = &row[..known];
            let max = row.iter().fold(f32::NEG_INFINITY, |a, b| if a < *b { *b } else { a });
            let norm = log_sum_exp(row, max);
            let (mut best, mut top) = (Vec::new(), Vec::new());
            if wanted != 0 {
                largest(row, wanted, &mut best);
                top.extend(best.iter().map(|(logit, token)| (*token, logit - norm)));
            }
            let logprob = row.get(*next as usize).map(|logit| logit - norm);
            group.prompt_out.push(token_out(*next, logprob, top, &*self.vocabulary));
        }
    }

    /// At the end of a prompt its request begins to answer: the prompt's event goes out, and the other answers come
    /// into being, with copies of the logits.
    fn fork(&mut self, rank: Rank, row: &[f32], copies: &mut Vec<(Rank, Vec<f32>)>) {
        let Some(sequence) = self.running.get(&rank) else { return };
        let Some(group) = self.groups.get_mut(&rank.group).filter(|group| !group.begun) else { return };
        group.begun = true;
        let n = group.request.n;
        let mut prompt = std::mem::take(&mut group.prompt_out);
        if group.request.echo || group.request.prompt_logprobs.is_some() {
            let tokens = &sequence.tokens[..group.prompt];
            if prompt.is_empty() {
                prompt = tokens
                    .iter()
                    .map(|token| token_out(*token, None, Vec::new(), &*self.vocabulary))
                    .collect();
            }
            let bytes: Vec<u8> =
                tokens.iter().flat_map(|token| self.vocabulary.bytes(*token)).copied().collect();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            self.tell(rank.group, Event::Prompt { text, tokens: prompt });
        }
        let mut forks = Vec::new();
        let Some(sequence) = self.running.get(&rank) else { return };
        for index in 1..n {
            let fork = Sequence {
                tokens: sequence.tokens.clone(),
                chain: self.cache.fork(&sequence.chain),
                adapter: sequence.adapter,
                answer: sequence.answer.fork(index),
                guess: Guess::default(),
                waits: None,
                placed: true,
                last: None,
            };
            forks.push((Rank::new(rank.priority(), rank.group, index), fork));
        }
        for (rank, fork) in forks {
            self.running.insert(rank, fork);
            copies.push((rank, row.to_vec()));
        }
    }

    /// Takes over what was chosen for one answer.
    fn apply(&mut self, rank: Rank, drafted: usize, advance: Advance, now: Instant) {
        let Some(sequence) = self.running.get_mut(&rank) else { return };
        let Some(group) = self.groups.get(&rank.group) else { return };
        let count = advance.tokens.len();
        if group.request.speculate && !sequence.answer.has_form() {
            sequence.guess.learn(drafted, count.saturating_sub(1));
        }
        sequence.tokens.extend(advance.tokens.iter().map(|token| token.id));
        // All but the last of the new tokens went in as drafts.
        let computed = sequence.chain.computed + count.saturating_sub(1);
        self.cache.advance(&mut sequence.chain, computed, &sequence.tokens);
        self.metrics.generated_tokens += count as u64;
        self.metrics.drafted_tokens += drafted as u64;
        self.metrics.accepted_tokens += count.saturating_sub(1) as u64;
        match sequence.last.replace(now) {
            None if rank.index == 0 && count != 0 => {
                self.metrics.ttft.add(now.saturating_duration_since(group.submitted));
            }
            Some(last) => {
                self.metrics.inter_token.add(now.saturating_duration_since(last));
                // Those accepted beside it came at once.
                (1..count).for_each(|_| self.metrics.inter_token.add(std::time::Duration::ZERO));
            }
            None => {}
        }
        let tenant = group.request.tenant.clone();
        self.queue.charge(&tenant, ANSWER_TOKEN_CHARGE * count, now);
        let Advance { tokens, text, end } = advance;
        if !tokens.is_empty() {
            self.tell(rank.group, Event::Tokens { index: rank.index, text, tokens });
        }
        if let Some(reason) = end {
            self.finish(rank, reason);
        }
    }

    /// Forked answers beyond the bound give their pages back and wait for their turn.
    fn park_those_beyond_the_bound(&mut self) {
        while self.bounds.sequences_max < self.running.len() {
            let Some(last) = self.running.keys().next_back().copied() else { return };
            self.park(last);
        }
    }
}

fn token_out(
    token: u32,
    logprob: Option<f32>,
    top: Vec<(u32, f32)>,
    vocabulary: &dyn Vocabulary,
) -> TokenOut {
    TokenOut { id: token, bytes: vocabulary.bytes(token).to_vec(), logprob, top }
}

/// An error for each of those it struck.
fn copy_of(error: &Error) -> Error {
    let copy = Error::new(error.code(), error.message());
    match error.advice() {
        Some(advice) => copy.hint(advice),
        None => copy,
    }
}

/// Chooses all tokens, on as many threads as the logits are worth.
fn run(tasks: &mut [Task<'_>], width: usize, vocabulary: &dyn Vocabulary, threads: usize) {
    let logits: usize = tasks.iter().map(|task| task.rows.len()).sum();
    if threads < 2 || logits < PARALLEL_LOGITS_MIN || tasks.len() < 2 {
        choose(tasks, width, vocabulary);
        return;
    }
    let share = tasks.len().div_ceil(threads);
    std::thread::scope(|scope| {
        let mut shares = tasks.chunks_mut(share);
        let own = shares.next();
        for share in shares {
            scope.spawn(move || choose(share, width, vocabulary));
        }
        if let Some(own) = own {
            choose(own, width, vocabulary);
        }
    });
}

fn choose(tasks: &mut [Task<'_>], width: usize, vocabulary: &dyn Vocabulary) {
    let mut scratch = Scratch::default();
    for task in tasks {
        let (answer, rows, drafts) = (&mut *task.answer, &mut *task.rows, task.drafts);
        let chosen = catch_unwind(AssertUnwindSafe(|| match answer.left() {
            // Only the prompt was asked for.
            0 => Ok(Advance { end: Some(FinishReason::Length), ..Advance::default() }),
            _ => answer.advance(rows, width, drafts, vocabulary, &mut scratch),
        }));
        let failed = || Error::new(Code::Internal, "the choice of a token failed");
        task.outcome = chosen.unwrap_or_else(|_| Err(failed()));
    }
}
