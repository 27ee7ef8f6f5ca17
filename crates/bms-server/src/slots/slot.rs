//! The handle on one slot: borrowing it for a request, looking at it, unloading it.

mod lease;

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bms_wire::api::{self, SlotState};
use bms_wire::{Code, Error, ErrorBody, limits};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::condition::Condition;
use super::process::resident_bytes;
use super::{Launcher, Source, VersionName, foreign, placed, supervise};
use crate::engines::{Runner, Runs};
use crate::event::{Event, SlotUnloaded};
pub(crate) use lease::Lease;
use lease::Returned;

/// How long open requests of language models get when their slot goes.
const LANGUAGE_DRAIN: Duration = Duration::from_millis(limits::LANGUAGE_DEADLINE_MS);

/// One slot. Its supervisor runs in a task of its own until [`Slot::unload`].
#[derive(Debug)]
pub(crate) struct Slot {
    of: VersionName,
    condition: watch::Sender<Condition>,
    /// Set once, by [`Slot::unload`]: no new leases, and the supervisor ends the process.
    stop: watch::Sender<Stop>,
    /// Set once, by [`Slot::revoke`]: why it must not go on.
    revoked: watch::Sender<Option<ErrorBody>>,
    leases: AtomicUsize,
    /// Rung when the last lease is returned.
    unused: Notify,
    requests: AtomicU64,
    supervisor: Mutex<Option<JoinHandle<()>>>,
    source: Source,
    runner: Runner,
    cores: Option<u64>,
    /// The refusal was handed out by [`Slot::take_refusal`].
    refusal_taken: AtomicBool,
    /// How long its work may stand still.
    hung_after: Duration,
    /// Tells it from the others of its server.
    number: u64,
    /// It has been warmed up, however that went.
    warmed: AtomicBool,
    /// Counted up whenever it changes, for whoever waits for any of several slots.
    turned: Arc<watch::Sender<u64>>,
}

/// What a slot holds, and what runs it.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) of: VersionName,
    pub(crate) source: Source,
    pub(crate) runner: Runner,
    /// Processors it is given: threads of its process, when that is said of this slot.
    pub(crate) cores: Option<u64>,
}

/// How far the unloading of a slot has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    No,
    Drain,
    Now,
}

/// Why a slot cannot be borrowed.
#[derive(Debug)]
pub(crate) enum Unavailable {
    /// It is being unloaded: the model may have another slot by now.
    Draining,
    /// It cannot serve, and waiting does not help.
    Broken(Error),
    /// It did not become ready in time.
    Deadline,
}

impl Slot {
    /// Starts a slot for a version. The process starts in the background; `turned` hears of every change.
    ///
    /// Where there are workers it is where it was placed, with the threads that were decided with the place; else on this
    /// machine. So are external engines, which only this machine's operator has declared.
    pub(crate) fn start(launcher: Arc<Launcher>, held: Held, turned: Arc<watch::Sender<u64>>) -> Arc<Self> {
        match launcher.elsewhere.clone() {
            Some(elsewhere) if matches!(held.runner, Runner::Own) => {
                let claim = elsewhere.claim(&held.of);
                Slot::kept_by(&launcher.clone(), held, turned, |slot| {
                    Box::pin(placed::run(slot, launcher, elsewhere, claim))
                })
            }
            _ => Slot::kept_by(&launcher.clone(), held, turned, |slot| {
                Box::pin(supervise::run(slot, launcher))
            }),
        }
    }

    /// Starts a slot of this program on this machine, that stands behind another.
    pub(super) fn start_here(launcher: Arc<Launcher>, held: Held) -> Arc<Self> {
        Slot::kept_by(&launcher.clone(), held, Arc::default(), |slot| {
            Box::pin(supervise::run(slot, launcher))
        })
    }

    /// A slot with the supervisor that `keep` gives it.
    pub(super) fn kept_by(
        launcher: &Launcher,
        Held { of, source, runner, cores }: Held,
        turned: Arc<watch::Sender<u64>>,
        keep: impl FnOnce(Arc<Slot>) -> Pin<Box<dyn Future<Output = ()> + Send>>,
    ) -> Arc<Self> {
        let silent_after = runner.engine().map(|engine| engine.silent_after);
        let slot = Arc::new(Slot {
            of,
            condition: watch::Sender::new(Condition::starting()),
            stop: watch::Sender::new(Stop::No),
            revoked: watch::Sender::new(None),
            leases: AtomicUsize::new(0),
            unused: Notify::new(),
            requests: AtomicU64::new(0),
            supervisor: Mutex::new(None),
            source,
            runner,
            cores,
            refusal_taken: AtomicBool::new(false),
            hung_after: silent_after.unwrap_or(launcher.launch.hung_after),
            number: launcher.fresh_number(),
            warmed: AtomicBool::new(false),
            turned,
        });
        let task = tokio::spawn(keep(slot.clone()));
        *slot.supervisor.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        slot
    }

    /// The version it holds.
    pub(crate) fn of(&self) -> &VersionName {
        &self.of
    }

    /// Tells it from the others of its server.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Requests it was borrowed for that have not given it back.
    pub(crate) fn leases(&self) -> usize {
        self.leases.load(Ordering::SeqCst)
    }

    /// How long its last process took from its start until it was ready.
    pub(crate) fn started_in(&self) -> Duration {
        self.condition.borrow().started_in
    }

    /// Resident memory of its process, when that is on this machine.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        let condition = self.condition.borrow();
        let pid = condition.pid.filter(|_| condition.worker.is_none());
        drop(condition);
        match self.runner {
            Runner::Own => pid.and_then(resident_bytes),
            _ => pid.and_then(foreign::resident_bytes),
        }
    }

    /// Whether it has been warmed up.
    pub(crate) fn is_warmed(&self) -> bool {
        self.warmed.load(Ordering::Relaxed)
    }

    /// Notes that it has been warmed up.
    pub(crate) fn note_warmed(&self) {
        self.warmed.store(true, Ordering::Relaxed);
    }

    /// What it is doing. Once it is being unloaded that is all it does.
    pub(crate) fn state(&self) -> SlotState {
        self.state_in(&self.condition.borrow())
    }

    fn state_in(&self, condition: &Condition) -> SlotState {
        match (*self.stop.borrow(), condition.state) {
            (Stop::No, state) => state,
            (_, SlotState::Refused) => SlotState::Refused,
            (_, _) => SlotState::Draining,
        }
    }

    /// Whether it is being unloaded.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stop.borrow() != Stop::No
    }

    /// Why it does not serve, when it does not.
    pub(crate) fn problem(&self) -> Option<ErrorBody> {
        self.condition.borrow().problem.clone()
    }

    /// Why it was refused, the first time this is asked after it was.
    pub(crate) fn take_refusal(&self) -> Option<ErrorBody> {
        let condition = self.condition.borrow();
        let problem = condition.problem.as_ref().filter(|_| condition.state == SlotState::Refused)?;
        (!self.refusal_taken.swap(true, Ordering::SeqCst)).then(|| problem.clone())
    }

    /// What its process is.
    pub(crate) fn runner(&self) -> &Runner {
        &self.runner
    }

    /// Threads of its process, when that is said of this slot.
    pub(crate) fn threads(&self) -> Option<usize> {
        self.cores.and_then(|cores| usize::try_from(cores).ok())
    }

    /// Where its bundle comes from.
    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// Whether it keeps failing to start.
    pub(crate) fn is_failing(&self) -> bool {
        self.condition.borrow().is_failing()
    }

    /// The slot as the management API shows it.
    pub(crate) fn view(&self) -> api::Slot {
        let condition = self.condition.borrow().clone();
        api::Slot {
            model: self.of.model.clone(),
            version: self.of.version,
            pid: condition.pid,
            state: self.state_in(&condition),
            runtime: condition.runtime,
            restarts: condition.restarts,
            requests: self.requests.load(Ordering::Relaxed),
            in_flight: self.leases() as u64,
            resident_bytes: self.resident_bytes(),
            progress: condition.connections.as_ref().map(|connections| connections.view(self.hung_after)),
            last_restart: condition.last_restart,
            worker: condition.worker.map(|worker| worker.to_string()),
        }
    }

    /// The task its model is for, once that is known.
    pub(crate) fn task(&self) -> Option<String> {
        self.condition.borrow().task.clone()
    }

    /// Whether it holds a language model, as far as known.
    pub(crate) fn is_language_model(&self) -> bool {
        self.task().is_some_and(|task| is_language(&task))
    }

    /// How long its open requests get when it goes: as long as usual, and those of a language model as long as one may take.
    pub(crate) fn drain(&self, usual: Duration) -> Duration {
        if self.is_language_model() { LANGUAGE_DRAIN.max(usual) } else { usual }
    }

    /// Borrows the slot for a request, waiting until it is ready and has a place.
    pub(crate) async fn lease(self: &Arc<Self>, deadline: Instant) -> Result<Lease, Unavailable> {
        self.lease_as(deadline, true).await
    }

    /// Borrows the slot for a request to a language model, waiting until it is ready. The model's door has bounded
    /// how many there are, and its engine has a queue of its own.
    pub(crate) async fn lease_unseated(self: &Arc<Self>, deadline: Instant) -> Result<Lease, Unavailable> {
        self.lease_as(deadline, false).await
    }

    /// Borrows the slot if it is ready now and, for a request that needs one, has a free place; `None` when not.
    pub(crate) fn lease_now(self: &Arc<Self>, seated: bool) -> Result<Option<Lease>, Unavailable> {
        let Some(mut lease) = self.try_lease(&self.condition.borrow())? else { return Ok(None) };
        if seated {
            lease.seat = lease.connections.free_seat();
            if lease.seat.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(lease))
    }

    /// Waits for a place and borrows the slot; `None` when it is not ready, or not any more once there is one.
    pub(crate) async fn lease_with_seat(self: Arc<Self>) -> Option<Lease> {
        let (connections, generation) = {
            let condition = self.condition.borrow();
            (condition.connections.clone()?, condition.generation)
        };
        let seat = connections.seat().await;
        let now = self.condition.borrow().clone();
        let mut lease = self.try_lease(&now).ok()??;
        lease.seat = seat;
        (lease.generation == generation).then_some(lease)
    }

    async fn lease_as(self: &Arc<Self>, deadline: Instant, seated: bool) -> Result<Lease, Unavailable> {
        let mut condition = self.condition.subscribe();
        loop {
            let now = condition.borrow_and_update().clone();
            if let Some(mut lease) = self.try_lease(&now)? {
                // An external engine has no queue of ours.
                if !seated && self.runner.engine().is_none() {
                    return Ok(lease);
                }
                let seat = tokio::time::timeout_at(deadline, lease.connections.seat()).await;
                lease.seat = seat.map_err(|_| Unavailable::Deadline)?;
                // While it waited the process may have given way to another.
                if self.condition.borrow().generation == lease.generation {
                    return Ok(lease);
                }
                continue;
            }
            let mut stop = self.stop.subscribe();
            let waited = tokio::time::timeout_at(deadline, async {
                tokio::select! {
                    _ = condition.changed() => {}
                    _ = stop.wait_for(|stop| *stop != Stop::No) => {}
                }
            });
            waited.await.map_err(|_| Unavailable::Deadline)?;
        }
    }

    /// A lease when it is ready, `None` when that is still to come.
    fn try_lease(self: &Arc<Self>, condition: &Condition) -> Result<Option<Lease>, Unavailable> {
        // Counted before looking whether it is being unloaded: whoever unloads it looks at the count
        // after having said so, hence one of the two sees the other.
        self.leases.fetch_add(1, Ordering::SeqCst);
        let slot = Returned(self.clone());
        if self.is_stopping() {
            return Err(Unavailable::Draining);
        }
        match (condition.state, &condition.connections) {
            (SlotState::Ready, Some(connections)) => {
                let (connections, generation) = (connections.clone(), condition.generation);
                Ok(Some(Lease { slot, connections, generation, seat: None, counted: None }))
            }
            (SlotState::Refused, _) => Err(Unavailable::Broken(self.refusal(condition))),
            _ if condition.is_failing() => Err(Unavailable::Broken(self.failure(condition))),
            _ => Ok(None),
        }
    }

    /// Why it cannot serve, when waiting for it is not worth a request's time.
    pub(crate) fn why_broken(&self) -> Option<Error> {
        let condition = self.condition.borrow();
        match condition.state {
            SlotState::Refused => Some(self.refusal(&condition)),
            _ if condition.is_failing() => Some(self.failure(&condition)),
            _ => None,
        }
    }

    fn refusal(&self, condition: &Condition) -> Error {
        let Some(problem) = condition.problem.clone() else {
            return Error::new(Code::Internal, format!("{} was refused without a reason", self.of));
        };
        Error::from(problem).while_doing(format_args!("load {}", self.of))
    }

    fn failure(&self, condition: &Condition) -> Error {
        let reason = condition.problem.as_ref().map_or("no reason known", |p| p.error.as_str());
        if self.runner.engine().is_some_and(|engine| matches!(engine.runs, Runs::Elsewhere { .. })) {
            let what = format!("{} is not served: {reason}", self.of.model);
            return Error::new(Code::Unavailable, what).hint("It is served again once its engine is well.");
        }
        Error::new(Code::Unavailable, format!("{} does not start: {reason}", self.of))
            .hint("It is tried again from time to time; the server's log says more.")
    }

    /// No new leases from now on.
    pub(crate) fn refuse_new_requests(&self) {
        self.ask_to_stop(Stop::Drain);
    }

    /// Removes the copy of the bundle it was loaded from.
    pub(crate) async fn discard_files(&self) {
        if let Err(e) = self.source.discard(&self.of).await {
            tracing::warn!(slot = %self.of, "failed to remove an unloaded version's files: {e}");
        }
    }

    /// Ends the slot: no new leases from now on, open ones get until `deadline`. Returns when the
    /// process has gone. May be called more than once.
    pub(crate) async fn unload(&self, launcher: &Launcher, deadline: Instant) {
        self.refuse_new_requests();
        launcher.changed.notify_one();
        let drained = tokio::time::timeout_at(deadline, self.given_back()).await;
        let cut_off = if drained.is_ok() { 0 } else { self.leases.load(Ordering::SeqCst) };
        self.ask_to_stop(Stop::Now);
        let supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(supervisor) = supervisor {
            if let Err(e) = supervisor.await {
                tracing::error!(slot = %self.of, "the slot's supervisor failed: {e}");
            }
            SlotUnloaded { of: &self.of, cut_off }.emit(&launcher.metrics);
            launcher.changed.notify_one();
        }
    }

    /// Waits until no request has it.
    pub(super) async fn given_back(&self) {
        loop {
            let unused = self.unused.notified();
            if self.leases.load(Ordering::SeqCst) == 0 {
                break;
            }
            unused.await;
        }
    }

    /// Ends its process for good, with the reason: its version is not trusted any more. As when it is unloaded, nothing new
    /// begins and open requests come to their end; the slot stays, refused.
    pub(crate) fn revoke(&self, why: ErrorBody) {
        self.publish(|c| (c.state, c.problem) = (SlotState::Refused, Some(why.clone())));
        self.revoked.send_replace(Some(why));
    }

    /// Waits until it is not trusted any more, and says why.
    pub(super) async fn revoked(&self) -> ErrorBody {
        let mut revoked = self.revoked.subscribe();
        let why = revoked.wait_for(Option::is_some).await.map_or(None, |why| why.clone());
        match why {
            Some(why) => why,
            // The sender lives in `self`.
            None => std::future::pending().await,
        }
    }

    fn ask_to_stop(&self, how: Stop) {
        self.stop.send_if_modified(|stop| {
            let further = *stop < how;
            *stop = how.max(*stop);
            further
        });
        self.turned.send_modify(|times| *times = times.wrapping_add(1));
    }

    /// Waits until the process shall end.
    pub(crate) async fn stopping(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.stop.subscribe().wait_for(|stop| *stop == Stop::Now).await;
    }

    /// The published condition, as it is now and becomes.
    pub(crate) fn conditions(&self) -> watch::Receiver<Condition> {
        self.condition.subscribe()
    }

    /// Says that a request got no answer in all the time it had, to whoever keeps the process.
    pub(crate) fn report_overdue(&self) {
        if let Some(connections) = &self.condition.borrow().connections {
            connections.report_overdue();
        }
    }

    /// Changes the published condition.
    pub(crate) fn publish(&self, change: impl FnOnce(&mut Condition)) {
        self.condition.send_modify(change);
        self.turned.send_modify(|times| *times = times.wrapping_add(1));
    }
}

/// Whether a task is that of a language model.
pub(crate) fn is_language(task: &str) -> bool {
    task.starts_with("text-")
}
