//! Somebody with a key, what it has used, and one request of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bms_registry::{KeyUse, StoredKey};
use bms_wire::api::{KeyLimits, Role};
use bms_wire::{Code, Error, Result, limits};
use bytes::Bytes;

use super::bucket::{Bucket, Rate, Standing};
use super::counted::Tokens;
use super::{Shared, now_ms};

const DAY_SECONDS: u64 = 24 * 3600;
/// When somebody whose open requests are too many may try again.
const PAUSE: Duration = Duration::from_secs(1);

/// Somebody with a key.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) stored: StoredKey,
    pub(super) counts: Arc<Counts>,
    pub(super) shared: Arc<Shared>,
}

/// What a key has used here; it outlives changes of the key.
#[derive(Debug)]
pub(super) struct Counts(Mutex<Counted>);

#[derive(Debug)]
struct Counted {
    requests: Bucket,
    tokens: Bucket,
    /// What this process counted on this day.
    today: Used,
    /// What it counted on the day before and has not written down yet.
    before: Option<Used>,
    /// It has counted since it was written down last.
    is_dirty: bool,
    /// What the others counted today; not known at first.
    others: Option<Used>,
    open: u64,
    open_by_model: HashMap<String, usize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Used {
    day: i64,
    requests: u64,
    tokens: u64,
}

impl Counts {
    pub(super) fn new(shared: &Shared) -> Self {
        Counts(Mutex::new(Counted {
            requests: Bucket::new(Instant::now()),
            tokens: Bucket::new(Instant::now()),
            today: Used { day: shared.day(), ..Used::default() },
            before: None,
            is_dirty: false,
            others: None,
            open: 0,
            open_by_model: HashMap::new(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        // Numbers, each of which is meaningful whatever happened to the others.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    /// Begins a new day if it is one.
    fn turn(&mut self, day: i64) {
        if self.today.day < day {
            if self.is_dirty {
                self.before = Some(self.today);
            }
            self.today = Used { day, ..Used::default() };
            self.others = self.others.map(|_| self.today);
        }
    }

    fn all_today(&self) -> (u64, u64) {
        let others = self.others.unwrap_or_default();
        (self.today.requests + others.requests, self.today.tokens + others.tokens)
    }
}

impl Caller {
    pub(super) fn name(&self) -> &str {
        &self.stored.key.name
    }

    pub(super) fn role(&self) -> Role {
        self.stored.key.role
    }

    pub(super) fn has_expired(&self, now_ms: i64) -> bool {
        self.stored.key.expires_ms.is_some_and(|expires| expires <= now_ms)
    }

    fn limits(&self) -> &KeyLimits {
        &self.stored.key.limits
    }

    fn rate(&self, per_minute: Option<u64>) -> Option<Rate> {
        per_minute.map(|per_minute| Rate { per_minute, replicas: self.shared.replicas() })
    }

    /// Lets one request in.
    ///
    /// # Errors
    /// [`Code::RateLimited`] when the key has used what it may.
    pub(super) fn admit(self: &Arc<Self>) -> Result<Arc<Ticket>> {
        match self.try_admit() {
            Ok(()) => Ok(Arc::new(Ticket { caller: self.clone(), state: Mutex::default() })),
            Err((reason, error)) => {
                self.shared.metrics.keys.refused(self.name(), reason);
                Err(error)
            }
        }
    }

    fn try_admit(&self) -> Result<(), (&'static str, Error)> {
        let allowed = self.limits();
        let mut counted = self.counts.lock();
        counted.turn(self.shared.day());
        if allowed.concurrent.is_some_and(|most| most <= counted.open) {
            let most = allowed.concurrent.unwrap_or_default();
            let what = format!("the key `{}` has {most} requests open already", self.name());
            return Err(("concurrent", limited(what, PAUSE)));
        }
        let (requests, tokens) = counted.all_today();
        for (limit, used, what, reason) in [
            (allowed.requests_per_day, requests, "requests", "requests_per_day"),
            (allowed.tokens_per_day, tokens, "tokens", "tokens_per_day"),
        ] {
            if let Some(limit) = limit.filter(|limit| *limit <= used) {
                let what = format!("the key `{}` has used its {limit} {what} of today (UTC)", self.name());
                return Err((reason, limited(what, until_midnight())));
            }
        }
        // Somebody who is overdrawn waits; how many tokens this one takes is known once it was read.
        if let Some(rate) = self.rate(allowed.tokens_per_minute) {
            let took = counted.tokens.take(0, rate, Instant::now());
            took.map_err(|wait| ("tokens_per_minute", self.too_fast("tokens", rate, wait)))?;
        }
        if let Some(rate) = self.rate(allowed.requests_per_minute) {
            let took = counted.requests.take(1, rate, Instant::now());
            took.map_err(|wait| ("requests_per_minute", self.too_fast("requests", rate, wait)))?;
        }
        counted.open += 1;
        counted.today.requests += 1;
        counted.is_dirty = true;
        Ok(())
    }

    /// A request that was let in is refused after all: it does not count as one.
    fn give_back(&self, counted: &mut Counted) {
        counted.turn(self.shared.day());
        counted.today.requests = counted.today.requests.saturating_sub(1);
        counted.is_dirty = true;
        if let Some(rate) = self.rate(self.limits().requests_per_minute) {
            counted.requests.settle(-1.0, rate, Instant::now());
        }
    }

    fn too_fast(&self, what: &str, rate: Rate, wait: Duration) -> Error {
        limited(format!("the key `{}` may use {} {what} a minute", self.name(), rate.per_minute), wait)
    }

    /// How its limits of a minute stand: of requests, and of tokens.
    pub(super) fn standings(&self) -> [Option<Standing>; 2] {
        let (requests, tokens) =
            (self.rate(self.limits().requests_per_minute), self.rate(self.limits().tokens_per_minute));
        let (mut counted, now) = (self.counts.lock(), Instant::now());
        [
            requests.map(|rate| counted.requests.standing(rate, now)),
            tokens.map(|rate| counted.tokens.standing(rate, now)),
        ]
    }

    /// What is to be written down, of today and the day before.
    pub(super) fn unwritten(&self) -> Vec<KeyUse> {
        let mut counted = self.counts.lock();
        counted.turn(self.shared.day());
        let today = counted.is_dirty.then_some(counted.today);
        // What comes while it is written makes it dirty again.
        counted.is_dirty = false;
        let both = counted.before.into_iter().chain(today);
        let key = &self.stored.key.id;
        let used = |used: Used| KeyUse {
            key: key.clone(),
            day: used.day,
            requests: used.requests,
            tokens: used.tokens,
        };
        both.map(used).collect()
    }

    pub(super) fn has_unwritten(&self) -> bool {
        let counted = self.counts.lock();
        counted.is_dirty || counted.before.is_some()
    }

    /// What [`Caller::unwritten`] gave is written down, or is not.
    pub(super) fn was_written(&self, written: bool) {
        let mut counted = self.counts.lock();
        match written {
            true => counted.before = None,
            false => counted.is_dirty = true,
        }
    }

    /// Takes over what the others counted on a day. What they let in since the last time is taken off the limits here.
    pub(super) fn hear(&self, day: i64, requests: u64, tokens: u64) {
        let mut counted = self.counts.lock();
        counted.turn(day);
        let heard = Used { day, requests, tokens };
        let last = counted.others.replace(heard);
        let Some(last) = last.filter(|last| last.day == day) else { return };
        if let Some(rate) = self.rate(self.limits().requests_per_minute) {
            counted.requests.settle(requests.saturating_sub(last.requests) as f64, rate, Instant::now());
        }
        if let Some(rate) = self.rate(self.limits().tokens_per_minute) {
            counted.tokens.settle(tokens.saturating_sub(last.tokens) as f64, rate, Instant::now());
        }
    }
}

/// One request of somebody with a key, until its answer is out.
#[derive(Debug)]
pub(crate) struct Ticket {
    caller: Arc<Caller>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The model it has a place at.
    model: Option<String>,
    /// Tokens that were taken for it.
    taken: u64,
    /// Tokens of its prompt and its answer, as estimated, when it reads or writes text.
    estimated: Option<(u64, u64)>,
    failed: bool,
    /// Its answer was there already.
    is_free: bool,
    tokens: Tokens,
}

impl Ticket {
    /// The name of the key.
    pub(crate) fn key(&self) -> &str {
        self.caller.name()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It asks this model, of whose places it takes one.
    ///
    /// # Errors
    /// [`Code::PermissionDenied`] when the key is for other models; [`Code::QueueFull`] when it has its share of the queue.
    pub(crate) fn asks(&self, model: &str, takes_text: bool) -> Result<()> {
        let (name, allowed) = (self.caller.name(), self.caller.limits());
        if !allowed.models.is_empty() && !allowed.models.iter().any(|known| known == model) {
            let what = format!("the key `{name}` is not for the model `{model}`");
            return Err(Error::new(Code::PermissionDenied, what)
                .hint(format!("It is for {}.", allowed.models.join(", "))));
        }
        let mut state = self.state();
        if state.model.is_some() {
            return Ok(());
        }
        let places = if takes_text { limits::LANGUAGE_REQUESTS_MAX } else { limits::QUEUE_ROWS_MAX };
        // Half is left for the others, whoever is first.
        let share = if allowed.priority { usize::MAX } else { places / 2 };
        let mut counted = self.caller.counts.lock();
        let open = counted.open_by_model.entry(model.to_owned()).or_default();
        if share <= *open {
            let what =
                format!("the key `{name}` has its share of the places at `{model}`, {share} of {places}");
            drop(counted);
            self.caller.shared.metrics.keys.refused(name, "share");
            return Err(Error::new(Code::QueueFull, what).hint("Send the request again after a pause."));
        }
        *open += 1;
        state.model = Some(model.to_owned());
        Ok(())
    }

    /// It reads and writes about so many tokens, which are taken off its limits until it is known better.
    ///
    /// # Errors
    /// [`Code::RateLimited`] when there are not as many left.
    pub(crate) fn generates(&self, prompt: u64, answer: u64) -> Result<()> {
        let mut state = self.state();
        state.estimated = Some((prompt, answer));
        let tokens = prompt.saturating_add(answer);
        let Some(rate) = self.caller.rate(self.caller.limits().tokens_per_minute) else { return Ok(()) };
        let mut counted = self.caller.counts.lock();
        let took = counted.tokens.take(tokens, rate, Instant::now());
        if took.is_err() {
            self.caller.give_back(&mut counted);
        }
        drop(counted);
        took.map_err(|wait| {
            self.caller.shared.metrics.keys.refused(self.caller.name(), "tokens_per_minute");
            self.caller.too_fast("tokens", rate, wait)
        })?;
        state.taken = tokens;
        Ok(())
    }

    /// A piece of its answer goes out.
    pub(crate) fn said(&self, piece: &Bytes) {
        self.state().tokens.look(piece);
    }

    /// It takes no tokens: nothing was computed for it.
    pub(crate) fn costs_nothing(&self) {
        self.state().is_free = true;
    }

    /// It was not answered.
    pub(super) fn failed(&self) {
        self.state().failed = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = std::mem::take(&mut *self.state());
        let used = match state.estimated.filter(|_| !state.failed && !state.is_free) {
            None => 0,
            Some((prompt, answer)) => state.tokens.total(prompt, answer),
        };
        if used != 0 {
            self.caller.shared.metrics.keys.used(self.caller.name(), used);
        }
        let rate = self.caller.rate(self.caller.limits().tokens_per_minute);
        let mut counted = self.caller.counts.lock();
        counted.turn(self.caller.shared.day());
        counted.open = counted.open.saturating_sub(1);
        if let Some(model) = state.model.take()
            && let Some(open) = counted.open_by_model.get_mut(&model)
        {
            *open -= 1;
            if *open == 0 {
                counted.open_by_model.remove(&model);
            }
        }
        if let Some(rate) = rate {
            counted.tokens.settle(used as f64 - state.taken as f64, rate, Instant::now());
        }
        counted.today.tokens += used;
        counted.is_dirty |= used != 0;
    }
}

fn limited(what: String, wait: Duration) -> Error {
    Error::new(Code::RateLimited, what).hint("Send the request again after the pause.").retry_after(wait)
}

fn until_midnight() -> Duration {
    let second = u64::try_from(now_ms() / 1000).unwrap_or_default();
    Duration::from_secs(DAY_SECONDS - second % DAY_SECONDS)
}

#[cfg(test)]
mod tests;
