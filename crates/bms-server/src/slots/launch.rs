//! How slot processes are started.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bms_bundle::seal::DataKey;
use bms_bundle::{Bundle, Policy};
use bms_kernels::Isa;
use bms_nn::onnx::RuntimeChoice;
use bms_registry::Registry;
use bms_sandbox::Watch;
use bms_wire::{Code, Error, Result, limits};
use tokio::process::{Child, Command};
use tokio::sync::Notify;

use super::Place;
use super::placed::Elsewhere;
use crate::engines::Engines;
use crate::metrics::Metrics;
use crate::policy::SharedPolicy;

/// Bytes a Unix socket's path may have (108 on Linux, with its terminator).
const SOCKET_PATH_BYTES_MAX: usize = 100;

/// Variables a slot's process gets from its parent's environment. Everything else, secrets above all,
/// stays out of the reach of what a model may do there.
const ENVIRONMENT: [&str; 9] = [
    "BMS_LOG",
    "BMS_ONNXRUNTIME",
    "HOME",
    "LD_LIBRARY_PATH",
    "PATH",
    "RUST_BACKTRACE",
    "RUST_LOG",
    "TMPDIR",
    "VIRTUAL_ENV",
];

/// How slots run language models. What is absent the engine chooses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LanguageLaunch {
    /// Tokens of one conversation, prompt and answer together; passed on as `--context`.
    pub context: Option<usize>,
    /// How keys and values are kept; passed on as `--kv-cache`.
    pub kv_cache: Option<KvCache>,
    /// Answers computed at once; passed on as `--sequences`.
    pub sequences: Option<usize>,
    /// Requests that wait before others are refused; passed on as `--queue`.
    pub queue: Option<usize>,
    /// Mebibytes of the cache of keys and values; passed on as `--kv-memory`.
    pub kv_memory: Option<u64>,
    /// A folder adapters may be loaded from, besides the bundle's; passed on as `--adapters`.
    pub adapters: Option<PathBuf>,
    /// A small model of the same vocabulary that drafts what the large one checks; passed on as `--draft`.
    pub draft: Option<PathBuf>,
    /// The instruction set of its kernels; passed on as `--isa`.
    pub isa: Option<Isa>,
    /// Percent of its time that the engine looks for flipped bits in the weights, 0 for none; passed on as
    /// `--audit-share`.
    pub audit_share: Option<f64>,
}

/// How the keys and values of a conversation are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvCache {
    /// As 16-bit floating point numbers.
    F16,
    /// In eight bits: half the memory, for a little precision.
    Q8,
}

impl KvCache {
    /// The kind with this name.
    pub fn parse(name: &str) -> Option<KvCache> {
        match name {
            "f16" => Some(KvCache::F16),
            "q8" => Some(KvCache::Q8),
            _ => None,
        }
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            KvCache::F16 => "f16",
            KvCache::Q8 => "q8",
        }
    }
}

impl LanguageLaunch {
    fn args(&self) -> Vec<OsString> {
        let mut args = Vec::new();
        let mut option = |name: &str, value: Option<OsString>| {
            args.extend(value.into_iter().flat_map(|value| [name.into(), value]));
        };
        option("--context", self.context.map(|n| n.to_string().into()));
        option("--kv-cache", self.kv_cache.map(|kind| kind.as_str().into()));
        option("--sequences", self.sequences.map(|n| n.to_string().into()));
        option("--queue", self.queue.map(|n| n.to_string().into()));
        option("--kv-memory", self.kv_memory.map(|n| n.to_string().into()));
        option("--adapters", self.adapters.as_ref().map(|folder| folder.clone().into()));
        option("--draft", self.draft.as_ref().map(|model| model.clone().into()));
        option("--isa", self.isa.map(|isa| isa.as_str().into()));
        option("--audit-share", self.audit_share.map(|percent| percent.to_string().into()));
        args
    }
}

/// How slot processes are started and how long they are waited for.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program, normally the running one itself.
    pub program: PathBuf,
    /// What comes before the arguments every slot gets (`--bundle DIR --socket PATH --policy FILE
    /// --runtime NAME`, and the options that are set), normally the name of the command.
    pub args: Vec<OsString>,
    /// The same for the process that keeps an external engine, whose command follows.
    pub keeper_args: Vec<OsString>,
    /// The external engines there are.
    pub engines: Engines,
    /// The process's whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// What executes the graphs; passed on as `--runtime`.
    pub runtime: RuntimeChoice,
    /// Threads of one run; passed on as `--threads`. Without it a graph gets one, a language model all processors.
    pub threads: Option<usize>,
    /// How language models run.
    pub language: LanguageLaunch,
    /// How long a process may take from its start until it is ready.
    pub start_within: Duration,
    /// How long a process may hold a request without an answer, a step of its engine or processor time.
    pub hung_after: Duration,
}

impl Launch {
    /// Slots as `program slot …`, with the harmless part of `environment`.
    pub fn new(program: PathBuf, environment: impl Iterator<Item = (OsString, OsString)>) -> Self {
        let known = |name: &OsString| ENVIRONMENT.iter().any(|known| name == known);
        Launch {
            program,
            args: vec!["slot".into()],
            keeper_args: vec!["keep-engine".into(), "--".into()],
            engines: Engines::default(),
            environment: environment.filter(|(name, _)| known(name)).collect(),
            runtime: RuntimeChoice::Auto,
            threads: None,
            language: LanguageLaunch::default(),
            start_within: Duration::from_secs(300),
            hung_after: Duration::from_millis(limits::SLOT_HUNG_MS),
        }
    }
}

/// Starts the processes of one server.
#[derive(Debug)]
pub(crate) struct Launcher {
    pub(crate) launch: Launch,
    /// The folder of the sockets; readable by this user only.
    run_dir: PathBuf,
    /// The trust policy every slot checks its bundle against.
    policy: PathBuf,
    /// The same with the keys of sealed bundles, which no slot gets: only the one of its own model.
    keys: SharedPolicy,
    pub(crate) metrics: Arc<Metrics>,
    /// Whose audit log hears of what slots try; without one the program's log does alone.
    pub(crate) auditor: Option<Registry>,
    /// Rung whenever a slot's condition changes.
    pub(crate) changed: Arc<Notify>,
    sockets: AtomicU64,
    /// What is known of slots on workers, where there may be any.
    pub(crate) elsewhere: Option<Elsewhere>,
}

impl Launcher {
    pub(crate) fn new(
        launch: Launch,
        run_dir: PathBuf,
        (policy, keys): (PathBuf, SharedPolicy),
        metrics: Arc<Metrics>,
        auditor: Option<Registry>,
        changed: Arc<Notify>,
    ) -> Result<Self> {
        // What this program was given by whoever started it is not for the slots.
        bms_sandbox::keep_files_from_children();
        let sockets = AtomicU64::new(0);
        let elsewhere = None;
        let launcher =
            Launcher { launch, run_dir, policy, keys, metrics, auditor, changed, sockets, elsewhere };
        let longest = launcher.run_dir.join(format!("{}.sock", u64::MAX));
        if SOCKET_PATH_BYTES_MAX < longest.as_os_str().len() {
            let what = format!("`{}` is too long for the path of a Unix socket", longest.display());
            return Err(
                Error::new(Code::InvalidRequest, what).hint("Point TMPDIR at a folder with a shorter name.")
            );
        }
        Ok(launcher)
    }

    /// A number no other slot has.
    pub(crate) fn fresh_number(&self) -> u64 {
        self.sockets.fetch_add(1, Ordering::Relaxed)
    }

    /// A socket path no process has used before.
    pub(crate) fn fresh_socket(&self) -> PathBuf {
        let number = self.sockets.fetch_add(1, Ordering::Relaxed);
        self.run_dir.join(format!("{number}.sock"))
    }

    /// Bytes for keys and values of a language model, when the operator says how many.
    pub(crate) fn kv_bytes(&self) -> Option<u64> {
        self.launch.language.kv_memory.map(|mib| mib.saturating_mul(1 << 20))
    }

    /// The trust policy that counts now.
    pub(crate) fn policy_now(&self) -> Arc<Policy> {
        self.keys.now()
    }

    /// The key a slot needs for the model that lies there, if it is sealed. May ask a service.
    pub(crate) async fn data_key(&self, model: &Place) -> Result<Option<DataKey>> {
        let Place::Bundle(folder) = model else { return Ok(None) };
        let (folder, keys) = (folder.clone(), self.keys.now());
        tokio::task::spawn_blocking(move || keys.data_key(&Bundle::open(&folder)?))
            .await
            .map_err(|e| Error::new(Code::Internal, "the search for a key broke").because(e))?
    }

    /// Starts a process for `model`, which reads its key from its standard input when it is `sealed`, with as many threads
    /// as the slot is to have or all of them usually have. It ends when its standard input closes, that is at the latest
    /// when this program does, however that comes about. Its standard input is a socket to its watcher.
    pub(crate) fn spawn(
        &self,
        model: &Place,
        socket: &Path,
        sealed: bool,
        threads: Option<usize>,
    ) -> Result<(Child, Watch)> {
        let launch = &self.launch;
        let mut command = Command::new(&launch.program);
        command.args(&launch.args);
        match model {
            Place::Bundle(folder) => command.arg("--bundle").arg(folder),
            Place::Bare { path, name } => command.arg("--bare").arg(path).arg("--name").arg(name),
        };
        command.arg("--socket").arg(socket);
        command.arg("--policy").arg(&self.policy);
        command.arg("--runtime").arg(match launch.runtime {
            RuntimeChoice::Auto => "auto",
            RuntimeChoice::Fixed(kind) => kind.as_str(),
        });
        if let Some(threads) = threads.or(launch.threads) {
            command.arg("--threads").arg(threads.to_string());
        }
        if sealed {
            command.arg("--sealed");
        }
        command.arg("--watched").args(launch.language.args());
        command.env_clear().envs(launch.environment.iter().map(|(name, value)| (name, value)));
        let (watch, stdin) = Watch::pair().map_err(|e| Error::io("start a slot with", &launch.program, e))?;
        // What it says goes through this program: a file that it could write to is out of its reach.
        command.stdin(Stdio::from(stdin)).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Its own process group: an interrupt from the terminal reaches the server alone, which then
        // lets open requests finish before it ends its slots.
        command.process_group(0).kill_on_drop(true);
        let child = command.spawn().map_err(|e| Error::io("start a slot with", &launch.program, e))?;
        Ok((child, watch))
    }
}
