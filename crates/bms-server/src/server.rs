//! The server: given its settings, its listener and its shutdown, it runs until told to stop.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{File, Permissions, TryLockError};
use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use bms_bundle::{Bundle, Mode, Policy};
use bms_registry::Registry;
use bms_wire::api::{Scale, SlotNeeds};
use bms_wire::{Code, Error, Result, limits};
use http::header;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::api::Api;
use crate::api::workers::{self, Workers};
use crate::care::Care;
use crate::engines::{Engines, Runner};
use crate::failure::{self, Failure};
use crate::fleet::{Fleet, Wanted, usual_budget};
use crate::follow::follow;
use crate::gateway::{CacheSettings, Fast, Gateway};
use crate::keys::{self, Keeper, KeySettings, Keys, KeysMode};
use crate::listen::{self, Terms, Tls};
use crate::metrics::{self, Metrics};
use crate::nodes::{Centre, Nodes};
use crate::policy::{PolicyWatch, SharedPolicy};
use crate::repository::Repository;
use crate::rollout::{Driver, work_on_copies};
use crate::slots::{Elsewhere, Launch, Launcher, Place, Source, VersionName};
use crate::work::{Shutdown, Work};
use crate::{dashboard, files, grpc, guard, hub, isolation, mlflow};

/// How long a connection may take to send a request's head, and stay open without any request.
const HEAD_WITHIN: Duration = Duration::from_secs(75);
/// Of the time a stop may take, what is kept for ending the slots after the last request.
const SLOTS_END_WITHIN: Duration = Duration::from_secs(3);
/// The version under which a bundle without a registry is served.
const ONLY_VERSION: u64 = 1;
/// Characters of a digest in hex.
const DIGEST_CHARS: usize = 64;
const _: () = assert!(SLOTS_END_WITHIN.as_secs() < limits::DRAIN_SECONDS_MAX, "open requests get some time");

/// How a server runs. Plain data; what it works with is given to [`run`] and [`serve_one`].
#[derive(Clone, Debug)]
pub struct Settings {
    /// How slot processes are started.
    pub launch: Launch,
    /// The folder in which copies of loaded versions are kept. One server at a time uses it.
    pub work_dir: PathBuf,
    /// The file the policy came from: the server takes over what changes in it.
    pub policy_file: Option<PathBuf>,
    /// How long open requests get when the server stops or a version is unloaded, at most
    /// [`limits::DRAIN_SECONDS_MAX`] seconds.
    pub drain: Duration,
    /// How long one inference request may take, at most [`limits::INFER_DEADLINE_MS`] milliseconds.
    pub deadline: Duration,
    /// How long one request to a language model may take, at most [`limits::LANGUAGE_DEADLINE_MS`] milliseconds.
    pub language_deadline: Duration,
    /// How long a client may take nothing of an answer before it is cut off, at most
    /// [`limits::CLIENT_STALL_SECONDS_MAX`] seconds.
    pub client_stall: Duration,
    /// How the store is looked after; not at all when absent.
    pub care: Option<Care>,
    /// The external engine that runs the model of [`serve_one`], one of [`Launch::engines`]; absent for this program.
    pub engine: Option<String>,
    /// Whether requests need a key. A server without a registry has none.
    pub keys: KeySettings,
    /// How what passes between clients and the server is encrypted; not at all when absent.
    pub tls: Option<Tls>,
    /// Where workers join; nowhere when absent.
    pub nodes: Option<Nodes>,
    /// Bytes all slots may take together; not bounded when absent.
    pub memory: Option<u64>,
    /// How answers are kept; not at all when absent.
    pub cache: Option<CacheSettings>,
}

impl Settings {
    /// Settings with the longest times allowed.
    pub fn new(launch: Launch, work_dir: PathBuf) -> Self {
        let drain = Duration::from_secs(limits::DRAIN_SECONDS_MAX);
        Settings {
            launch,
            work_dir,
            policy_file: None,
            drain,
            deadline: Duration::from_millis(limits::INFER_DEADLINE_MS),
            language_deadline: Duration::from_millis(limits::LANGUAGE_DEADLINE_MS),
            client_stall: Duration::from_secs(limits::CLIENT_STALL_SECONDS_MAX),
            care: None,
            engine: None,
            keys: KeySettings::default(),
            tls: None,
            nodes: None,
            memory: None,
            cache: None,
        }
    }
}

/// The bytes slots may take together when nobody says how many: four fifths of what the machine, and the control group
/// this process is in, have left. `None` where the system does not tell.
pub fn usual_memory() -> Option<u64> {
    usual_budget()
}

/// Runs the server with the models of `registry` until `shutdown` is done, then lets open requests finish
/// and unloads all models. `policy` decides what may be published and loaded.
///
/// # Errors
/// [`Code::PermissionDenied`] when the listener can be reached from other machines without that being meant, [`Code::Conflict`] when
/// another server uses the same working folder, and failures to make that folder.
pub fn run(
    settings: Settings,
    registry: Registry,
    policy: Policy,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Work {
    boxed_run(settings, registry, policy, listener, Box::pin(shutdown))
}

fn boxed_run(
    settings: Settings,
    registry: Registry,
    policy: Policy,
    listener: TcpListener,
    shutdown: Shutdown,
) -> Work {
    Box::pin(run_until(settings, registry, policy, listener, shutdown))
}

async fn run_until(
    settings: Settings,
    registry: Registry,
    policy: Policy,
    listener: TcpListener,
    shutdown: Shutdown,
) -> Result<()> {
    let address = address_of(&listener)?;
    let work_dir = WorkDir::take(&settings.work_dir)?;
    if policy.mode == Mode::Development {
        let details = serde_json::json!({ "mode": "development" });
        registry.audit("policy.development", "server", details).await?;
    }
    isolation::warn(&policy);
    isolation::audit(&policy, &registry).await?;
    check_engines(&settings.launch.engines, &registry).await?;
    let kept = deployed_digests(&registry).await?;
    work_dir.sweep(&kept)?;
    let policy = SharedPolicy::new(policy);
    let changed = Arc::new(Notify::new());
    let centre = match &settings.nodes {
        Some(nodes) => Some(Centre::open(nodes, registry.clone(), changed.clone()).await?),
        None => None,
    };
    let (elsewhere, lead) = centre.as_ref().map(|(centre, _)| centre.placing()).unzip();
    let parts = Parts::new(&settings, &policy, Some(registry.clone()), (changed, elsewhere))?;
    let keys = KeySettings { encrypted: settings.tls.is_some(), ..settings.keys.clone() };
    let keys = Keys::new(&keys, address, parts.metrics.clone())?;
    let keeper = Keeper::begin(keys.clone(), registry.clone()).await?;
    let keeper = Arc::new(tokio::sync::Mutex::new(keeper));
    let watch = PolicyWatch::new(settings.policy_file.clone(), parts.policy_copy.clone(), policy.clone());
    let api = Api::new(registry.clone(), policy, parts.gateway.clone(), keys.clone(), parts.changed.clone());
    let router = Router::new()
        .merge(api.routes())
        .merge(workers::routes(Workers {
            registry: registry.clone(),
            centre: centre.as_ref().map(|(centre, _)| centre.clone()),
            changed: parts.changed.clone(),
        }))
        .merge(mlflow::routes(&api))
        .merge(hub::routes(&api, if settings.tls.is_some() { "https" } else { "http" }))
        .merge(dashboard::routes());
    let fleet = parts.gateway.fleet.clone();
    let metrics = parts.metrics.clone();
    let caring = settings.care.clone().map(|care| tokio::spawn(care.run(registry.clone(), metrics)));
    let driver = Driver::new(registry.clone(), parts.gateway.rollouts.clone());
    let scaling = tokio::spawn(fleet.clone().scale_for_ever());
    let copies = tokio::spawn(work_on_copies(parts.gateway.clone()));
    let following =
        tokio::spawn(follow(registry, fleet, settings.work_dir, parts.changed.clone(), watch, driver, lead));
    // Workers fetch and report until requests are over.
    let workers = centre
        .map(|(centre, listener)| tokio::spawn(centre.serve(listener, api.clone(), std::future::pending())));
    let keeping = tokio::spawn(keys::keep(keeper.clone()));
    let served = parts.serve(Repository::Registry(api), router, &keys, listener, shutdown).await;
    // What is being written down comes to its end first: cut off, it would be neither written nor still to be.
    let mut keeper = keeper.lock().await;
    keeping.abort();
    keeper.end().await;
    following.abort();
    workers.inspect(|workers| workers.abort());
    scaling.abort();
    copies.abort();
    // A round that is cut off goes on after the next start.
    if let Some(caring) = caring {
        caring.abort();
    }
    parts.close().await;
    served
}

/// Serves one model, without a registry, until `shutdown` is done. A bundle answers as version 1 of the model its
/// manifest names. Returns before listening when the model is refused.
///
/// # Errors
/// The refusal of the gate or the engine; otherwise as [`run`].
pub fn serve_one(
    settings: Settings,
    place: Place,
    policy: Policy,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Work {
    boxed_serve_one(settings, place, policy, listener, Box::pin(shutdown))
}

fn boxed_serve_one(
    settings: Settings,
    place: Place,
    policy: Policy,
    listener: TcpListener,
    shutdown: Shutdown,
) -> Work {
    Box::pin(serve_one_until(settings, place, policy, listener, shutdown))
}

async fn serve_one_until(
    settings: Settings,
    place: Place,
    policy: Policy,
    listener: TcpListener,
    mut shutdown: Shutdown,
) -> Result<()> {
    let address = address_of(&listener)?;
    guard::check_address(address)?;
    let resolve = |path: PathBuf| path.canonicalize().map_err(|e| Error::io("open the model", &path, e));
    let (model, place) = match place {
        Place::Bundle(folder) => {
            let folder = resolve(folder)?;
            (model_name(folder.clone()).await?, Place::Bundle(folder))
        }
        Place::Bare { path, name } => (name.clone(), Place::Bare { path: resolve(path)?, name }),
    };
    isolation::warn(&policy);
    if let Some(engine) = &settings.engine {
        settings.launch.engines.check(engine)?;
    }
    let runner = settings.launch.engines.runner(settings.engine.as_deref());
    let parts = Parts::new(&settings, &SharedPolicy::new(policy), None, Default::default())?;
    let of = VersionName { model, version: ONLY_VERSION };
    let ready = tokio::select! {
        ready = parts.load_one(of, place, runner) => ready,
        () = &mut shutdown => {
            parts.close().await;
            return Ok(());
        }
    };
    let mut served = Ok(());
    if ready.is_ok() {
        let repository = Repository::One(parts.gateway.clone());
        let off = KeySettings { mode: Some(KeysMode::Off), ..KeySettings::default() };
        let keys = Keys::new(&off, address, parts.metrics.clone())?;
        served = parts.serve(repository, dashboard::chat_routes(), &keys, listener, shutdown).await;
    }
    parts.close().await;
    ready.and(served)
}

/// What engines serve that is no version of the registry passed no gate: the audit log says so, and where it runs. A model
/// that is deployed cannot be meant by the same name.
async fn check_engines(engines: &Engines, registry: &Registry) -> Result<()> {
    let deployments = registry.deployments().await?;
    for engine in engines.serving_all() {
        let model = engine.serves.as_deref().unwrap_or_default();
        if deployments.iter().any(|deployment| deployment.model == model) {
            let what = format!("the engine `{}` serves `{model}`, which is deployed, too", engine.name);
            return Err(Error::new(Code::Conflict, what)
                .hint("Give what the engine serves another name, or undeploy the model first."));
        }
        let details = serde_json::json!({ "engine": engine.name, "runs": engine.whereabouts() });
        registry.audit("engine.unverified", model, details).await?;
        tracing::warn!(model, engine = engine.name, "an engine serves a model that passed no gate");
    }
    Ok(())
}

/// The name in a bundle's manifest. Nothing is trusted yet: the slot checks the bundle.
async fn model_name(bundle: PathBuf) -> Result<String> {
    let reading = tokio::task::spawn_blocking(move || Bundle::open(&bundle)?.manifest_unverified());
    let manifest =
        reading.await.map_err(|e| Error::new(Code::Internal, "the manifest was not read").because(e))?;
    Ok(manifest?.name)
}

fn address_of(listener: &TcpListener) -> Result<SocketAddr> {
    listener
        .local_addr()
        .map_err(|e| Error::new(Code::Io, format!("the listener has no address: {e}")).because(e))
}

/// What every server consists of, with or without a registry.
struct Parts {
    gateway: Arc<Gateway>,
    changed: Arc<Notify>,
    metrics: Arc<Metrics>,
    terms: Terms,
    tls: Option<Tls>,
    /// Where slots read the policy.
    policy_copy: PathBuf,
    /// Sockets and the policy; removed with the value.
    _run_dir: TempDir,
}

impl Parts {
    fn new(
        settings: &Settings,
        policy: &SharedPolicy,
        auditor: Option<Registry>,
        (changed, elsewhere): (Arc<Notify>, Option<Elsewhere>),
    ) -> Result<Self> {
        let run_dir = private_folder()?;
        let policy_file = run_dir.path().join("policy.toml");
        policy.now().save(&policy_file)?;
        let policy_copy = policy_file.clone();
        let metrics = Arc::new(Metrics::new()?);
        let mut launcher = Launcher::new(
            settings.launch.clone(),
            run_dir.path().to_owned(),
            (policy_file, policy.clone()),
            metrics.clone(),
            auditor,
            changed.clone(),
        )?;
        launcher.elsewhere = elsewhere;
        let drain = settings.drain.min(Duration::from_secs(limits::DRAIN_SECONDS_MAX));
        let deadline = settings.deadline.min(Duration::from_millis(limits::INFER_DEADLINE_MS));
        let language_deadline =
            settings.language_deadline.min(Duration::from_millis(limits::LANGUAGE_DEADLINE_MS));
        let fleet = Fleet::new(launcher, drain, settings.memory);
        let gateway =
            Gateway::new(fleet, metrics.clone(), deadline, language_deadline, settings.cache.clone());
        let terms = Terms {
            connections_max: files::connections_max(),
            head_within: Some(HEAD_WITHIN),
            taken_within: Some(
                settings.client_stall.min(Duration::from_secs(limits::CLIENT_STALL_SECONDS_MAX)),
            ),
            http2: true,
            drain: drain.saturating_sub(SLOTS_END_WITHIN),
        };
        let tls = settings.tls.clone();
        Ok(Parts { gateway, changed, metrics, terms, tls, policy_copy, _run_dir: run_dir })
    }

    /// Loads one model and waits until it answers, or cannot.
    async fn load_one(&self, of: VersionName, place: Place, runner: Runner) -> Result<()> {
        let fleet = &self.gateway.fleet;
        let wanted = Wanted {
            of: of.clone(),
            alias: None,
            source: Source::Place(place),
            runner,
            standby: false,
            scale: Scale::default(),
            needs: SlotNeeds::default(),
            about: None,
        };
        fleet.reconcile(&[wanted]);
        while !fleet.is_ready() {
            self.changed.notified().await;
        }
        match fleet.problem(&of) {
            None => Ok(()),
            Some(problem) => Err(Error::from(problem).while_doing(format_args!("load {}", of.model))),
        }
    }

    /// Answers requests until `shutdown` is done and open ones are finished.
    async fn serve(
        &self,
        repository: Repository,
        routes: Router,
        keys: &Arc<Keys>,
        listener: TcpListener,
        shutdown: Shutdown,
    ) -> Result<()> {
        let router = self.router(&repository, routes, keys);
        let listener = listener.tap_io(|connection| {
            // Small answers must not wait for the acknowledgement of earlier ones.
            if let Err(e) = connection.set_nodelay(true) {
                tracing::debug!("failed to set TCP_NODELAY: {e}");
            }
        });
        let fast = Some(Fast::new(self.gateway.clone(), keys.clone(), router.clone()));
        let cut_off = match &self.tls {
            None => listen::serve(listener, router, fast, self.terms, shutdown).await,
            Some(tls) => tls.serve(listener, router, fast, self.terms, &self.metrics, shutdown).await?,
        };
        if cut_off != 0 {
            tracing::warn!(cut_off, "connections closed with requests open");
        }
        Ok(())
    }

    /// All routes, behind what every request passes.
    fn router(&self, repository: &Repository, routes: Router, keys: &Arc<Keys>) -> Router {
        Router::new()
            .merge(self.gateway.routes())
            .merge(repository.routes())
            .merge(grpc::routes(&self.gateway, repository))
            .route("/metrics", get(exposition).with_state((self.gateway.clone(), self.metrics.clone())))
            .merge(routes)
            .fallback(failure::no_such_route)
            .method_not_allowed_fallback(failure::no_such_method)
            .layer(axum::middleware::from_fn_with_state(keys.clone(), keys::door))
            .layer(axum::middleware::from_fn_with_state(keys.are_always_required(), guard::protect))
    }

    /// Unloads everything; requests are over by now.
    async fn close(&self) {
        self.gateway.fleet.close(Instant::now() + SLOTS_END_WITHIN / 2).await;
    }
}

async fn exposition(
    State((gateway, metrics)): State<(Arc<Gateway>, Arc<Metrics>)>,
) -> Result<Response, Failure> {
    let mut text =
        metrics.render(&gateway.fleet.readings(), &gateway.fleet.memory(), gateway.answers_bytes())?;
    text.push_str(&metrics::language::render(&gateway.language_readings().await));
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

/// A folder only this user can look into.
pub(crate) fn private_folder() -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix("bms-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
        .map_err(|e| Error::io("make a folder in", &std::env::temp_dir(), e))
}

/// Digests of the versions that will be loaded.
async fn deployed_digests(registry: &Registry) -> Result<BTreeSet<String>> {
    let mut digests = BTreeSet::new();
    for deployment in registry.deployments().await? {
        if let Some(version) = deployment.version {
            digests.insert(registry.version(&deployment.model, version).await?.digest);
        }
    }
    Ok(digests)
}

/// The working folder, for this server alone as long as the value lives.
pub(crate) struct WorkDir {
    dir: PathBuf,
    _lock: File,
}

impl WorkDir {
    pub(crate) fn take(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(|e| Error::io("make the folder", dir, e))?;
        let path = dir.join(".lock");
        let lock = File::create(&path).map_err(|e| Error::io("make", &path, e))?;
        match lock.try_lock() {
            Ok(()) => Ok(WorkDir { dir: dir.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                let what = format!("another server works in `{}`", dir.display());
                Err(Error::new(Code::Conflict, what).hint("Stop it first, or use another folder."))
            }
            Err(TryLockError::Error(e)) => Err(Error::io("lock", &path, e)),
        }
    }

    /// Removes the copies of versions that an earlier server left, but for those with the digests `kept`.
    /// Whatever else lies in the folder is not touched.
    pub(crate) fn sweep(&self, kept: &BTreeSet<String>) -> Result<()> {
        let entries = std::fs::read_dir(&self.dir).map_err(|e| Error::io("list", &self.dir, e))?;
        for entry in entries {
            let path = entry.map_err(|e| Error::io("list", &self.dir, e))?.path();
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
            let digest = name.strip_suffix(".new").unwrap_or(name);
            let is_copy = digest.len() == DIGEST_CHARS && digest.bytes().all(|c| c.is_ascii_hexdigit());
            if is_copy && !kept.contains(name) {
                std::fs::remove_dir_all(&path).map_err(|e| Error::io("remove", &path, e))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
