//! Which slots run and which of them a model's requests go to.
//!
//! The fleet is told what is wanted and works towards it in steps that may be repeated at any time:
//! start what is missing, switch a model's traffic once the wanted version answers, unload what neither
//! is wanted nor has traffic. Since a version without traffic is unloaded only after the switch, and open
//! requests keep their slots until they are answered, a change of version loses no request.
//!
//! A version has a [`Pool`] of slots. Which of them a request goes to is [`choice`]'s to say.

mod choice;
mod growth;
mod load;
mod memory;
mod pool;
mod readings;
mod scale;
mod scaling;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bms_wire::api::{self, Scale, SlotNeeds, SlotState};
use bms_wire::{Code, Error, ErrorBody, Result};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::engines::Runner;
use crate::event::{Event, TrafficSwitched};
use crate::gateway::Door;
use crate::metrics::SlotReading;
use crate::rollout::Sight;
use crate::slots::{Launcher, Slot, Source, VersionName};
use crate::warm::{Warm, Warmth};

pub(crate) use choice::prefix;
pub(crate) use load::{InFlight, Load};
pub(crate) use memory::{About, usual_budget};
use pool::Begin;
pub(crate) use pool::{Pool, Want};

/// A version that shall be loaded.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) of: VersionName,
    /// The alias the deployment follows.
    pub(crate) alias: Option<String>,
    pub(crate) source: Source,
    /// What runs it.
    pub(crate) runner: Runner,
    /// Kept loaded and warm, without being where the model's requests go.
    pub(crate) standby: bool,
    pub(crate) scale: Scale,
    /// What a slot of it needs, as its operator says.
    pub(crate) needs: SlotNeeds,
    /// Needed of a version the fleet does not know yet; without it what a slot takes is found out by starting one.
    pub(crate) about: Option<About>,
}

/// Where a model's requests go.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) pool: Arc<Pool>,
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
    /// Bytes all slots may take together.
    budget: Option<u64>,
    /// Rung by requests that find no slot.
    wake: Arc<Notify>,
    state: Mutex<State>,
    routes: RwLock<BTreeMap<String, Route>>,
    /// The wanted versions have been looked at once.
    begun: AtomicBool,
    /// What was wanted at first has become ready, or cannot.
    settled: AtomicBool,
    /// The server stops; nothing is started any more.
    closing: AtomicBool,
}

/// What there is.
#[derive(Debug, Default)]
struct State {
    pools: Vec<Arc<Pool>>,
    /// Slots that take no requests any more and finish those they have.
    leaving: Vec<Arc<Slot>>,
}

impl State {
    fn pool(&self, of: &VersionName) -> Option<Arc<Pool>> {
        self.pools.iter().find(|pool| pool.of() == of).cloned()
    }

    /// Every slot.
    fn slots(&self) -> Vec<Arc<Slot>> {
        let serving = self.pools.iter().flat_map(|pool| pool.slots().clone());
        serving.chain(self.leaving.iter().cloned()).collect()
    }
}

impl Fleet {
    pub(crate) fn new(launcher: Launcher, drain: Duration, budget: Option<u64>) -> Arc<Self> {
        Arc::new(Fleet {
            launcher: Arc::new(launcher),
            warmth: Arc::default(),
            drain,
            budget,
            wake: Arc::default(),
            state: Mutex::default(),
            routes: RwLock::default(),
            begun: AtomicBool::new(false),
            settled: AtomicBool::new(false),
            closing: AtomicBool::new(false),
        })
    }

    /// Works towards `wanted`, of each model at most one version that is no standby. Does not wait for anything.
    pub(crate) fn reconcile(self: &Arc<Self>, wanted: &[Wanted]) {
        let mut state = self.state();
        if self.closing.load(Ordering::SeqCst) {
            return;
        }
        for wanted in wanted {
            let known = state.pools.iter().find(|pool| self.is_pool_of(pool, wanted)).cloned();
            let pool = known.unwrap_or_else(|| {
                let pool = self.begin(wanted);
                if let Some(other) = state.pool(&wanted.of) {
                    pool.learn_from(&other);
                }
                state.pools.push(pool.clone());
                pool
            });
            pool.set_scale(wanted.scale, &wanted.needs);
            pool.is_kept.store(wanted.standby, Ordering::Relaxed);
            if wanted.standby {
                self.warm(&pool);
            } else {
                self.switch_to(pool, wanted.alias.as_deref());
            }
        }
        let is_wanted = |model: &str| wanted.iter().any(|w| !w.standby && w.of.model == model);
        self.routes.write().unwrap_or_else(PoisonError::into_inner).retain(|model, _| is_wanted(model));
        let is_over =
            |pool: &Arc<Pool>| !wanted.iter().any(|w| self.is_pool_of(pool, w)) && !self.has_traffic(pool);
        for pool in state.pools.extract_if(.., |pool| is_over(pool)).collect::<Vec<_>>() {
            for slot in pool.end() {
                self.retire(&mut state, slot);
            }
        }
        drop(state);
        self.scale();
        self.begun.store(true, Ordering::SeqCst);
    }

    /// Whether a pool is the one of what is wanted. Other threads, as another engine, are for other slots, which take over
    /// when they are ready; where slots have places, it is the place that is left for another.
    fn is_pool_of(&self, pool: &Pool, wanted: &Wanted) -> bool {
        let is_placed = self.launcher.elsewhere.is_some() && matches!(wanted.runner, Runner::Own);
        pool.of() == &wanted.of
            && pool.is_run_by(&wanted.runner)
            && (is_placed || pool.has_cores(wanted.needs.cores))
    }

    /// The most that slots on this machine took, of each version.
    pub(crate) fn seen(&self) -> Vec<(VersionName, u64)> {
        let pools = self.state().pools.clone();
        pools.iter().filter_map(|pool| Some((pool.of().clone(), pool.seen()?))).collect()
    }

    /// Whether it has slots of this version, or would start some.
    pub(crate) fn knows(&self, of: &VersionName) -> bool {
        self.pool_of(of).is_some()
    }

    /// The pool of a version there was none of. It begins with as many slots as the version it follows has, and with one
    /// at least, which shows whether it can be loaded; but what has slept when the server was started goes on to sleep.
    fn begin(&self, wanted: &Wanted) -> Arc<Pool> {
        let before = {
            let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
            routes.get(&wanted.of.model).map(|route| route.pool.wanted()).filter(|_| !wanted.standby)
        };
        let least = wanted.scale.min_slots as usize;
        let slots = match self.begun.load(Ordering::SeqCst) || wanted.standby {
            true => least.max(before.unwrap_or(0)).max(1),
            false => least,
        };
        let begin = Begin {
            source: wanted.source.clone(),
            runner: wanted.runner.clone(),
            scale: wanted.scale,
            needs: wanted.needs,
            slots,
            about: wanted.about.as_ref(),
            wake: self.wake.clone(),
        };
        Pool::new(wanted.of.clone(), begin, &self.launcher)
    }

    /// Sends the model's requests to `pool` once that is better than where they go now.
    fn switch_to(&self, pool: Arc<Pool>, alias: Option<&str>) {
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        let model = &pool.of().model;
        let Some(route) = routes.get_mut(model) else {
            TrafficSwitched { from: None, to: pool.of() }.emit(&self.launcher.metrics);
            let door = Arc::new(Door::new(model, &self.launcher.metrics));
            routes.insert(model.clone(), Route { pool, door, alias: alias.map(str::to_owned) });
            return;
        };
        route.alias = alias.map(str::to_owned);
        if Arc::ptr_eq(&route.pool, &pool) {
            return;
        }
        let is_better = pool.is_match_for(&route.pool) && self.warm(&pool) != Warm::Coming;
        if is_better || !route.pool.can_serve() {
            // What was a standby gets as many slots as its requests had.
            pool.raise_to(route.pool.wanted());
            TrafficSwitched { from: Some(route.pool.of()), to: pool.of() }.emit(&self.launcher.metrics);
            route.pool = pool;
        }
    }

    /// How warm the slots of a version are that are ready. Those that were not warmed up begin to be.
    fn warm(&self, pool: &Pool) -> Warm {
        let warm = pool.ready().iter().map(|slot| self.warmth.of(slot, &self.launcher)).collect::<Vec<_>>();
        match warm.contains(&Warm::Yes) {
            _ if warm.is_empty() || warm.contains(&Warm::Coming) => Warm::Coming,
            true => Warm::Yes,
            false => Warm::Failed,
        }
    }

    fn has_traffic(&self, pool: &Arc<Pool>) -> bool {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        routes.get(&pool.of().model).is_some_and(|route| Arc::ptr_eq(&route.pool, pool))
    }

    /// Unloads a slot in the background. It is in no pool any more.
    fn retire(self: &Arc<Self>, state: &mut State, slot: Arc<Slot>) {
        let fleet = self.clone();
        slot.refuse_new_requests();
        state.leaving.push(slot.clone());
        tokio::spawn(async move {
            // An answer of a language model takes as long as it takes; the slot goes with the last one.
            let drain = slot.drain(fleet.drain);
            slot.unload(&fleet.launcher, Instant::now() + drain).await;
            if !fleet.forget(&slot) {
                slot.discard_files().await;
            }
        });
    }

    /// Drops an unloaded slot; whether another one holds the same version, or may again.
    fn forget(&self, gone: &Arc<Slot>) -> bool {
        let mut state = self.state();
        state.leaving.retain(|slot| !Arc::ptr_eq(slot, gone));
        state.pool(gone.of()).is_some() || state.leaving.iter().any(|slot| slot.of() == gone.of())
    }

    /// Gives versions that were refused another chance, of this model.
    pub(crate) fn forget_refusals(self: &Arc<Self>, model: &str) {
        let mut state = self.state();
        for pool in state.pools.iter().filter(|pool| pool.of().model == model).cloned().collect::<Vec<_>>() {
            let refused = |slot: &&Arc<Slot>| slot.state() == SlotState::Refused;
            let refused: Vec<_> = pool.slots().iter().filter(refused).cloned().collect();
            for slot in refused {
                pool.take_out(&slot);
                pool.raise_to(1);
                self.retire(&mut state, slot);
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
        let Some(version) = version.filter(|version| *version != route.pool.of().version) else {
            return Ok(route);
        };
        // A version that is loaded but has no traffic yet can be asked by its number.
        match self.pool_of(&VersionName { model: model.to_owned(), version }) {
            Some(pool) => Ok(Route { pool, ..route }),
            None => Err(Error::new(
                Code::VersionNotFound,
                format!(
                    "version {version} of `{model}` is not deployed here, version {} is",
                    route.pool.of().version
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
        let takes_text = routes.iter().filter(|(_, route)| route.pool.is_language_model());
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
        let slots = self.state().slots();
        slots.into_iter().filter(|slot| slot.state() == SlotState::Ready && is_wanted(slot)).collect()
    }

    /// The slots that are to serve this version, deployed or about to be.
    fn pool_of(&self, of: &VersionName) -> Option<Arc<Pool>> {
        self.state().pool(of)
    }

    /// The slots of a version, if it takes requests now.
    pub(crate) fn ready_pool(&self, of: &VersionName) -> Option<Arc<Pool>> {
        self.pool_of(of).filter(|pool| pool.is_ready())
    }

    /// How many other slots of its version answer now.
    pub(crate) fn siblings(&self, slot: &Arc<Slot>) -> usize {
        let pool = self.pool_of(slot.of());
        pool.map_or(0, |pool| pool.ready().iter().filter(|other| !Arc::ptr_eq(other, slot)).count())
    }

    /// How a rollout's candidate stands here.
    pub(crate) fn sight(&self, of: &VersionName) -> Sight {
        let Some(pool) = self.pool_of(of) else {
            return match self.closing.load(Ordering::SeqCst) {
                true => Sight::Coming,
                false => Sight::Unusable("it may not be loaded".to_owned()),
            };
        };
        if pool.is_ready() {
            return match self.warm(&pool) {
                Warm::Coming => Sight::Coming,
                Warm::Yes => Sight::Ready,
                Warm::Failed => Sight::Unusable("it answered nothing when it was warmed up".to_owned()),
            };
        }
        let problem = || pool.problem().map_or_else(|| "no reason known".to_owned(), |p| p.error);
        let slots = pool.slots().clone();
        if slots.iter().any(|slot| slot.state() == SlotState::Refused) {
            return Sight::Unusable(problem());
        }
        match slots.iter().any(|slot| slot.is_failing()) {
            true => Sight::Unusable(format!("it does not start: {}", problem())),
            false if pool.lacks() => Sight::Unusable(problem()),
            false => Sight::Coming,
        }
    }

    /// Whether a version has no slot because nobody asks.
    pub(crate) fn is_asleep(&self, of: &VersionName) -> bool {
        self.pool_of(of).is_some_and(|pool| pool.is_asleep())
    }

    /// Why a version does not serve, when it does not.
    pub(crate) fn problem(&self, of: &VersionName) -> Option<ErrorBody> {
        let pool = self.pool_of(of)?;
        // One that serves with fewer slots than wanted says so as well.
        pool.problem().or_else(|| pool.lack().map(|lack| lack.body()))
    }

    /// The slots as the management API shows them.
    pub(crate) fn views(&self) -> Vec<api::Slot> {
        let mut slots = self.state().slots();
        slots.sort_by(|a, b| (a.of(), a.number()).cmp(&(b.of(), b.number())));
        slots.iter().map(|slot| slot.view()).collect()
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
        let slots = self.state().slots();
        let mut fresh: Vec<_> =
            slots.iter().filter_map(|slot| Some((slot.of().clone(), slot.take_refusal()?))).collect();
        // Slots of one version are refused for the same reason.
        fresh.dedup_by(|a, b| a.0 == b.0);
        fresh
    }

    /// Whether what was wanted at first has become ready, or cannot be, and the server does not stop. From
    /// then on one model that loads or restarts does not make the server as a whole unready.
    pub(crate) fn is_ready(&self) -> bool {
        if !self.settled.load(Ordering::SeqCst) {
            let begun = self.begun.load(Ordering::SeqCst);
            let settled = begun && self.state().pools.iter().all(|pool| pool.is_settled());
            self.settled.store(settled, Ordering::SeqCst);
        }
        self.settled.load(Ordering::SeqCst) && !self.closing.load(Ordering::SeqCst)
    }

    /// Unloads everything, for good. Open requests get until `deadline`.
    pub(crate) async fn close(&self, deadline: Instant) {
        let slots = {
            let state = self.state();
            self.closing.store(true, Ordering::SeqCst);
            state.slots()
        };
        let mut ending = tokio::task::JoinSet::new();
        for slot in slots {
            let launcher = self.launcher.clone();
            ending.spawn(async move { slot.unload(&launcher, deadline).await });
        }
        ending.join_all().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
