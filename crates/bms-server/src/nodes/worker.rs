//! The worker's side: join, run what is ordered, answer for it, and leave without losing a request.

mod door;
mod identity;
mod trust;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bms_bundle::Policy;
use bms_wire::api::{WorkerReport, WorkerSlot};
use bms_wire::{Code, Error, Result, limits};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::Full;
use serde::Serialize;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::protocol::{HEARTBEAT, Heartbeat, LEAVE, Leave, Orders};
use super::{Centres, Pull, host_and_port, pull};
use crate::engines::Runner;
use crate::machine::available_memory;
use crate::metrics::Metrics;
use crate::policy::{PolicyWatch, SharedPolicy};
use crate::server::{WorkDir, private_folder};
use crate::slots::{Held, Launch, Launcher, Slot, Source, VersionName};
use crate::work::{Shutdown, Work};
use identity::Identity;
use trust::Refused;

/// How long the centre may take over a heartbeat.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long a replica may take when there are others: whoever is asked next has to hear of it before it counts as gone.
const REPLICA_ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// How often it is said that no heartbeat comes through.
const SAID_EVERY: Duration = Duration::from_secs(10);
/// The longest pause between tries while the centre cannot be reached.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long leaving may take when no end is known, before it is done without the centre's consent.
const LEAVE_WITHIN: Duration = Duration::from_secs(300);
/// How long open requests of tensors get when their slot goes.
const DRAIN: Duration = Duration::from_secs(limits::DRAIN_SECONDS_MAX);

/// How a worker works.
#[derive(Debug)]
pub struct JoinSettings {
    /// The name it wants; another name of a worker that has joined before is an error.
    pub name: Option<String>,
    /// The name it takes when it has none yet and wants no other.
    pub usual_name: Option<String>,
    /// The token it joins with; without one it must have joined before.
    pub token: Option<String>,
    /// `HOST:PORT` under which the centre reaches it; where it listens when absent.
    pub address: Option<String>,
    /// The folder with its key, and the copies of what it runs.
    pub data: PathBuf,
    /// Bytes of memory its slots may use.
    pub memory_bytes: u64,
    /// Processors its slots may use.
    pub cores: u64,
    /// What it says of itself.
    pub labels: BTreeMap<String, String>,
    /// When its machine goes.
    pub until: Option<SystemTime>,
    /// How long before that it begins to leave.
    pub margin: Duration,
    /// How its slots are started.
    pub launch: Launch,
    /// What may be loaded.
    pub policy: Policy,
    /// The file that is from, which is read again when it changes.
    pub policy_file: Option<PathBuf>,
}

/// A slot that was ordered.
struct Hosted {
    of: VersionName,
    slot: Arc<Slot>,
    /// The policy that counts now trusts it.
    is_checked: bool,
}

/// What the tasks of a worker share.
pub(super) struct Worker {
    launcher: Arc<Launcher>,
    pull: Arc<Pull>,
    centres: Arc<Centres>,
    hosted: Mutex<BTreeMap<String, Hosted>>,
    refused: Mutex<Refused>,
    /// It leaves of its own: it was told to on this machine, or its time ends.
    leaving: AtomicBool,
    /// The centre says that it shall leave.
    told_to_leave: AtomicBool,
    /// Its policy's file, which is read again when it changes.
    policy: tokio::sync::Mutex<PolicyWatch>,
    settings: JoinSettings,
    address: String,
    /// Sockets and the policy; removed with the value.
    _run_dir: TempDir,
}

/// Joins a centre and works for it until `shutdown` is done, its machine's time is nearly over, or the centre says so; then
/// leaves: its slots are placed elsewhere first, and open requests come to their end. `ready` hears its name and address
/// once the centre has heard of it.
///
/// # Errors
/// [`Code::PermissionDenied`] for a token that is not good, and when it is revoked; [`Code::InvalidRequest`] when it cannot
/// be reached where it says; [`Code::Unavailable`] when the centre cannot be reached to join; failures to keep its key.
pub fn join(
    settings: JoinSettings,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
    ready: impl FnOnce(&str, &str) + Send + 'static,
) -> Work {
    boxed_join(settings, listener, Box::pin(shutdown), Box::new(ready))
}

/// Hears a worker's name and address.
type Ready = Box<dyn FnOnce(&str, &str) + Send>;

fn boxed_join(settings: JoinSettings, listener: TcpListener, shutdown: Shutdown, ready: Ready) -> Work {
    Box::pin(join_until(settings, listener, shutdown, ready))
}

async fn join_until(
    settings: JoinSettings,
    listener: TcpListener,
    shutdown: Shutdown,
    ready: Ready,
) -> Result<()> {
    let bound = listener
        .local_addr()
        .map_err(|e| Error::new(Code::Io, format!("the listener has no address: {e}")).because(e))?;
    let address = match &settings.address {
        Some(address) => address.clone(),
        None if bound.ip().is_unspecified() => {
            let what = format!("the centre cannot connect to {bound}");
            return Err(Error::new(Code::InvalidRequest, what)
                .hint("Say under which address it reaches this machine with --address HOST:PORT."));
        }
        None => bound.to_string(),
    };
    host_and_port(&address)?;
    let work_dir = WorkDir::take(&settings.data.join("loaded"))?;
    work_dir.sweep(&Default::default())?;
    let mut identity = Identity::obtain(&settings).await?;
    let worker = Arc::new(Worker::new(settings, &identity, address)?);
    let stop = watch::Sender::new(false);
    let serving = tokio::spawn(door::serve(worker.clone(), listener, identity.server()?, stop.subscribe()));
    let done = worker.clone().work(&mut identity, shutdown, ready).await;
    worker.end_all().await;
    stop.send_replace(true);
    let _ = serving.await;
    done
}

impl Worker {
    fn new(settings: JoinSettings, identity: &Identity, address: String) -> Result<Self> {
        let run_dir = private_folder()?;
        let policy_file = run_dir.path().join("policy.toml");
        settings.policy.save(&policy_file)?;
        let shared = SharedPolicy::new(settings.policy.clone());
        let watch = PolicyWatch::new(settings.policy_file.clone(), policy_file.clone(), shared.clone());
        let launcher = Launcher::new(
            settings.launch.clone(),
            run_dir.path().to_owned(),
            (policy_file, shared),
            Arc::new(Metrics::new()?),
            None,
            Arc::new(Notify::new()),
        )?;
        let centres = Arc::new(identity.centres()?);
        let into = settings.data.join("loaded");
        let pull = Arc::new(Pull::new(centres.clone(), into));
        Ok(Worker {
            launcher: Arc::new(launcher),
            pull,
            centres,
            hosted: Mutex::default(),
            refused: Mutex::default(),
            leaving: AtomicBool::new(false),
            told_to_leave: AtomicBool::new(false),
            policy: tokio::sync::Mutex::new(watch),
            settings,
            address,
            _run_dir: run_dir,
        })
    }

    /// Heartbeats, until it has left or may work no more.
    async fn work(
        self: Arc<Self>,
        identity: &mut Identity,
        mut shutdown: Shutdown,
        ready: Ready,
    ) -> Result<()> {
        let every = Duration::from_millis(limits::WORKER_HEARTBEAT_MS);
        let mut ready = Some(ready);
        let mut told = std::pin::pin!(tokio::time::sleep(self.time_left()));
        let (mut pause, mut left_by, mut said) = (every, None, None);
        loop {
            self.follow_policy().await;
            match self.beat().await {
                Ok(orders) => {
                    pause = every;
                    if said.take().is_some() {
                        tracing::info!("heartbeats come through again");
                    }
                    if self.centres.learn(&orders.centres)
                        && let Err(error) = identity.keep(&self.centres)
                    {
                        tracing::warn!("the addresses of the centre's replicas were not kept: {error}");
                    }
                    let is_over = self.carry_out(&orders);
                    if let Some(ready) = ready.take() {
                        ready(identity.name(), &self.address);
                    }
                    self.told_to_leave.store(orders.leave, Ordering::SeqCst);
                    if is_over && self.is_leaving() && self.left().await? {
                        return Ok(());
                    }
                    if identity.is_due() {
                        match identity.renew(&self.centres.now()).await {
                            Ok(()) => self.centres.open_anew(),
                            Err(error) => tracing::warn!("the certificate was not renewed: {error}"),
                        }
                    }
                }
                // Before anything runs that is the caller's to hear; a centre that is away later is waited for.
                Err(error) if error.code() == Code::PermissionDenied || ready.is_some() => return Err(error),
                Err(error) => {
                    identity.check_is_good()?;
                    if said.is_none_or(|at: Instant| SAID_EVERY <= at.elapsed()) {
                        tracing::warn!("no heartbeat, it is tried on: {error}");
                        said = Some(Instant::now());
                    }
                    pause = (2 * pause).min(PAUSE_MAX);
                }
            }
            if !self.is_leaving() {
                left_by = None;
            } else {
                let by = *left_by.get_or_insert_with(|| Instant::now() + self.leave_within());
                if by <= Instant::now() {
                    tracing::warn!("leaving without the centre's consent: it takes too long");
                    return Ok(());
                }
                pause = pause.min(every / 4);
            }
            let leaving = self.leaving.load(Ordering::SeqCst);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = &mut shutdown, if !leaving => self.leaving.store(true, Ordering::SeqCst),
                () = &mut told, if !leaving => self.leaving.store(true, Ordering::SeqCst),
            }
        }
    }

    fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::SeqCst) || self.told_to_leave.load(Ordering::SeqCst)
    }

    /// Says that it has left. `false` when it shall stay by now.
    async fn left(&self) -> Result<bool> {
        let was_told = !self.leaving.load(Ordering::SeqCst);
        match self.ask(LEAVE, &Leave { was_told }).await {
            Err(error) if error.code() == Code::Conflict => {
                self.told_to_leave.store(false, Ordering::SeqCst);
                Ok(false)
            }
            said => said.map(|_| true),
        }
    }

    /// How long until it has to begin to leave: for ever when no end is known.
    fn time_left(&self) -> Duration {
        let left = |until: SystemTime| until.duration_since(SystemTime::now()).unwrap_or_default();
        self.settings.until.map_or(Duration::from_secs(u32::MAX.into()), |until| {
            left(until).saturating_sub(self.settings.margin)
        })
    }

    fn leave_within(&self) -> Duration {
        let left = |until: SystemTime| until.duration_since(SystemTime::now()).unwrap_or_default();
        self.settings.until.map_or(LEAVE_WITHIN, |until| left(until).min(LEAVE_WITHIN))
    }

    /// A heartbeat to the replica that is spoken with, or else to the first that answers.
    async fn beat(&self) -> Result<Orders> {
        let mut failed = None;
        for _ in 0..self.centres.count() {
            match self.ask(HEARTBEAT, &Heartbeat { report: self.report() }).await {
                Ok(answer) => {
                    if let Some(error) = failed {
                        let now = &self.centres.addresses()[0];
                        tracing::warn!(now, "another replica of the centre is spoken with: {error}");
                    }
                    return serde_json::from_slice(&answer).map_err(|e| {
                        Error::new(Code::Unavailable, "the centre's orders make no sense").because(e)
                    });
                }
                // Who is not let in is let in by none.
                Err(error) if error.code() == Code::PermissionDenied => return Err(error),
                Err(error) => failed = Some(error),
            }
            self.centres.go_on();
        }
        Err(failed.unwrap_or_else(|| Error::new(Code::Internal, "a worker knows no centre")))
    }

    async fn ask<T: Serialize>(&self, path: &str, document: &T) -> Result<Bytes> {
        let within = if self.centres.count() < 2 { ANSWER_WITHIN } else { REPLICA_ANSWERS_WITHIN };
        identity::ask(&self.centres.now(), path, document, within).await
    }

    fn report(&self) -> WorkerReport {
        let hosted = self.hosted();
        let slots = hosted.iter().map(|(id, hosted)| {
            let view = hosted.slot.view();
            WorkerSlot {
                id: id.clone(),
                model: view.model,
                version: view.version,
                state: view.state,
                resident_bytes: view.resident_bytes,
                problem: hosted.slot.problem().map(|problem| problem.error),
            }
        });
        let slots = slots.take(limits::WORKER_SLOTS_MAX).collect();
        let until = self.settings.until.and_then(|until| until.duration_since(UNIX_EPOCH).ok());
        WorkerReport {
            address: self.address.clone(),
            memory_bytes: self.settings.memory_bytes,
            memory_free_bytes: available_memory().unwrap_or_default(),
            cores: self.settings.cores,
            labels: self.settings.labels.clone(),
            until_ms: until.and_then(|until| i64::try_from(until.as_millis()).ok()),
            draining: self.leaving.load(Ordering::SeqCst),
            slots,
            refused: self.refusals(),
        }
    }

    /// Starts what is ordered and not there, and ends what is there and not ordered. Whether nothing is left of either.
    fn carry_out(self: &Arc<Self>, orders: &Orders) -> bool {
        let mut hosted = self.hosted();
        for order in orders.slots.iter().take(limits::WORKER_SLOTS_MAX) {
            if !hosted.contains_key(&order.id) {
                let of = VersionName { model: order.model.clone(), version: order.version };
                let held = Held {
                    of: of.clone(),
                    source: Source::Centre(self.pull.clone()),
                    runner: Runner::Own,
                    cores: order.cores,
                };
                let slot = Slot::start(self.launcher.clone(), held, Arc::default());
                // Its process reads the policy that counts now.
                hosted.insert(order.id.clone(), Hosted { of, slot, is_checked: true });
            }
        }
        for (id, gone) in hosted.iter() {
            if !orders.slots.iter().any(|order| order.id == *id) && !gone.slot.is_stopping() {
                gone.slot.refuse_new_requests();
                tokio::spawn(self.clone().end(id.clone(), gone.slot.clone()));
            }
        }
        hosted.is_empty() && orders.slots.is_empty()
    }

    /// Ends a slot once its open requests are answered.
    async fn end(self: Arc<Self>, id: String, slot: Arc<Slot>) {
        slot.unload(&self.launcher, Instant::now() + slot.drain(DRAIN)).await;
        let is_last = {
            let mut hosted = self.hosted();
            hosted.remove(&id);
            !hosted.values().any(|other| other.of == *slot.of())
        };
        if is_last {
            slot.discard_files().await;
        }
    }

    /// Ends everything, now.
    async fn end_all(&self) {
        let slots: Vec<_> = self.hosted().values().map(|hosted| hosted.slot.clone()).collect();
        for slot in slots {
            slot.unload(&self.launcher, Instant::now()).await;
        }
    }

    /// The slot that goes by this name, when it takes requests.
    fn slot(&self, id: &str) -> Option<Arc<Slot>> {
        self.hosted().get(id).map(|hosted| hosted.slot.clone())
    }

    fn hosted(&self) -> MutexGuard<'_, BTreeMap<String, Hosted>> {
        self.hosted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request with a document to the centre.
fn post(path: &str, document: Vec<u8>) -> Result<Request<Full<Bytes>>> {
    Request::post(path)
        .header(header::HOST, "centre")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(document.into()))
        .map_err(|e| Error::new(Code::Internal, "a request cannot be made").because(e))
}
