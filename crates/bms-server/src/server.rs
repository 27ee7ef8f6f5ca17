//! The server: given its settings, its listener and its shutdown, it runs until told to stop.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{File, Permissions, TryLockError};
use std::future::Future;
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
use bms_wire::{Code, Error, Result, limits};
use http::header;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::api::Api;
use crate::failure::{self, Failure};
use crate::fleet::{Fleet, Wanted};
use crate::follow::follow;
use crate::gateway::Gateway;
use crate::listen::{self, Terms};
use crate::metrics::{self, Metrics};
use crate::slots::{Launch, Launcher, Source, VersionName};
use crate::{dashboard, files, guard};

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
    /// How long open requests get when the server stops or a version is unloaded, at most
    /// [`limits::DRAIN_SECONDS_MAX`] seconds.
    pub drain: Duration,
    /// How long one inference request may take, at most [`limits::INFER_DEADLINE_MS`] milliseconds.
    pub deadline: Duration,
}

impl Settings {
    /// Settings with the longest times allowed.
    pub fn new(launch: Launch, work_dir: PathBuf) -> Self {
        let drain = Duration::from_secs(limits::DRAIN_SECONDS_MAX);
        Settings { launch, work_dir, drain, deadline: Duration::from_millis(limits::INFER_DEADLINE_MS) }
    }
}

/// Runs the server with the models of `registry` until `shutdown` is done, then lets open requests finish
/// and unloads all models. `policy` decides what may be published and loaded.
///
/// # Errors
/// [`Code::PermissionDenied`] when the listener can be reached from other machines, [`Code::Conflict`] when
/// another server uses the same working folder, and failures to make that folder.
pub async fn run(
    settings: Settings,
    registry: Registry,
    policy: Policy,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    check_listener(&listener)?;
    let work_dir = WorkDir::take(&settings.work_dir)?;
    if policy.mode == Mode::Development {
        let details = serde_json::json!({ "mode": "development" });
        registry.audit("policy.development", "server", details).await?;
    }
    let kept = deployed_digests(&registry).await?;
    work_dir.sweep(&kept)?;
    let parts = Parts::new(&settings, &policy)?;
    let api = Api::new(registry.clone(), policy, parts.gateway.clone(), parts.changed.clone());
    let router = Router::new().merge(api.routes()).merge(dashboard::routes());
    let fleet = parts.gateway.fleet.clone();
    let following = tokio::spawn(follow(registry, fleet, settings.work_dir, parts.changed.clone()));
    parts.serve(router, listener, settings.drain, shutdown).await;
    following.abort();
    parts.close().await;
    Ok(())
}

/// Serves the bundle in the folder `bundle`, without a registry, until `shutdown` is done. It answers as
/// version 1 of the model its manifest names. Returns before listening when the bundle is refused.
///
/// # Errors
/// The refusal of the gate or the engine; otherwise as [`run`].
pub async fn serve_one(
    settings: Settings,
    bundle: &Path,
    policy: Policy,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    check_listener(&listener)?;
    let bundle = bundle.canonicalize().map_err(|e| Error::io("open the bundle", bundle, e))?;
    let model = model_name(bundle.clone()).await?;
    let parts = Parts::new(&settings, &policy)?;
    let of = VersionName { model, version: ONLY_VERSION };
    let mut shutdown = std::pin::pin!(shutdown);
    let ready = tokio::select! {
        ready = parts.load_one(of, bundle) => ready,
        () = &mut shutdown => {
            parts.close().await;
            return Ok(());
        }
    };
    if ready.is_ok() {
        parts.serve(Router::new(), listener, settings.drain, shutdown).await;
    }
    parts.close().await;
    ready
}

/// The name in a bundle's manifest. Nothing is trusted yet: the slot checks the bundle.
async fn model_name(bundle: PathBuf) -> Result<String> {
    let reading = tokio::task::spawn_blocking(move || Bundle::open(&bundle)?.manifest_unverified());
    let manifest =
        reading.await.map_err(|e| Error::new(Code::Internal, "the manifest was not read").because(e))?;
    Ok(manifest?.name)
}

fn check_listener(listener: &TcpListener) -> Result<()> {
    let address = listener
        .local_addr()
        .map_err(|e| Error::new(Code::Io, format!("the listener has no address: {e}")).because(e))?;
    guard::check_address(address)
}

/// What every server consists of, with or without a registry.
struct Parts {
    gateway: Arc<Gateway>,
    changed: Arc<Notify>,
    metrics: Arc<Metrics>,
    /// Sockets and the policy; removed with the value.
    _run_dir: TempDir,
}

impl Parts {
    fn new(settings: &Settings, policy: &Policy) -> Result<Self> {
        let run_dir = private_folder()?;
        let policy_file = run_dir.path().join("policy.toml");
        policy.save(&policy_file)?;
        let metrics = Arc::new(Metrics::new()?);
        let changed = Arc::new(Notify::new());
        let launcher = Launcher::new(
            settings.launch.clone(),
            run_dir.path().to_owned(),
            policy_file,
            metrics.clone(),
            changed.clone(),
        )?;
        let drain = settings.drain.min(Duration::from_secs(limits::DRAIN_SECONDS_MAX));
        let deadline = settings.deadline.min(Duration::from_millis(limits::INFER_DEADLINE_MS));
        let gateway = Gateway::new(Fleet::new(launcher, drain), metrics.clone(), deadline);
        Ok(Parts { gateway, changed, metrics, _run_dir: run_dir })
    }

    /// Loads one bundle and waits until it answers, or cannot.
    async fn load_one(&self, of: VersionName, bundle: PathBuf) -> Result<()> {
        let fleet = &self.gateway.fleet;
        let wanted = Wanted { of: of.clone(), source: Source::Folder(bundle) };
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
        routes: Router,
        listener: TcpListener,
        drain: Duration,
        shutdown: impl Future<Output = ()>,
    ) {
        let router = Router::new()
            .merge(self.gateway.routes())
            .route("/metrics", get(exposition).with_state((self.gateway.clone(), self.metrics.clone())))
            .merge(routes)
            .fallback(failure::no_such_route)
            .method_not_allowed_fallback(failure::no_such_method)
            .layer(axum::middleware::from_fn(guard::protect));
        let listener = listener.tap_io(|connection| {
            // Small answers must not wait for the acknowledgement of earlier ones.
            if let Err(e) = connection.set_nodelay(true) {
                tracing::debug!("failed to set TCP_NODELAY: {e}");
            }
        });
        let drain =
            drain.min(Duration::from_secs(limits::DRAIN_SECONDS_MAX)).saturating_sub(SLOTS_END_WITHIN);
        let terms =
            Terms { connections_max: files::connections_max(), head_within: Some(HEAD_WITHIN), drain };
        let cut_off = listen::serve(listener, router, terms, shutdown).await;
        if cut_off != 0 {
            tracing::warn!(cut_off, "connections closed with requests open");
        }
    }

    /// Unloads everything; requests are over by now.
    async fn close(&self) {
        self.gateway.fleet.close(Instant::now() + SLOTS_END_WITHIN / 2).await;
    }
}

async fn exposition(
    State((gateway, metrics)): State<(Arc<Gateway>, Arc<Metrics>)>,
) -> Result<Response, Failure> {
    let text = metrics.render(&gateway.fleet.readings())?;
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

/// A folder only this user can look into.
fn private_folder() -> Result<TempDir> {
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
struct WorkDir {
    dir: PathBuf,
    _lock: File,
}

impl WorkDir {
    fn take(dir: &Path) -> Result<Self> {
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
    fn sweep(&self, kept: &BTreeSet<String>) -> Result<()> {
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
