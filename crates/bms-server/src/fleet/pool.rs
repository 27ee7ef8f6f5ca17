//! The slots of one version: which of them a request goes to, and what they are together.

use bms_wire::api::{Scale, SlotNeeds, SlotProgress, SlotState};
use bms_wire::{Code, Error, ErrorBody};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::choice::{self, Candidate};
use super::load::{Load, Waiting};
use super::memory::About;
use super::readings::Counts;
use super::scaling::Scaling;
use crate::engines::Runner;
use crate::event::{Event, ModelWoken};
use crate::metrics::Metrics;
use crate::slots::{Held, Launcher, Lease, Slot, Source, Unavailable, VersionName, is_language};

/// A version's slots.
#[derive(Debug)]
pub(crate) struct Pool {
    of: VersionName,
    source: Source,
    runner: Runner,
    /// Threads of each slot, when they are said of this deployment.
    cores: Option<u64>,
    pub(super) slots: RwLock<Vec<Arc<Slot>>>,
    /// Counted up whenever a slot changes, comes or goes.
    turned: Arc<watch::Sender<u64>>,
    /// Nothing is taken any more: the model may have another pool by now.
    over: AtomicBool,
    load: Arc<Load>,
    turn: AtomicUsize,
    /// The model's task, once it is known; stays so without slots.
    task: Mutex<Option<String>>,
    pub(super) scaling: Mutex<Scaling>,
    pub(super) counts: Mutex<Option<Counts>>,
    /// It stays loaded whether anybody asks or not: the standby of a rollout.
    pub(super) is_kept: AtomicBool,
    /// Rung by a request that finds no slot.
    wake: Arc<Notify>,
    /// Since when the first slot of a version that had none starts.
    waking: Mutex<Option<Instant>>,
    metrics: Arc<Metrics>,
}

/// How a pool begins.
#[derive(Debug)]
pub(super) struct Begin<'a> {
    pub(super) source: Source,
    pub(super) runner: Runner,
    pub(super) scale: Scale,
    pub(super) needs: SlotNeeds,
    /// Slots it begins with.
    pub(super) slots: usize,
    pub(super) about: Option<&'a About>,
    pub(super) wake: Arc<Notify>,
}

/// What a request asks of a pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want<'a> {
    /// By when.
    pub(crate) deadline: Instant,
    /// It takes one of the places of the slot's process; a language model's engine has a queue of its own.
    pub(crate) seated: bool,
    /// What prompts that begin alike have in common.
    pub(crate) prefix: Option<u64>,
    /// The slot that was lost under it: any other is better.
    pub(crate) avoid: Option<&'a Arc<Slot>>,
}

impl Pool {
    pub(super) fn new(of: VersionName, begin: Begin<'_>, launcher: &Launcher) -> Arc<Self> {
        let task = begin.about.map(|about| about.task.clone());
        Arc::new(Pool {
            of,
            source: begin.source,
            runner: begin.runner,
            cores: begin.needs.cores,
            slots: RwLock::default(),
            turned: Arc::new(watch::Sender::new(0)),
            over: AtomicBool::new(false),
            load: Load::new(),
            turn: AtomicUsize::new(0),
            task: Mutex::new(task),
            scaling: Mutex::new(Scaling::new(begin.scale, begin.slots, begin.about, launcher.kv_bytes())),
            counts: Mutex::default(),
            is_kept: AtomicBool::new(false),
            wake: begin.wake,
            waking: Mutex::default(),
            metrics: launcher.metrics.clone(),
        })
    }

    /// The version.
    pub(crate) fn of(&self) -> &VersionName {
        &self.of
    }

    /// Whether its slots are run by this.
    pub(super) fn is_run_by(&self, runner: &Runner) -> bool {
        self.runner.name() == runner.name()
    }

    /// Whether its slots have as many threads as this says.
    pub(super) fn has_cores(&self, cores: Option<u64>) -> bool {
        self.cores == cores
    }

    /// The engine that runs it; empty for this program.
    pub(crate) fn engine_name(&self) -> &str {
        self.runner.name().unwrap_or_default()
    }

    /// Starts one more slot. This is the only place where slots come into being: whatever runs one elsewhere is chosen
    /// here, and needs to give a [`Slot`] that hears of `turned`.
    pub(super) fn start(&self, launcher: &Arc<Launcher>) {
        let held = Held {
            of: self.of.clone(),
            source: self.source.clone(),
            runner: self.runner.clone(),
            cores: self.cores,
        };
        let slot = Slot::start(launcher.clone(), held, self.turned.clone());
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        if slots.is_empty() && self.load.waiting() != 0 {
            *self.waking.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        slots.push(slot);
        drop(slots);
        self.turn();
    }

    /// Takes a slot out: no request goes there any more.
    pub(super) fn take_out(&self, gone: &Arc<Slot>) {
        self.slots.write().unwrap_or_else(PoisonError::into_inner).retain(|slot| !Arc::ptr_eq(slot, gone));
        self.turn();
    }

    /// Takes nothing any more. Gives the slots there are.
    pub(super) fn end(&self) -> Vec<Arc<Slot>> {
        self.over.store(true, Ordering::SeqCst);
        let slots = std::mem::take(&mut *self.slots.write().unwrap_or_else(PoisonError::into_inner));
        self.turn();
        slots
    }

    pub(super) fn turn(&self) {
        self.turned.send_modify(|times| *times = times.wrapping_add(1));
    }

    /// Its slots.
    pub(crate) fn slots(&self) -> RwLockReadGuard<'_, Vec<Arc<Slot>>> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The slots that answer now.
    pub(crate) fn ready(&self) -> Vec<Arc<Slot>> {
        self.slots().iter().filter(|slot| slot.state() == SlotState::Ready).cloned().collect()
    }

    /// Whether a slot answers now.
    pub(crate) fn is_ready(&self) -> bool {
        self.slots().iter().any(|slot| slot.state() == SlotState::Ready)
    }

    /// What its requests do.
    pub(crate) fn load(&self) -> &Arc<Load> {
        &self.load
    }

    /// Borrows one of the slots for a request, waiting until one is ready and has a place.
    pub(crate) async fn lease(&self, want: Want<'_>) -> Result<Lease, Unavailable> {
        let waiting = self.load.wait();
        let began = Instant::now();
        let mut turned = self.turned.subscribe();
        loop {
            turned.borrow_and_update();
            if let Some(lease) = self.try_lease(&want, began)? {
                return Ok(self.begun(lease, waiting));
            }
            let waited = tokio::time::timeout_at(want.deadline, async {
                tokio::select! {
                    lease = self.any_seat(), if want.seated => lease,
                    _ = turned.changed() => None,
                }
            });
            if let Some(lease) = waited.await.map_err(|_| Unavailable::Deadline)? {
                return Ok(self.begun(lease, waiting));
            }
        }
    }

    /// Borrows one of the slots for a request, if one is ready and has a place now.
    pub(crate) fn lease_at_once(&self, want: Want<'_>) -> Option<Lease> {
        let waiting = self.load.wait();
        let lease = self.try_lease(&want, Instant::now()).ok()??;
        Some(self.begun(lease, waiting))
    }

    fn begun(&self, mut lease: Lease, waiting: Waiting) -> Lease {
        lease.count(waiting.begin());
        // What serves is as warm as it gets.
        lease.slot().note_warmed();
        if let Some(since) = self.waking.lock().unwrap_or_else(PoisonError::into_inner).take() {
            ModelWoken { of: &self.of, took: since.elapsed() }.emit(&self.metrics);
        }
        lease
    }

    /// A lease when a slot is ready and has a place, `None` when that is still to come.
    fn try_lease(&self, want: &Want<'_>, began: Instant) -> Result<Option<Lease>, Unavailable> {
        if self.over.load(Ordering::SeqCst) {
            return Err(Unavailable::Draining);
        }
        // Of one there is nothing to choose.
        if let [only] = &self.slots()[..]
            && let Ok(Some(lease)) = only.lease_now(want.seated)
        {
            return Ok(Some(lease));
        }
        let mut ready = self.ready();
        if ready.is_empty() {
            if let Some(why) = self.why_none().or_else(|| self.why_no_room(began)) {
                return Err(Unavailable::Broken(why));
            }
            if self.slots().is_empty() {
                self.wake.notify_one();
            }
            return Ok(None);
        }
        // One that was lost, or is not warm yet, only when there is no other.
        prefer(&mut ready, |slot| want.avoid.is_none_or(|avoid| !Arc::ptr_eq(avoid, slot)));
        prefer(&mut ready, |slot| slot.is_warmed());
        let candidate = |slot: &Arc<Slot>| Candidate { number: slot.number(), load: slot.leases() };
        let candidates: Vec<Candidate> = ready.iter().map(candidate).collect();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        for place in choice::order(&candidates, want.prefix, turn) {
            // What is no longer ready was a moment ago; the next one is as good.
            if let Ok(Some(lease)) = ready[place].lease_now(want.seated) {
                return Ok(Some(lease));
            }
        }
        Ok(None)
    }

    /// Waits for a place in any of the slots that are ready; `None` when that slot is not, any more.
    async fn any_seat(&self) -> Option<Lease> {
        let mut seats: FuturesUnordered<_> = self.ready().into_iter().map(Slot::lease_with_seat).collect();
        match seats.next().await {
            Some(lease) => lease,
            // Without slots: until something turns.
            None => std::future::pending().await,
        }
    }

    /// Why waiting for a slot makes no sense, when it does not.
    fn why_none(&self) -> Option<Error> {
        let slots = self.slots();
        let mut why = None;
        for slot in slots.iter() {
            why = Some(slot.why_broken()?);
        }
        why
    }

    /// Whether waiting for it makes sense.
    pub(super) fn can_serve(&self) -> bool {
        self.why_none().is_none()
    }

    /// What was to come has come, or cannot.
    pub(super) fn is_settled(&self) -> bool {
        let slots = self.slots().clone();
        if slots.is_empty() {
            return self.lacks() || self.wanted() == 0;
        }
        let is_settled = |slot: &Arc<Slot>| slot.state() == SlotState::Ready || slot.why_broken().is_some();
        self.is_ready() || slots.iter().all(is_settled)
    }

    /// Why it does not serve, when it does not.
    pub(crate) fn problem(&self) -> Option<ErrorBody> {
        match self.is_ready() {
            true => None,
            false => {
                let problem = self.slots().iter().find_map(|slot| slot.problem());
                problem.or_else(|| self.lack().map(|lack| lack.body()))
            }
        }
    }

    /// Why there are fewer slots than wanted, when memory is the reason.
    pub(crate) fn lack(&self) -> Option<Error> {
        let scaling = self.scaling();
        let (_, why) = scaling.lack.as_ref()?;
        Some(Error::new(Code::Unavailable, why.clone()))
    }

    /// Whether it has no slot because nobody asks, and gets one with the next request.
    pub(crate) fn is_asleep(&self) -> bool {
        self.slots().is_empty() && self.scale().min_slots == 0 && !self.lacks()
    }

    /// Why it cannot be asked now, when it cannot.
    pub(crate) fn check_ready(&self) -> Result<(), Error> {
        if self.is_ready() || self.is_asleep() {
            return Ok(());
        }
        let why = self.problem().map_or_else(|| "it is loading".to_owned(), |problem| problem.error);
        Err(Error::new(Code::Unavailable, format!("`{}` is not ready: {why}", self.of.model)))
    }

    /// Whether its work moves, all slots together; `None` while no process could work on anything.
    pub(crate) fn progress(&self) -> Option<SlotProgress> {
        if self.is_asleep() {
            let waiting = self.load.waiting() as u64;
            return Some(SlotProgress { moving: true, waiting, age_seconds: 0.0, steps: None });
        }
        let views = self.slots().iter().filter_map(|slot| slot.view().progress).collect::<Vec<_>>();
        views.into_iter().reduce(|a, b| SlotProgress {
            moving: a.moving && b.moving,
            waiting: a.waiting + b.waiting,
            age_seconds: a.age_seconds.max(b.age_seconds),
            steps: a.steps.map_or(b.steps, |steps| Some(steps + b.steps.unwrap_or(0))),
        })
    }

    /// Notes what task its model is for, until a slot says so.
    pub(super) fn note_task(&self, said: Option<String>) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        *task = said.or(task.take());
    }

    /// The task its model is for, once that is known.
    pub(crate) fn task(&self) -> Option<String> {
        // What a slot says counts; what the registry says of the version is for when there is none.
        let said = self.slots().iter().find_map(|slot| slot.task());
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_some() {
            *task = said;
        }
        task.clone()
    }

    /// Whether it holds a language model, as far as known.
    pub(crate) fn is_language_model(&self) -> bool {
        self.task().is_some_and(|task| is_language(&task))
    }
}

/// Keeps what is good, unless that is nothing.
fn prefer(slots: &mut Vec<Arc<Slot>>, is_good: impl Fn(&Arc<Slot>) -> bool) {
    if 1 < slots.len() && slots.iter().any(&is_good) {
        slots.retain(is_good);
    }
}
