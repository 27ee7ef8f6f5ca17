//! Which slots run and which of them a model's requests go to.
//!
//! The fleet is told what is wanted and works towards it in steps that may be repeated at any time:
//! start what is missing, switch a model's traffic once the wanted slot answers, unload what neither
//! is wanted nor has traffic. Since a slot without traffic is unloaded only after the switch, and open
//! requests keep theirs until they are answered, a change of version loses no request.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bms_wire::api::{self, SlotState};
use bms_wire::{Code, Error, ErrorBody, Result, limits};
use tokio::time::Instant;

use crate::event::{Event, TrafficSwitched};
use crate::gateway::Door;
use crate::metrics::SlotReading;
use crate::rollout::Sight;
use crate::slots::{Launcher, Slot, Source, VersionName};
use crate::warm::{Warm, Warmth};

/// How long open requests get when a language model's slot is unloaded while the server goes on.
const LANGUAGE_DRAIN: Duration = Duration::from_millis(limits::LANGUAGE_DEADLINE_MS);

/// A version that shall be loaded.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) of: VersionName,
    /// The alias the deployment follows.
    pub(crate) alias: Option<String>,
    pub(crate) source: Source,
    /// Kept loaded and warm, without being where the model's requests go.
    pub(crate) standby: bool,
}

/// Where a model's requests go.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) slot: Arc<Slot>,
    /// Stays the same over a change of version.
    pub(crate) door: Arc<Door>,
    /// The alias it stands for.
    alias: Option<String>,
}

/// All slots of one server and the routes to them.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) launcher: Arc<Launcher>,
    pub(crate) warmth: Arc<Warmth>,
    /// How long open requests get when their slot is unloaded.
    drain: Duration,
    slots: Mutex<Vec<Arc<Slot>>>,
    routes: RwLock<HashMap<String, Route>>,
    /// The wanted versions have been looked at once.
    begun: AtomicBool,
    /// What was wanted at first has become ready, or cannot.
    settled: AtomicBool,
    /// The server stops; nothing is started any more.
    closing: AtomicBool,
}

impl Fleet {
    pub(crate) fn new(launcher: Launcher, drain: Duration) -> Arc<Self> {
        Arc::new(Fleet {
            launcher: Arc::new(launcher),
            warmth: Arc::default(),
            drain,
            slots: Mutex::default(),
            routes: RwLock::default(),
            begun: AtomicBool::new(false),
            settled: AtomicBool::new(false),
            closing: AtomicBool::new(false),
        })
    }

    /// Works towards `wanted`, of each model at most one version that is no standby. Does not wait for anything.
    pub(crate) fn reconcile(self: &Arc<Self>, wanted: &[Wanted]) {
        let mut slots = self.slots();
        if self.closing.load(Ordering::SeqCst) {
            return;
        }
        for wanted in wanted {
            let running = slots.iter().find(|slot| slot.of() == &wanted.of && !slot.is_stopping()).cloned();
            let slot = running.unwrap_or_else(|| {
                let slot = Slot::start(self.launcher.clone(), wanted.of.clone(), wanted.source.clone());
                slots.push(slot.clone());
                slot
            });
            if wanted.standby {
                self.warmth.of(&slot, &self.launcher);
            } else {
                self.switch_to(slot, wanted.alias.as_deref());
            }
        }
        let is_wanted = |model: &str| wanted.iter().any(|w| !w.standby && w.of.model == model);
        self.routes.write().unwrap_or_else(PoisonError::into_inner).retain(|model, _| is_wanted(model));
        for slot in slots.iter().filter(|slot| !slot.is_stopping()) {
            if !wanted.iter().any(|w| &w.of == slot.of()) && !self.has_traffic(slot) {
                self.retire(slot.clone());
            }
        }
        self.begun.store(true, Ordering::SeqCst);
    }

    /// Sends the model's requests to `slot` once that is better than where they go now.
    fn switch_to(&self, slot: Arc<Slot>, alias: Option<&str>) {
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        let model = &slot.of().model;
        let Some(route) = routes.get_mut(model) else {
            TrafficSwitched { from: None, to: slot.of() }.emit(&self.launcher.metrics);
            let door = Arc::new(Door::new(model, &self.launcher.metrics));
            routes.insert(model.clone(), Route { slot, door, alias: alias.map(str::to_owned) });
            return;
        };
        route.alias = alias.map(str::to_owned);
        if Arc::ptr_eq(&route.slot, &slot) {
            return;
        }
        let is_better =
            slot.state() == SlotState::Ready && self.warmth.of(&slot, &self.launcher) != Warm::Coming;
        if is_better || !can_serve(&route.slot) {
            TrafficSwitched { from: Some(route.slot.of()), to: slot.of() }.emit(&self.launcher.metrics);
            route.slot = slot;
        }
    }

    fn has_traffic(&self, slot: &Arc<Slot>) -> bool {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        routes.get(&slot.of().model).is_some_and(|route| Arc::ptr_eq(&route.slot, slot))
    }

    /// Unloads a slot in the background.
    fn retire(self: &Arc<Self>, slot: Arc<Slot>) {
        let fleet = self.clone();
        slot.refuse_new_requests();
        tokio::spawn(async move {
            // An answer of a language model takes as long as it takes; the slot goes with the last one.
            let drain = if slot.is_language_model() { LANGUAGE_DRAIN.max(fleet.drain) } else { fleet.drain };
            slot.unload(&fleet.launcher, Instant::now() + drain).await;
            if !fleet.forget(&slot) {
                slot.discard_files().await;
            }
        });
    }

    /// Drops an unloaded slot; whether another one holds the same version.
    fn forget(&self, gone: &Arc<Slot>) -> bool {
        let mut slots = self.slots();
        slots.retain(|slot| !Arc::ptr_eq(slot, gone));
        slots.iter().any(|slot| slot.of() == gone.of())
    }

    /// Gives versions that were refused another chance, of this model.
    pub(crate) fn forget_refusals(self: &Arc<Self>, model: &str) {
        let slots = self.slots();
        for slot in slots.iter().filter(|slot| slot.of().model == model) {
            if slot.state() == SlotState::Refused && !slot.is_stopping() {
                self.retire(slot.clone());
            }
        }
    }

    /// Where the requests for a model go, of any version or of this one.
    ///
    /// # Errors
    /// [`Code::ModelNotFound`] and [`Code::VersionNotFound`] when it is not deployed.
    pub(crate) fn route(&self, model: &str, version: Option<u64>) -> Result<Route> {
        if self.closing.load(Ordering::SeqCst) {
            return Err(Error::new(Code::Unavailable, "the server is stopping"));
        }
        let known = self.begun.load(Ordering::SeqCst);
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let Some(route) = routes.get(model).cloned() else {
            return Err(absent(
                model,
                known,
                "Deploy it, or look at /api/v1/deployments for those that are.",
            ));
        };
        drop(routes);
        let Some(version) = version.filter(|version| *version != route.slot.of().version) else {
            return Ok(route);
        };
        // A version that is loaded but has no traffic yet can be asked by its number.
        let slots = self.slots();
        let of = |slot: &&Arc<Slot>| slot.of().model == model && slot.of().version == version;
        match slots.iter().filter(of).find(|slot| !slot.is_stopping()) {
            Some(slot) => Ok(Route { slot: slot.clone(), ..route }),
            None => Err(Error::new(
                Code::VersionNotFound,
                format!(
                    "version {version} of `{model}` is not deployed here, version {} is",
                    route.slot.of().version
                ),
            )),
        }
    }

    /// What a name in a request stands for: a deployed model as it is, with a version's number behind `:` or `@`, or
    /// with its deployment's alias behind `@`. What else stands behind `:` is an adapter, of which its slot knows.
    ///
    /// # Errors
    /// [`Code::ModelNotFound`] and [`Code::VersionNotFound`].
    pub(crate) fn resolve(&self, name: &str) -> Result<(String, Option<u64>)> {
        let known = self.begun.load(Ordering::SeqCst);
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        if routes.contains_key(name) {
            return Ok((name.to_owned(), None));
        }
        let part = |mark| {
            let (model, which) = name.rsplit_once(mark)?;
            Some((model, which, routes.get(model)?))
        };
        if let Some((model, which, route)) = part('@') {
            return match which.parse() {
                Ok(version) => Ok((model.to_owned(), Some(version))),
                Err(_) if route.alias.as_deref() == Some(which) => Ok((model.to_owned(), None)),
                Err(_) => {
                    let what = format!("`{model}` has no version or alias `{which}` that is deployed here");
                    Err(Error::new(Code::VersionNotFound, what))
                }
            };
        }
        if let Some((model, which, _)) = part(':') {
            return Ok((model.to_owned(), which.parse().ok()));
        }
        Err(absent(name, known, "GET /v1/models lists those that are.").about("model"))
    }

    /// Names of the deployed models that take text, as far as that is known yet.
    pub(crate) fn language_models(&self) -> Vec<String> {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let takes_text = routes.iter().filter(|(_, route)| route.slot.is_language_model());
        let mut names: Vec<_> = takes_text.map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }

    /// The slots of language models that answer now.
    pub(crate) fn language_slots(&self) -> Vec<Arc<Slot>> {
        self.ready_slots(Slot::is_language_model)
    }

    /// The slots of models that take tensors and answer now.
    pub(crate) fn tensor_slots(&self) -> Vec<Arc<Slot>> {
        self.ready_slots(|slot| !slot.is_language_model())
    }

    fn ready_slots(&self, is_wanted: impl Fn(&Slot) -> bool) -> Vec<Arc<Slot>> {
        let slots = self.slots();
        slots.iter().filter(|slot| slot.state() == SlotState::Ready && is_wanted(slot)).cloned().collect()
    }

    /// The slot that is to serve this version, deployed or about to be.
    fn slot_of(&self, of: &VersionName) -> Option<Arc<Slot>> {
        self.slots().iter().find(|slot| slot.of() == of && !slot.is_stopping()).cloned()
    }

    /// The slot of a version, if it takes requests now.
    pub(crate) fn ready_slot(&self, of: &VersionName) -> Option<Arc<Slot>> {
        self.slot_of(of).filter(|slot| slot.state() == SlotState::Ready)
    }

    /// How a rollout's candidate stands here.
    pub(crate) fn sight(&self, of: &VersionName) -> Sight {
        let Some(slot) = self.slot_of(of) else {
            return match self.closing.load(Ordering::SeqCst) {
                true => Sight::Coming,
                false => Sight::Unusable("it may not be loaded".to_owned()),
            };
        };
        let problem = || slot.problem().map_or_else(|| "no reason known".to_owned(), |p| p.error);
        match slot.state() {
            SlotState::Refused => Sight::Unusable(problem()),
            _ if slot.is_failing() => Sight::Unusable(format!("it does not start: {}", problem())),
            SlotState::Ready => match self.warmth.of(&slot, &self.launcher) {
                Warm::Coming => Sight::Coming,
                Warm::Yes => Sight::Ready,
                Warm::Failed => Sight::Unusable("it answered nothing when it was warmed up".to_owned()),
            },
            _ => Sight::Coming,
        }
    }

    /// Why a version does not serve, when it does not.
    pub(crate) fn problem(&self, of: &VersionName) -> Option<ErrorBody> {
        self.slot_of(of).and_then(|slot| slot.problem())
    }

    /// The slots as the management API shows them.
    pub(crate) fn views(&self) -> Vec<api::Slot> {
        let mut views: Vec<_> = self.slots().iter().map(|slot| slot.view()).collect();
        views.sort_by(|a, b| (&a.model, a.version).cmp(&(&b.model, b.version)));
        views
    }

    /// The slots as the metrics show them.
    pub(crate) fn readings(&self) -> Vec<SlotReading> {
        let reading = |view: api::Slot| SlotReading {
            model: view.model,
            version: view.version,
            state: view.state,
            resident_bytes: view.resident_bytes,
            progress_age_seconds: view.progress.map(|progress| progress.age_seconds),
        };
        self.views().into_iter().map(reading).collect()
    }

    /// Slots that were refused and whose refusal nobody has taken notice of yet.
    pub(crate) fn fresh_refusals(&self) -> Vec<(VersionName, ErrorBody)> {
        let slots = self.slots();
        slots.iter().filter_map(|slot| Some((slot.of().clone(), slot.take_refusal()?))).collect()
    }

    /// Whether what was wanted at first has become ready, or cannot be, and the server does not stop. From
    /// then on one model that loads or restarts does not make the server as a whole unready.
    pub(crate) fn is_ready(&self) -> bool {
        let is_settled = |slot: &Arc<Slot>| {
            slot.is_stopping()
                || slot.is_failing()
                || matches!(slot.state(), SlotState::Ready | SlotState::Refused)
        };
        if !self.settled.load(Ordering::SeqCst) {
            let settled = self.begun.load(Ordering::SeqCst) && self.slots().iter().all(is_settled);
            self.settled.store(settled, Ordering::SeqCst);
        }
        self.settled.load(Ordering::SeqCst) && !self.closing.load(Ordering::SeqCst)
    }

    /// Unloads everything, for good. Open requests get until `deadline`.
    pub(crate) async fn close(&self, deadline: Instant) {
        let slots = {
            let slots = self.slots();
            self.closing.store(true, Ordering::SeqCst);
            slots.clone()
        };
        let mut ending = tokio::task::JoinSet::new();
        for slot in slots {
            let launcher = self.launcher.clone();
            ending.spawn(async move { slot.unload(&launcher, deadline).await });
        }
        ending.join_all().await;
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why there is no such model. A server to which it is not `known` yet what is deployed cannot say that this is not: its
/// client would give up what another replica answers.
fn absent(model: &str, known: bool, hint: &str) -> Error {
    match known {
        true => Error::new(Code::ModelNotFound, format!("no model `{model}` is deployed here")).hint(hint),
        false => Error::new(Code::Unavailable, "the server has not read yet what is deployed")
            .hint("Ask again in a moment, or another replica."),
    }
}

/// Whether waiting for it makes sense.
fn can_serve(slot: &Slot) -> bool {
    slot.state() != SlotState::Refused && !slot.is_failing()
}
