//! The engine's state and its step: reap, plan, compute, choose. One thread owns it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bms_nn::lm::Decoder;
use bms_wire::{Code, Error, Result};

use crate::lm::answer::Answer;
use crate::lm::audit::Audit;
use crate::lm::cache::Cache;
use crate::lm::cache::Chain;
use crate::lm::cost::Cost;
use crate::lm::draft::DraftModel;
use crate::lm::embedding::Embedding;
use crate::lm::queue::{FairQueue, Waiting};
use crate::lm::random::fresh_seed;
use crate::lm::sequence::{Group, Listener, Rank, Sequence, Submission};
use crate::lm::speculate::Guess;
use crate::lm::vocabulary::Vocabulary;
use crate::lm::{Event, FinishReason, LanguageMetrics, Usage};

/// A token of an answer is charged like so many of a prompt: it has a pass of its own.
pub(crate) const ANSWER_TOKEN_CHARGE: usize = 2;

/// How a core is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Answers computed at once.
    pub(crate) sequences_max: usize,
    /// How long a step should take while answers run.
    pub(crate) step_target: Duration,
    /// Prompt tokens in one step, at least and at most.
    pub(crate) chunk_min: usize,
    pub(crate) chunk_max: usize,
    /// Whether drafts are tried.
    pub(crate) speculate: bool,
    /// Threads that choose tokens.
    pub(crate) threads: usize,
}

/// Tells a listener something, without waiting for it.
pub(crate) type Deliver = Box<dyn FnMut(&Listener, Event) + Send>;
/// The time.
pub(crate) type Clock = Box<dyn Fn() -> Instant + Send>;

/// The engine's state.
pub(crate) struct Core {
    pub(crate) decoder: Box<dyn Decoder>,
    pub(crate) vocabulary: Arc<dyn Vocabulary>,
    pub(crate) bounds: Bounds,
    pub(crate) cache: Cache,
    pub(crate) cost: Cost,
    pub(crate) queue: FairQueue<Submission>,
    pub(crate) groups: HashMap<u64, Group>,
    /// Answers that hold pages.
    pub(crate) running: BTreeMap<Rank, Sequence>,
    /// Answers that lost their pages, or have not got any yet.
    pub(crate) parked: BTreeMap<Rank, Sequence>,
    pub(crate) embeddings: std::collections::VecDeque<Embedding>,
    /// Those that are done, with what is to be sent.
    pub(crate) embedded: Vec<(Embedding, Result<Vec<Vec<f32>>>)>,
    /// Adapters to unload once no request uses them.
    pub(crate) retired: Vec<usize>,
    pub(crate) metrics: LanguageMetrics,
    pub(crate) logits: Vec<f32>,
    /// A small model that guesses.
    pub(crate) draft: Option<DraftModel>,
    /// Looks at the weights.
    pub(crate) audit: Option<Audit>,
    pub(crate) clock: Clock,
    deliver: Deliver,
    groups_ever: u64,
}

impl Core {
    pub(crate) fn new(
        decoder: Box<dyn Decoder>,
        vocabulary: Arc<dyn Vocabulary>,
        bounds: Bounds,
        clock: Clock,
        deliver: Deliver,
    ) -> Core {
        let info = decoder.info();
        Core {
            cache: Cache::new(info.pages, info.page_tokens),
            cost: Cost::new(bounds.step_target, bounds.chunk_min, bounds.chunk_max),
            decoder,
            vocabulary,
            bounds,
            queue: FairQueue::default(),
            groups: HashMap::new(),
            running: BTreeMap::new(),
            parked: BTreeMap::new(),
            embeddings: std::collections::VecDeque::new(),
            embedded: Vec::new(),
            retired: Vec::new(),
            metrics: LanguageMetrics::default(),
            logits: Vec::new(),
            draft: None,
            audit: None,
            clock,
            deliver,
            groups_ever: 0,
        }
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_empty()
            && self.parked.is_empty()
            && self.queue.is_empty()
            && self.embeddings.is_empty()
            && self.retired.is_empty()
    }

    /// Takes a request that passed its checks.
    pub(crate) fn submit(&mut self, submission: Submission) {
        self.metrics.requests += 1;
        self.queue.push(Waiting {
            tenant: submission.request.tenant.clone(),
            priority: submission.request.priority,
            since: submission.submitted,
            item: submission,
        });
    }

    /// One step; says whether anything was computed.
    pub(crate) fn step(&mut self) -> bool {
        let begin = (self.clock)();
        self.reap(begin);
        self.unload_retired();
        let embedded = self.embed();
        let plan = self.plan(begin);
        let computed = !plan.is_empty();
        if computed {
            self.compute(plan);
        }
        if computed || embedded {
            self.metrics.steps += 1;
            self.metrics.step.add((self.clock)().saturating_duration_since(begin));
        }
        computed || embedded
    }

    /// What there is to see from outside.
    pub(crate) fn snapshot(&self) -> LanguageMetrics {
        let (idle, available) = (self.cache.idle(), self.cache.available());
        let mut metrics = self.metrics.clone();
        metrics.running = self.running.len();
        let waiting: usize = self.parked.len() + self.queue.len();
        metrics.waiting = waiting;
        metrics.kv_pages_total = self.cache.total();
        metrics.kv_pages_cached = idle;
        metrics.kv_pages_used = self.cache.total() - available;
        metrics
    }

    /// Ends what nobody wants any more, and what is overdue.
    fn reap(&mut self, now: Instant) {
        let verdict = |listener: &Listener, deadline: Option<Instant>| {
            if listener.interest.is_lost() {
                Some(FinishReason::Cancelled)
            } else if deadline.is_some_and(|deadline| deadline <= now) {
                Some(FinishReason::Deadline)
            } else {
                None
            }
        };
        let ended: Vec<(u64, FinishReason)> = self
            .groups
            .iter()
            .filter_map(|(id, group)| Some((*id, verdict(&group.listener, group.request.deadline)?)))
            .collect();
        for (id, reason) in ended {
            self.end_group(id, &reason);
        }
        let gone = self.queue.remove(|w| verdict(&w.item.listener, w.item.request.deadline).is_some());
        for waiting in gone {
            let Some(reason) = verdict(&waiting.item.listener, waiting.item.request.deadline) else {
                continue;
            };
            let usage = Usage { prompt_tokens: waiting.item.request.prompt.len(), ..Usage::default() };
            for index in 0..waiting.item.request.n {
                self.count_end(&reason);
                let reason = reason.clone();
                (self.deliver)(&waiting.item.listener, Event::Done { index, reason, usage });
            }
        }
    }

    /// Ends all open answers of a request.
    fn end_group(&mut self, id: u64, reason: &FinishReason) {
        let ranks = self.ranks_of(id);
        let begun = self.groups.get(&id).is_none_or(|group| group.begun);
        for rank in ranks {
            self.finish(rank, reason.clone());
        }
        if !begun && let Some(group) = self.groups.remove(&id) {
            // Answers that were not forked yet.
            for index in 1..group.request.n {
                self.count_end(reason);
                let usage = Usage {
                    prompt_tokens: group.prompt,
                    cached_tokens: group.cached.unwrap_or(0),
                    completion_tokens: 0,
                };
                (self.deliver)(&group.listener, Event::Done { index, reason: reason.clone(), usage });
            }
        }
    }

    fn ranks_of(&self, id: u64) -> Vec<Rank> {
        let of = |rank: &&Rank| rank.group == id;
        self.running.keys().filter(of).chain(self.parked.keys().filter(of)).copied().collect()
    }

    /// Ends one answer: gives its pages back and tells its listener.
    pub(crate) fn finish(&mut self, rank: Rank, reason: FinishReason) {
        let Some(mut sequence) = self.running.remove(&rank).or_else(|| self.parked.remove(&rank)) else {
            return;
        };
        self.cache.release(&mut sequence.chain);
        self.count_end(&reason);
        let now = (self.clock)();
        let Some(group) = self.groups.get_mut(&rank.group) else { return };
        self.metrics.e2e.add(now.saturating_duration_since(group.submitted));
        // A stop string's answer ends before the text that was held back; every other one with it.
        let cut = matches!(reason, FinishReason::StopString(_));
        let text = if cut { String::new() } else { sequence.answer.finish() };
        if !text.is_empty() {
            (self.deliver)(&group.listener, Event::Tokens { index: rank.index, text, tokens: Vec::new() });
        }
        let usage = Usage {
            prompt_tokens: group.prompt,
            cached_tokens: group.cached.unwrap_or(0),
            completion_tokens: sequence.answer.generated,
        };
        (self.deliver)(&group.listener, Event::Done { index: rank.index, reason, usage });
        group.open -= 1;
        if group.open == 0 {
            self.groups.remove(&rank.group);
        }
    }

    /// Fails a request, all its answers.
    pub(crate) fn fail(&mut self, id: u64, error: Error) {
        for rank in self.ranks_of(id) {
            if let Some(mut sequence) = self.running.remove(&rank).or_else(|| self.parked.remove(&rank)) {
                self.cache.release(&mut sequence.chain);
            }
        }
        if let Some(group) = self.groups.remove(&id) {
            self.metrics.failed += group.open as u64;
            (self.deliver)(&group.listener, Event::Failed(error));
        }
    }

    /// Fails everything; the engine stops.
    pub(crate) fn fail_all(&mut self) {
        let stops = || Error::new(Code::Unavailable, "the engine stops");
        for id in self.groups.keys().copied().collect::<Vec<_>>() {
            self.fail(id, stops());
        }
        for waiting in self.queue.remove(|_| true) {
            (self.deliver)(&waiting.item.listener, Event::Failed(stops()));
        }
        for embedding in self.embeddings.drain(..) {
            embedding.reply(Err(stops()));
        }
    }

    /// Fails everything and begins with empty pages: what is left after a fault cannot be trusted.
    pub(crate) fn start_over(&mut self) {
        self.cache = Cache::new(self.decoder.info().pages, self.decoder.info().page_tokens);
        let fault = || Error::new(Code::Internal, "the engine failed on this batch");
        for sequence in self.running.values_mut().chain(self.parked.values_mut()) {
            sequence.chain = Chain::default();
        }
        for id in self.groups.keys().copied().collect::<Vec<_>>() {
            self.fail(id, fault());
        }
        for embedding in self.embeddings.drain(..) {
            embedding.reply(Err(fault()));
        }
    }

    /// Tells a request's listener.
    pub(crate) fn tell(&mut self, id: u64, event: Event) {
        if let Some(group) = self.groups.get(&id) {
            (self.deliver)(&group.listener, event);
        }
    }

    /// Takes an answer's pages away; it is computed again later.
    pub(crate) fn park(&mut self, rank: Rank) {
        let Some(mut sequence) = self.running.remove(&rank) else { return };
        self.cache.release(&mut sequence.chain);
        (sequence.waits, sequence.placed) = (None, false);
        if let Some(group) = self.groups.get_mut(&rank.group)
            && !group.begun
        {
            group.prompt_out.clear();
        }
        self.parked.insert(rank, sequence);
    }

    /// Makes the first answer of a request out of its submission. It keeps the priority that waiting brought it.
    pub(crate) fn begin(&mut self, submission: Submission, priority: i32, now: Instant) -> Rank {
        let Submission { mut request, form, adapter, listener, submitted, seat } = submission;
        drop(seat);
        self.metrics.queue.add(now.saturating_duration_since(submitted));
        self.groups_ever += 1;
        let rank = Rank::new(priority, self.groups_ever, 0);
        let info = self.decoder.info();
        let tokens_max = request.answer_tokens_max(info.context.min(info.pages * info.page_tokens));
        let seed = request.sampling.seed.unwrap_or_else(fresh_seed);
        let answer = Answer::new(&request, form, seed, tokens_max, &*self.vocabulary);
        let tokens = std::mem::take(&mut request.prompt);
        let said = std::mem::take(&mut request.said);
        let group = Group {
            listener,
            submitted,
            open: request.n,
            prompt: tokens.len(),
            cached: None,
            prompt_out: Vec::new(),
            // Answers that go on each have a sequence from the beginning.
            begun: !said.is_empty(),
            request,
        };
        let sequence = Sequence {
            tokens,
            chain: Chain::default(),
            adapter,
            answer,
            guess: Guess::default(),
            waits: None,
            placed: false,
            last: None,
        };
        self.groups.insert(rank.group, group);
        self.running.insert(rank, sequence);
        if !said.is_empty() {
            self.go_on(rank, said);
        }
        rank
    }

    fn count_end(&mut self, reason: &FinishReason) {
        let metrics = &mut self.metrics;
        *match reason {
            FinishReason::Stop | FinishReason::StopString(_) => &mut metrics.finished_stop,
            FinishReason::Length => &mut metrics.finished_length,
            FinishReason::Cancelled => &mut metrics.cancelled,
            FinishReason::Deadline => &mut metrics.overdue,
        } += 1;
    }

    /// Unloads adapters that were given up, once nobody uses them.
    fn unload_retired(&mut self) {
        let sequences = self.running.values().chain(self.parked.values());
        let mut used: Vec<usize> = sequences.filter_map(|sequence| sequence.adapter).collect();
        let mut queued = Vec::new();
        if !self.retired.is_empty() {
            self.queue.remove(|waiting| {
                queued.extend(waiting.item.adapter);
                false
            });
        }
        used.extend(queued);
        let free: Vec<usize> = self.retired.iter().copied().filter(|id| !used.contains(id)).collect();
        for adapter in free {
            self.retired.retain(|id| *id != adapter);
            self.cache.forget_adapter(adapter);
            self.decoder.remove_adapter(adapter);
        }
    }
}
