//! Somebody with a key, what it has used, and one request of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bms_registry::{KeyUse, OthersUse, StoredKey};
use bms_wire::api::{KeyLimits, Quota, Role};
use bms_wire::{Code, Error, Result, limits};

use super::Shared;
use super::bucket::Standing;
use super::counted::Tokens;
use super::tally::{Moment, Refusal, Tally};

/// Somebody with a key.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) stored: StoredKey,
    /// What it may use of all models together.
    quota: Quota,
    pub(super) counts: Arc<Counts>,
    pub(super) shared: Arc<Shared>,
}

/// What a key has used here; it outlives changes of the key.
#[derive(Debug)]
pub(super) struct Counts(Mutex<Counted>);

#[derive(Debug)]
struct Counted {
    all: Tally,
    /// Of models it has limits for, and of those it had limits for today.
    models: BTreeMap<String, Tally>,
    open: u64,
    open_by_model: BTreeMap<String, usize>,
}

impl Counts {
    pub(super) fn new(shared: &Shared) -> Self {
        Counts(Mutex::new(Counted {
            all: Tally::new(shared.day()),
            models: BTreeMap::new(),
            open: 0,
            open_by_model: BTreeMap::new(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        // Numbers, each of which is meaningful whatever happened to the others.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Caller {
    pub(super) fn new(stored: StoredKey, counts: Arc<Counts>, shared: Arc<Shared>) -> Self {
        let (day, per_model) = (shared.day(), &stored.key.limits.per_model);
        let mut counted = counts.lock();
        // What was counted today is kept: this process would begin anew otherwise, and write that down.
        counted.models.retain(|model, tally| per_model.contains_key(model) || !tally.is_blank(day));
        for model in per_model.keys() {
            counted.models.entry(model.clone()).or_insert_with(|| Tally::new(day));
        }
        drop(counted);
        Caller { quota: stored.key.limits.quota(), stored, counts, shared }
    }

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

    /// What it may use of a model; everything when it has no limits for it.
    fn quota_of(&self, model: &str) -> Quota {
        self.limits().per_model.get(model).copied().unwrap_or_default()
    }

    /// Lets one request in.
    ///
    /// # Errors
    /// [`Code::RateLimited`] when the key has used what it may.
    pub(super) fn admit(self: &Arc<Self>) -> Result<Arc<Ticket>> {
        let mut counted = self.counts.lock();
        let admitted = match self.quota.concurrent {
            Some(most) if most <= counted.open => Err(Refusal::open(most)),
            _ => counted.all.admit(&self.quota, self.shared.moment()),
        };
        counted.open += u64::from(admitted.is_ok());
        drop(counted);
        match admitted {
            Ok(()) => Ok(Arc::new(Ticket { caller: self.clone(), state: Mutex::default() })),
            Err(refusal) => Err(self.refused(&refusal, None)),
        }
    }

    /// The error for a request that is over a limit, of one model or all together, once that is counted.
    fn refused(&self, refusal: &Refusal, model: Option<&str>) -> Error {
        self.shared.metrics.keys.refused(self.name(), refusal.label(model.is_some()));
        if refusal.is_elsewhere {
            // What others do not use any more comes here the sooner.
            self.shared.changed.notify_one();
        }
        let of = model.map(|model| format!(" of the model `{model}`")).unwrap_or_default();
        Error::new(Code::RateLimited, format!("the key `{}` {}{of}", self.name(), refusal.said()))
            .hint("Send the request again after the pause.")
            .retry_after(refusal.wait)
    }

    /// How its limits of a minute stand: of requests, and of tokens.
    pub(super) fn standings(&self) -> [Option<Standing>; 2] {
        self.counts.lock().all.standings(&self.quota, self.shared.moment())
    }

    /// Whether there is something to write down.
    pub(super) fn has_to_tell(&self) -> bool {
        let (counted, moment) = (self.counts.lock(), self.shared.moment());
        let is_told = |(model, tally): (&String, &Tally)| tally.has_to_tell(&self.quota_of(model), moment);
        counted.all.has_to_tell(&self.quota, moment) || counted.models.iter().any(is_told)
    }

    /// What is to be written down, of today and days before.
    pub(super) fn tell(&self, moment: Moment) -> Vec<KeyUse> {
        let mut counted = self.counts.lock();
        let Counted { all, models, .. } = &mut *counted;
        let models = models.iter_mut().map(|(model, tally)| (model.as_str(), self.quota_of(model), tally));
        let mut uses = Vec::new();
        for (model, quota, tally) in std::iter::once(("", self.quota, all)).chain(models) {
            let lines = tally.tell(&quota, moment).into_iter();
            uses.extend(lines.map(|line| KeyUse {
                key: self.stored.key.id.clone(),
                model: model.to_owned(),
                day: line.day,
                requests: line.requests,
                tokens: line.tokens,
            }));
        }
        uses
    }

    pub(super) fn has_unwritten(&self) -> bool {
        let counted = self.counts.lock();
        counted.all.has_unwritten() || counted.models.values().any(Tally::has_unwritten)
    }

    /// What [`Caller::tell`] gave is written down, or is not.
    pub(super) fn was_written(&self, written: bool) {
        let mut counted = self.counts.lock();
        let Counted { all, models, .. } = &mut *counted;
        std::iter::once(all).chain(models.values_mut()).for_each(|tally| tally.was_written(written));
    }

    /// Takes over what the others counted today, by model.
    pub(super) fn hear(&self, heard: Option<&HashMap<String, OthersUse>>, moment: Moment) {
        let of = |model: &str| heard.and_then(|heard| heard.get(model)).copied().unwrap_or_default();
        let mut counted = self.counts.lock();
        counted.all.hear(of(""), &self.quota, moment);
        for (model, tally) in &mut counted.models {
            tally.hear(of(model), &self.quota_of(model), moment);
        }
    }

    /// Takes over what all counted in the month before a day, by model.
    pub(super) fn hear_earlier(&self, heard: Option<&HashMap<String, (u64, u64)>>, day: i64) {
        let of = |model: &str| heard.and_then(|heard| heard.get(model)).copied().unwrap_or_default();
        let mut counted = self.counts.lock();
        counted.all.hear_earlier(day, of(""));
        for (model, tally) in &mut counted.models {
            tally.hear_earlier(day, of(model));
        }
    }

    /// Whether it has a limit of a month.
    pub(super) fn counts_months(&self) -> bool {
        let is_monthly = |quota: &Quota| quota.requests_per_month.or(quota.tokens_per_month).is_some();
        is_monthly(&self.quota) || self.limits().per_model.values().any(is_monthly)
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
    /// Tokens that were taken for it, off the limits of the key and those of the model.
    taken: u64,
    taken_of_model: u64,
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
    /// [`Code::PermissionDenied`] when the key is for other models; [`Code::QueueFull`] when it has its share of the queue;
    /// [`Code::RateLimited`] when the key has used what it may of the model.
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
        let open = counted.open_by_model.get(model).copied().unwrap_or_default();
        if share <= open {
            let what =
                format!("the key `{name}` has its share of the places at `{model}`, {share} of {places}");
            drop(counted);
            self.caller.shared.metrics.keys.refused(name, "share");
            return Err(Error::new(Code::QueueFull, what).hint("Send the request again after a pause."));
        }
        if let Some(quota) = allowed.per_model.get(model)
            && let Err(refusal) = self.takes_of(&mut counted, model, quota, open)
        {
            drop(counted);
            return Err(self.caller.refused(&refusal, Some(model)));
        }
        match counted.open_by_model.get_mut(model) {
            Some(open) => *open += 1,
            None => drop(counted.open_by_model.insert(model.to_owned(), 1)),
        }
        state.model = Some(model.to_owned());
        Ok(())
    }

    /// Takes it off the limits of its model as well, or off none.
    fn takes_of(
        &self,
        counted: &mut Counted,
        model: &str,
        quota: &Quota,
        open: usize,
    ) -> Result<(), Refusal> {
        let moment = self.caller.shared.moment();
        let admitted = match (quota.concurrent, counted.models.get_mut(model)) {
            (Some(most), _) if most <= open as u64 => Err(Refusal::open(most)),
            (_, Some(tally)) => tally.admit(quota, moment),
            (_, None) => Ok(()),
        };
        if admitted.is_err() {
            counted.all.give_back(&self.caller.quota, moment);
        }
        admitted
    }

    /// It reads and writes about so many tokens, which are taken off its limits until it is known better.
    ///
    /// # Errors
    /// [`Code::RateLimited`] when there are not as many left.
    pub(crate) fn generates(&self, prompt: u64, answer: u64) -> Result<()> {
        let mut state = self.state();
        let tokens = prompt.saturating_add(answer);
        let (quota, moment) = (&self.caller.quota, self.caller.shared.moment());
        let per_model = &self.caller.limits().per_model;
        let model = state.model.as_ref().filter(|model| per_model.contains_key(*model)).cloned();
        let mut counted = self.caller.counts.lock();
        let Counted { all, models, .. } = &mut *counted;
        let mut of_model = model.as_deref().and_then(|model| {
            let tally = models.get_mut(model)?;
            Some((model, tally, self.caller.quota_of(model)))
        });
        let mut took = all.take_tokens(tokens, quota, moment).map_err(|refusal| (refusal, None));
        if took.is_ok()
            && let Some((model, tally, quota_of)) = &mut of_model
            && let Err(refusal) = tally.take_tokens(tokens, quota_of, moment)
        {
            all.return_tokens(tokens, quota, moment);
            took = Err((refusal, Some(*model)));
        }
        if took.is_err() {
            all.give_back(quota, moment);
            if let Some((_, tally, quota_of)) = &mut of_model {
                tally.give_back(quota_of, moment);
            }
        }
        let is_of_model = of_model.is_some();
        drop(counted);
        took.map_err(|(refusal, model)| self.caller.refused(&refusal, model))?;
        // What is refused here takes nothing when it ends, either.
        state.estimated = Some((prompt, answer));
        state.taken = tokens;
        state.taken_of_model = if is_of_model { tokens } else { 0 };
        Ok(())
    }

    /// A piece of its answer goes out.
    pub(crate) fn said(&self, piece: &[u8]) {
        let mut state = self.state();
        // What neither reads nor writes text takes none.
        if state.estimated.is_some() {
            state.tokens.look(piece);
        }
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
        let moment = self.caller.shared.moment();
        let mut counted = self.caller.counts.lock();
        counted.open = counted.open.saturating_sub(1);
        counted.all.settle(used, state.taken, &self.caller.quota, moment);
        let Some(model) = state.model.take() else { return };
        if let Some(open) = counted.open_by_model.get_mut(&model) {
            *open -= 1;
            if *open == 0 {
                counted.open_by_model.remove(&model);
            }
        }
        if let Some(tally) = counted.models.get_mut(&model) {
            tally.settle(used, state.taken_of_model, &self.caller.quota_of(&model), moment);
        }
    }
}

#[cfg(test)]
mod tests;
