//! A slot that is where it was placed: on a worker or on this machine, and now and then on the way from one to another.
//!
//! Behind such a slot stands one slot for each place. Requests go to one that is ready; a place that is to be left is
//! left once another is. So a slot moves, and outlives the loss of its worker, without anybody who holds it noticing
//! more than a wait.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bms_wire::api::SlotState;
use bms_wire::limits;
use rustls::ClientConfig;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

use super::condition::Condition;
use super::slot::{Held, Slot};
use super::{Launcher, VersionName, remote};
use crate::engines::Runner;

/// How long what is under way in a place may take once the place is left.
const LEAVE_WITHIN: Duration = Duration::from_millis(limits::LANGUAGE_DEADLINE_MS);

/// A place for one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Berth {
    /// Names the slot in this place.
    pub(crate) id: String,
    /// Which of the version's slots it is for.
    pub(crate) number: u64,
    /// The worker with its address; none for this machine.
    pub(crate) worker: Option<(Arc<str>, String)>,
    /// Processors that were asked for it: threads of its process. Its worker hears of them itself.
    pub(crate) cores: Option<u64>,
    /// Another takes over.
    pub(crate) leaving: bool,
}

/// The places of all slots.
pub(crate) type Berths = BTreeMap<VersionName, Vec<Berth>>;

/// What slots need that may be on workers.
#[derive(Clone)]
pub(crate) struct Elsewhere {
    /// Where each slot is placed.
    pub(crate) berths: watch::Receiver<Arc<Berths>>,
    /// How this centre shows itself to workers, and whom it believes.
    pub(crate) client: Arc<ClientConfig>,
    /// Hears the names of workers that could not be reached.
    pub(crate) suspects: mpsc::Sender<Arc<str>>,
    /// Since when the slots in these places are ready, as seen from here.
    pub(crate) ready: Arc<Mutex<HashMap<String, Instant>>>,
    /// The slots there are here, which need places.
    pub(crate) claims: Arc<Mutex<BTreeSet<(VersionName, u64)>>>,
}

/// A slot's claim to a place, until it is dropped: its version, and a number that no other slot of that has here.
pub(super) struct Claim {
    claims: Arc<Mutex<BTreeSet<(VersionName, u64)>>>,
    of: VersionName,
    number: u64,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let key = (self.of.clone(), self.number);
        self.claims.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }
}

impl std::fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Elsewhere").field("berths", &self.berths).finish_non_exhaustive()
    }
}

impl Elsewhere {
    /// Claims a place for a slot of this version.
    pub(super) fn claim(&self, of: &VersionName) -> Claim {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        let mut number = 0;
        while !claims.insert((of.clone(), number)) {
            number += 1;
        }
        Claim { claims: self.claims.clone(), of: of.clone(), number }
    }

    /// The slots that need places.
    pub(crate) fn claimed(&self) -> BTreeSet<(VersionName, u64)> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, stand: &Stand) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        match stand.inner.state() {
            SlotState::Ready => drop(ready.entry(stand.berth.id.clone()).or_insert_with(Instant::now)),
            _ => drop(ready.remove(&stand.berth.id)),
        }
    }

    fn forget(&self, id: &str) {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// For how long the slot in this place has been ready, as seen from here.
    pub(crate) fn ready_for(&self, id: &str) -> Option<Duration> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).get(id).map(Instant::elapsed)
    }
}

/// The slot in one place.
struct Stand {
    berth: Berth,
    inner: Arc<Slot>,
}

/// How good it is to send requests there.
fn rank(state: SlotState, leaving: bool) -> u8 {
    match (state, leaving) {
        (SlotState::Ready, false) => 3,
        (SlotState::Ready, true) => 2,
        (_, false) => 1,
        (_, true) => 0,
    }
}

/// Keeps the slot where it was placed until it is unloaded.
pub(super) async fn run(slot: Arc<Slot>, launcher: Arc<Launcher>, mut elsewhere: Elsewhere, claim: Claim) {
    launcher.changed.notify_one();
    let mut stands: Vec<Stand> = Vec::new();
    let mut ending = JoinSet::new();
    let mut listening = JoinSet::new();
    let mut current: Option<(String, u64)> = None;
    let rung = Arc::new(Notify::new());
    loop {
        let mut berths = elsewhere.berths.borrow_and_update().get(slot.of()).cloned().unwrap_or_default();
        berths.retain(|berth| berth.number == claim.number);
        let (kept, gone): (Vec<_>, Vec<_>) =
            stands.into_iter().partition(|stand| berths.iter().any(|berth| berth.id == stand.berth.id));
        stands = kept;
        for stand in gone {
            elsewhere.forget(&stand.berth.id);
            ending.spawn(end(stand, launcher.clone()));
        }
        for berth in berths {
            match stands.iter_mut().find(|stand| stand.berth.id == berth.id) {
                Some(stand) => stand.berth.leaving = berth.leaving,
                None => {
                    let inner = start(&slot, &launcher, &elsewhere, &berth);
                    listening.spawn(listen(inner.clone(), rung.clone()));
                    stands.push(Stand { berth, inner });
                }
            }
        }
        stands.iter().for_each(|stand| elsewhere.note(stand));
        if publish(&slot, &stands, &mut current) {
            launcher.changed.notify_one();
        }
        tokio::select! {
            changed = elsewhere.berths.changed() => if changed.is_err() { break },
            () = rung.notified() => {}
            () = slot.stopping() => break,
        }
        while ending.try_join_next().is_some() {}
        while listening.try_join_next().is_some() {}
    }
    slot.stopping().await;
    for stand in stands {
        elsewhere.forget(&stand.berth.id);
        let launcher = launcher.clone();
        ending.spawn(async move { stand.inner.unload(&launcher, tokio::time::Instant::now()).await });
    }
    ending.join_all().await;
    slot.publish(|c| (c.pid, c.connections) = (None, None));
}

fn start(slot: &Slot, launcher: &Arc<Launcher>, elsewhere: &Elsewhere, berth: &Berth) -> Arc<Slot> {
    let held = Held {
        of: slot.of().clone(),
        source: slot.source().clone(),
        runner: Runner::Own,
        cores: berth.cores,
    };
    match &berth.worker {
        None => Slot::start_here(launcher.clone(), held),
        Some((worker, address)) => {
            let (launcher, elsewhere) = (launcher.clone(), elsewhere.clone());
            let there =
                remote::There { worker: worker.clone(), address: address.clone(), id: berth.id.clone() };
            Slot::kept_by(&launcher.clone(), held, Arc::default(), |inner| {
                Box::pin(remote::run(inner, launcher, elsewhere, there))
            })
        }
    }
}

/// Rings for every change of a slot's condition, until it has ended.
async fn listen(inner: Arc<Slot>, rung: Arc<Notify>) {
    let mut conditions = inner.conditions();
    while !inner.is_stopping() && conditions.changed().await.is_ok() {
        rung.notify_one();
    }
}

/// Leaves a place. What is under way there comes to its end.
async fn end(stand: Stand, launcher: Arc<Launcher>) {
    let connections = stand.inner.conditions().borrow().connections.clone();
    stand.inner.refuse_new_requests();
    if let Some(connections) = connections {
        let deadline = Instant::now() + LEAVE_WITHIN;
        while connections.outstanding() != 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    stand.inner.unload(&launcher, tokio::time::Instant::now()).await;
}

/// Shows the best of the places as the slot's own. Whether that is another, or stands otherwise, than before.
fn publish(slot: &Slot, stands: &[Stand], current: &mut Option<(String, u64)>) -> bool {
    let now = |stand: &Stand| current.as_ref().is_some_and(|(id, _)| *id == stand.berth.id);
    let best = stands
        .iter()
        .max_by_key(|stand| (rank(stand.inner.state(), stand.berth.leaving), now(stand), &stand.berth.id));
    let shown = best.map(|stand| (stand.berth.id.clone(), stand.inner.conditions().borrow().clone()));
    let which = shown.as_ref().map(|(id, condition)| (id.clone(), condition.generation));
    let moved = which != *current;
    *current = which;
    let mut before = None;
    slot.publish(|c| {
        before = Some(c.state);
        let generation = c.generation + u64::from(moved);
        match shown {
            None => {
                (c.pid, c.connections) = (None, None);
                c.state =
                    if c.state == SlotState::Ready { SlotState::Restarting } else { SlotState::Starting };
            }
            Some((_, condition)) => {
                let task = condition.task.clone().or_else(|| c.task.take());
                *c = Condition { generation, task, ..condition };
                // What a worker refuses is tried elsewhere, in the end here.
                if c.state == SlotState::Refused && c.worker.is_some() {
                    c.state = SlotState::Restarting;
                }
            }
        }
        c.generation = generation;
    });
    moved || before != Some(slot.conditions().borrow().state)
}
