//! What the next step computes: a row of every running answer, and prompts as far as the time allows.

use std::collections::HashMap;
use std::time::Instant;

use bms_nn::lm::LogitRows;

use crate::lm::cache::Follow;
use crate::lm::core::Core;
use crate::lm::draft::Wanted;
use crate::lm::prefixes::NodeId;
use crate::lm::sequence::Rank;
use crate::lm::speculate::DRAFT_MAX;

/// A prompt whose log-probabilities are wanted is computed in pieces of so many tokens: each has a row of logits.
const PROMPT_ROWS_MAX: usize = 64;

/// One sequence's part of a step.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) rank: Rank,
    /// Tokens to compute: the sequence's own, and drafted ones after them.
    pub(crate) input: Vec<u32>,
    /// How many of these are drafted.
    pub(crate) drafted: usize,
    pub(crate) logits: LogitRows,
}

/// A step.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) parts: Vec<Part>,
    /// Rows of running answers, drafts included.
    pub(crate) decoded: usize,
    /// Tokens of prompts.
    pub(crate) prefilled: usize,
}

impl Plan {
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    fn remove(&mut self, rank: Rank) {
        if let Some(at) = self.parts.iter().position(|part| part.rank == rank) {
            let part = self.parts.remove(at);
            match part.input.len() - part.drafted {
                1 => self.decoded -= part.input.len(),
                tokens => self.prefilled -= tokens,
            }
        }
    }
}

impl Core {
    /// Plans a step.
    pub(crate) fn plan(&mut self, now: Instant) -> Plan {
        let mut plan = Plan::default();
        self.place_those_that_wait();
        self.plan_answers(&mut plan);
        let mut left = self.cost.budget(plan.decoded);
        self.plan_prompts(&mut plan, &mut left);
        // Prompts begin only when there is time for them now: who is next is decided as late as possible.
        while self.is_worth_a_piece(&plan, left)
            && let Some(rank) = self.admit(&mut plan, now)
        {
            self.place(rank);
            self.plan_prompt(&mut plan, rank, &mut left);
        }
        plan
    }

    /// Whether so few tokens are worth the beginning of a prompt.
    fn is_worth_a_piece(&self, plan: &Plan, tokens: usize) -> bool {
        self.decoder.info().page_tokens <= tokens || (plan.is_empty() && tokens != 0)
    }

    /// Lets sequences that waited for others' pages take over what became ready.
    fn place_those_that_wait(&mut self) {
        let waiting: Vec<Rank> =
            self.running.iter().filter(|(_, s)| s.waits.is_some() || !s.placed).map(|(r, _)| *r).collect();
        for rank in waiting {
            self.place(rank);
        }
    }

    /// Finds a sequence's place among the prefixes.
    fn place(&mut self, rank: Rank) {
        let Some(sequence) = self.running.get_mut(&rank) else { return };
        let Some(group) = self.groups.get_mut(&rank.group) else { return };
        let whole = group.request.prompt_logprobs.is_some() && !group.begun;
        let follow = if whole {
            self.cache.follow_nothing(&mut sequence.chain, sequence.adapter);
            Follow::Alone
        } else {
            self.cache.follow(&mut sequence.chain, sequence.adapter, &sequence.tokens, &mut *self.decoder)
        };
        sequence.waits = match follow {
            Follow::Alone => None,
            Follow::Waits(node) => Some(node),
        };
        sequence.placed = true;
        if follow == Follow::Alone && group.cached.is_none() {
            let (cached, computed) = (sequence.chain.computed.min(group.prompt), sequence.pending());
            group.cached = Some(cached);
            self.metrics.prompt_tokens += group.prompt as u64;
            self.metrics.prefix_queried_tokens += group.prompt as u64;
            self.metrics.prefix_hit_tokens += cached as u64;
            let tenant = group.request.tenant.clone();
            self.queue.charge(&tenant, computed, (self.clock)());
        }
    }

    /// One row for every answer under way, and drafted ones where they pay.
    fn plan_answers(&mut self, plan: &mut Plan) {
        let ranks: Vec<Rank> = self
            .running
            .iter()
            .filter(|(_, s)| s.waits.is_none() && s.pending() == 1)
            .map(|(r, _)| *r)
            .collect();
        let prompts = self.running.len() != ranks.len() || !self.queue.is_empty();
        let mut rows = ranks.len();
        let mut guesses = self.guesses_of_draft_model(&ranks, prompts);
        for rank in ranks {
            let guessed = guesses.as_mut().and_then(|guesses| guesses.remove(&rank));
            let mut drafts = guessed.unwrap_or_else(|| self.drafts(rank, rows, prompts));
            let computed = match self.running.get(&rank) {
                Some(sequence) => sequence.chain.computed,
                None => continue,
            };
            if !drafts.is_empty() && !self.reserve(plan, rank, computed + 1 + drafts.len(), false) {
                drafts.clear();
            }
            if !self.reserve(plan, rank, computed + 1 + drafts.len(), true) {
                continue;
            }
            let Some(sequence) = self.running.get(&rank) else { continue };
            let mut input = vec![sequence.tokens[computed]];
            input.extend(&drafts);
            rows += drafts.len();
            plan.decoded += input.len();
            plan.parts.push(Part { rank, input, drafted: drafts.len(), logits: LogitRows::All });
        }
    }

    /// Tokens an answer may try beside its next one.
    fn drafts_max(&self, rank: Rank) -> usize {
        let wanted = self.groups.get(&rank.group).is_some_and(|group| group.begun && group.request.speculate);
        match self.running.get(&rank).filter(|_| wanted && self.bounds.speculate) {
            Some(sequence) => sequence.answer.left().saturating_sub(1).min(DRAFT_MAX),
            None => 0,
        }
    }

    /// Tokens to try after an answer's last one.
    fn drafts(&mut self, rank: Rank, rows: usize, prompts: bool) -> Vec<u32> {
        let most = self.drafts_max(rank);
        let Some(sequence) = self.running.get_mut(&rank).filter(|_| most != 0) else { return Vec::new() };
        let mut forced = if sequence.answer.has_form() { sequence.answer.forced() } else { Vec::new() };
        if !forced.is_empty() {
            forced.truncate(most.min(self.cost.drafts(rows, 0.98, DRAFT_MAX, 0.0)));
            return forced;
        }
        // While prompts wait, the time of a row is better spent on them.
        if prompts {
            return Vec::new();
        }
        match most.min(self.cost.drafts(rows, sequence.guess.acceptance(), DRAFT_MAX, 0.0)) {
            0 => Vec::new(),
            most => sequence.guess.propose(&sequence.tokens, most),
        }
    }

    /// What the draft model guesses for all answers at once; `None` when there is none, or no time for it. A draft model
    /// that fails is not asked again.
    fn guesses_of_draft_model(&mut self, ranks: &[Rank], prompts: bool) -> Option<HashMap<Rank, Vec<u32>>> {
        let mut draft = self.draft.take()?;
        draft.keep(|rank| self.running.contains_key(rank));
        if prompts {
            self.draft = Some(draft);
            return None;
        }
        let wanted: Vec<Wanted<'_>> = ranks
            .iter()
            .filter_map(|rank| {
                // The small model knows neither forms nor adapters.
                let sequence =
                    self.running.get(rank).filter(|s| !s.answer.has_form() && s.adapter.is_none())?;
                let acceptance = sequence.guess.acceptance();
                let pays = self.cost.drafts(ranks.len(), acceptance, DRAFT_MAX, draft.round());
                let most = self.drafts_max(*rank).min(pays);
                (most != 0).then_some(Wanted { rank: *rank, tokens: &sequence.tokens, most })
            })
            .collect();
        if wanted.is_empty() {
            self.draft = Some(draft);
            return None;
        }
        let guesses = draft.propose(&wanted, &*self.clock).ok()?;
        self.draft = Some(draft);
        Some(guesses)
    }

    /// Pieces of the prompts that have begun, the most urgent first.
    fn plan_prompts(&mut self, plan: &mut Plan, left: &mut usize) {
        let mut ranks: Vec<(Rank, Rank)> = self
            .running
            .iter()
            .filter(|(_, sequence)| sequence.waits.is_none() && 1 < sequence.pending())
            .map(|(rank, _)| (self.urgency(*rank), *rank))
            .collect();
        ranks.sort_unstable();
        for (_, rank) in ranks {
            if *left == 0 {
                return;
            }
            self.plan_prompt(plan, rank, left);
        }
    }

    /// The best rank among a sequence and those that wait for its pages.
    fn urgency(&self, rank: Rank) -> Rank {
        let Some(sequence) = self.running.get(&rank).filter(|s| s.chain.has_claims()) else { return rank };
        let waits = |node: NodeId| sequence.chain.claims(node);
        let waiting = self.running.iter().filter(|(_, other)| other.waits.is_some_and(waits));
        waiting.map(|(other, _)| *other).min().map_or(rank, |other| rank.min(other))
    }

    /// A piece of one prompt.
    fn plan_prompt(&mut self, plan: &mut Plan, rank: Rank, left: &mut usize) {
        let Some(sequence) = self.running.get(&rank).filter(|sequence| sequence.waits.is_none()) else {
            return;
        };
        let all_rows = self.wants_prompt_rows(rank);
        let (computed, pending) = (sequence.chain.computed, sequence.pending());
        let most = if all_rows { PROMPT_ROWS_MAX.min(*left) } else { *left };
        let mut take = pending.min(most);
        if take < pending {
            // Whole pages, so that others can share them.
            let aligned =
                (computed + take) / self.decoder.info().page_tokens * self.decoder.info().page_tokens;
            take = aligned.checked_sub(computed).filter(|tokens| *tokens != 0).unwrap_or(take);
        }
        if !self.reserve(plan, rank, computed + take, true) {
            return;
        }
        let Some(sequence) = self.running.get(&rank) else { return };
        let logits = match (all_rows, take == pending) {
            (true, _) => LogitRows::All,
            (false, true) => LogitRows::Last,
            (false, false) => LogitRows::None,
        };
        let input = sequence.tokens[computed..computed + take].to_vec();
        match take {
            1 => plan.decoded += 1,
            tokens => plan.prefilled += tokens,
        }
        *left -= take.min(*left);
        plan.parts.push(Part { rank, input, drafted: 0, logits });
    }

    pub(crate) fn wants_prompt_rows(&self, rank: Rank) -> bool {
        let group = self.groups.get(&rank.group);
        group.is_some_and(|group| group.request.prompt_logprobs.is_some() && !group.begun)
    }

    /// Makes room for a sequence's positions up to `end`; with `press`, at the expense of those that rank behind it.
    fn reserve(&mut self, plan: &mut Plan, rank: Rank, end: usize, press: bool) -> bool {
        loop {
            let Some(sequence) = self.running.get_mut(&rank) else { return false };
            if self.cache.reserve(&mut sequence.chain, end, &mut *self.decoder) {
                return true;
            }
            let last = self.running.keys().next_back().copied();
            match last.filter(|last| press && rank < *last) {
                Some(last) => self.preempt(plan, last),
                None => return false,
            }
        }
    }

    fn preempt(&mut self, plan: &mut Plan, rank: Rank) {
        plan.remove(rank);
        self.park(rank);
        self.metrics.preemptions += 1;
    }

    /// Begins the next answer, if there is one and it fits: parked ones first, then new requests.
    fn admit(&mut self, plan: &mut Plan, now: Instant) -> Option<Rank> {
        if !self.embeddings.is_empty() && self.embedding_starves() {
            return None;
        }
        let parked = self.parked.keys().next().copied();
        let waiting = self
            .queue
            .next(now)
            .map(|(waiting, level)| (level, waiting.item.adapter, waiting.item.request.tokens_at_first()));
        match (parked, waiting) {
            (Some(rank), waiting) if waiting.as_ref().is_none_or(|w| w.0 <= rank.priority()) => {
                let sequence = self.parked.get(&rank)?;
                let (adapter, tokens) = (sequence.adapter, sequence.tokens.clone());
                self.make_room(plan, rank.priority(), adapter, &tokens).then_some(())?;
                let sequence = self.parked.remove(&rank)?;
                self.running.insert(rank, sequence);
                Some(rank)
            }
            (_, Some((priority, adapter, tokens))) => {
                self.make_room(plan, priority, adapter, &tokens).then_some(())?;
                let (waiting, level) = self.queue.take(now)?;
                Some(self.begin(waiting.item, level, now))
            }
            (_, None) => None,
        }
    }

    /// Whether an answer with these tokens can begin. Answers of lower priority give way to it.
    fn make_room(&mut self, plan: &mut Plan, priority: i32, adapter: Option<usize>, tokens: &[u32]) -> bool {
        loop {
            let (found, idle) = self.cache.peek(adapter, tokens);
            let needed = self.cache.pages_for(tokens.len() + 1) - found + idle;
            // A page for each that runs, so that they do not press each other at once.
            let spare = self.running.len();
            let fits = self.running.is_empty() || needed + spare <= self.cache.available();
            if fits && self.running.len() < self.bounds.sequences_max {
                return true;
            }
            match self.running.keys().next_back().copied().filter(|last| last.priority() < priority) {
                Some(last) => self.preempt(plan, last),
                None => return false,
            }
        }
    }
}
