//! `bms up`, `bms serve` and the slot process they start.

use std::ffi::OsString;
use std::future::Future;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use bms_engine::lm::AUDIT_SHARE_MAX;
use bms_kernels::Isa;
use bms_nn::onnx::RuntimeChoice;
use bms_registry::{DatabaseUrl, Registry};
use bms_server::{
    CacheSettings, Care, Engines, KeySettings, KeysMode, KvCache, LanguageLaunch, Launch, Nodes, Place,
    Settings,
};
use bms_store::Location;
use bms_wire::{Code, Error, Result};
use clap::Args;
use serde_json::json;
use tokio::net::TcpListener;

use crate::cmd::first_keys;
use crate::cmd::store::replica;
use crate::home::{Home, PolicyOption};
use crate::model;
use crate::output::Output;
use crate::tls::{Probe, TlsOptions};
use crate::unit;
use crate::wake::WakeOptions;

/// The longest time between two rounds over the store.
const YEAR_SECONDS: u64 = 366 * 24 * 3600;

/// Where a server listens and when it ends.
#[derive(Debug, Args)]
pub(crate) struct ListenOptions {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// End when standard input closes, that is when the starting process ends.
    #[arg(long, hide = true)]
    pub(crate) until_stdin_closes: bool,
}

/// How graphs are executed.
#[derive(Debug, Args)]
pub(crate) struct RuntimeOptions {
    /// Run-time for ONNX graphs: `auto` measures and takes the faster, or `rten`, `onnxruntime`.
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = runtime)]
    pub(crate) runtime: RuntimeChoice,
    /// Threads one run of a model may use [default: 1 for a graph, all processors for a language model].
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
}

impl RuntimeOptions {
    /// Threads of one run of a graph.
    pub(crate) fn graph_threads(&self) -> usize {
        self.threads.unwrap_or(1).max(1)
    }
}

/// How language models run.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct LanguageRunOptions {
    /// Tokens of one conversation, prompt and answer together [default: what the model was made for].
    #[arg(long, value_name = "TOKENS")]
    context: Option<usize>,
    /// How keys and values of conversations are kept: f16, or q8 in half the memory [default: f16].
    #[arg(long, value_name = "KIND", value_parser = kv_cache)]
    kv_cache: Option<KvCache>,
    /// Memory for keys and values, in MiB [default: what the context needs, or a share of the machine's].
    #[arg(long, value_name = "MIB")]
    kv_memory: Option<u64>,
    /// Answers computed at once.
    #[arg(long, visible_alias = "parallel", value_name = "N")]
    sequences: Option<usize>,
    /// Requests that may wait; one more is refused with status 429.
    #[arg(long, value_name = "N")]
    queue: Option<usize>,
    /// A folder from which requests may have LoRA adapters loaded.
    #[arg(long, value_name = "DIR")]
    adapters: Option<PathBuf>,
    /// A small model of the same vocabulary, as a bundle, GGUF file or folder, that drafts tokens for the large one to
    /// check: the same answers, sooner.
    #[arg(long, value_name = "MODEL")]
    draft: Option<PathBuf>,
    /// Instruction set, such as `avx2` or `neon`; `scalar` is the plain one [default: the best this machine has].
    #[arg(long, value_name = "NAME", value_parser = isa)]
    isa: Option<Isa>,
    /// Percent of the time in which a loaded model's weights are looked at for flipped bits, which are put back from its
    /// files; 0 turns it off [default: 1].
    #[arg(long, value_name = "PERCENT", value_parser = audit_share)]
    audit_share: Option<f64>,
}

impl LanguageRunOptions {
    /// As slots get them.
    pub(crate) fn launch(&self) -> LanguageLaunch {
        LanguageLaunch {
            context: self.context,
            kv_cache: self.kv_cache,
            sequences: self.sequences,
            queue: self.queue,
            kv_memory: self.kv_memory,
            adapters: self.adapters.clone(),
            draft: self.draft.clone(),
            isa: self.isa,
            audit_share: self.audit_share,
        }
    }
}

fn audit_share(percent: &str) -> std::result::Result<f64, String> {
    let most = 100.0 * AUDIT_SHARE_MAX;
    let number = percent.strip_suffix('%').unwrap_or(percent).parse::<f64>().ok();
    number.filter(|number| (0.0..=most).contains(number)).ok_or_else(|| format!("expected 0 to {most}"))
}

pub(crate) fn kv_cache(name: &str) -> std::result::Result<KvCache, String> {
    KvCache::parse(name).ok_or_else(|| "expected f16 or q8".to_owned())
}

pub(crate) fn isa(name: &str) -> std::result::Result<Isa, String> {
    let names = || Isa::available().iter().map(|isa| isa.as_str()).collect::<Vec<_>>().join(", ");
    Isa::parse(name).filter(|isa| isa.is_available()).ok_or_else(|| format!("this machine has {}", names()))
}

/// Hours, or a number with its unit.
fn interval(text: &str) -> std::result::Result<Duration, String> {
    let seconds = unit::whole(text, &unit::TIMES[..3], 3600).filter(|seconds| *seconds <= YEAR_SECONDS);
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| "expected hours, or a time such as 90m or 30s, up to a year".to_owned())
}

fn keys_mode(name: &str) -> std::result::Result<KeysMode, String> {
    match name {
        "off" => Ok(KeysMode::Off),
        "optional" => Ok(KeysMode::Optional),
        "required" => Ok(KeysMode::Required),
        _ => Err("expected off, optional or required".to_owned()),
    }
}

fn runtime(name: &str) -> std::result::Result<RuntimeChoice, String> {
    RuntimeChoice::parse(name).ok_or_else(|| "expected auto, rten or onnxruntime".to_owned())
}

/// Options of `bms up`.
#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Where the registry, the store and the quarantine lie [default: the home folder's `server`].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// A PostgreSQL database for names and facts, as `postgres://USER@HOST/DATABASE`: several servers may share it
    /// [default: an SQLite file among the data].
    #[arg(long, env = "BMS_DATABASE", hide_env_values = true, value_name = "URL")]
    database: Option<String>,
    /// Where the files of models lie: a folder, file:///folder, or s3://bucket/prefix with AWS_ENDPOINT_URL and keys in the
    /// environment [default: `store` in the registry's folder].
    #[arg(long, env = "BMS_STORE", value_name = "URL")]
    store: Option<String>,
    /// Whether requests need a key: off, optional (one that is sent counts) or required [default: required once there is a
    /// key, and wherever other machines reach the server].
    #[arg(long, value_name = "MODE", value_parser = keys_mode)]
    keys: Option<KeysMode>,
    /// Listen where other machines reach the server although nothing is encrypted, e.g. behind a proxy that does; every
    /// request needs a key then.
    #[arg(long, conflicts_with = "tls_cert")]
    plain_http: bool,
    /// A folder of keys that shall exist, each in a file NAME.ROLE such as `root.admin`: they are made when the server starts, and
    /// none has to be shown. Another secret in a file replaces the key; one that was revoked stays so. The secret in NAME.monitor
    /// reads /metrics and nothing else.
    #[arg(long, value_name = "DIR")]
    keys_from: Option<PathBuf>,
    /// Let everybody read /metrics, without a key.
    #[arg(long)]
    metrics_open: bool,
    /// Time between two rounds in which all of the store is read, to find what rotted: hours, or with a unit such as `90m` or
    /// `30s`; 0 for never.
    #[arg(long, value_name = "TIME", default_value = "24", value_parser = interval)]
    scrub_every: Duration,
    /// Megabytes of the store read in a second at most, by these rounds; 0 for as fast as it goes.
    #[arg(long, value_name = "MB", default_value_t = 50)]
    scrub_rate: u64,
    /// Another store, from which these rounds repair what rotted.
    #[arg(long, value_name = "URL")]
    scrub_from: Option<String>,
    /// Memory for answers that equal requests get again, such as `256MiB`: of inference, and of language models where nothing is left to chance [default: none are kept].
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    cache_memory: Option<u64>,
    /// Seconds an answer is kept.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, requires = "cache_memory", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    cache_seconds: u64,
    /// A model whose answers are kept; may be given several times [default: all].
    #[arg(long, value_name = "MODEL", requires = "cache_memory")]
    cache_model: Vec<String>,
    /// A file of engines: programs and servers of other projects that run models, see the guide.
    #[arg(long, env = "BMS_ENGINES", value_name = "FILE")]
    engines: Option<PathBuf>,
    /// Address on which workers join, by TLS of their own; port 0 takes a free one. Without it there are none.
    #[arg(long, value_name = "ADDRESS")]
    nodes_listen: Option<SocketAddr>,
    /// HOST:PORT by which workers reach that [default: the address it listens on].
    #[arg(long, value_name = "HOST:PORT", requires = "nodes_listen")]
    nodes_address: Option<String>,
    /// Memory all slots may take together, such as `12GiB`; `0` for no bound. A slot beyond is not started: models that
    /// nobody asks go first where they may [default: four fifths of what the machine or its control group has left]. Where workers may join, each says how much it has.
    #[arg(long, value_name = "SIZE", value_parser = memory, conflicts_with = "nodes_listen")]
    memory: Option<u64>,
    #[command(flatten)]
    policy: PolicyOption,
    #[command(flatten)]
    runtime: RuntimeOptions,
    #[command(flatten)]
    language: LanguageRunOptions,
    #[command(flatten)]
    tls: TlsOptions,
    #[command(flatten)]
    wake: WakeOptions,
    #[command(flatten)]
    listen: ListenOptions,
}

/// Bytes with a unit.
fn memory(text: &str) -> std::result::Result<u64, String> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let factor: f64 = match unit.trim() {
        "" | "B" => 1.0,
        "MB" | "M" => 1e6,
        "GB" | "G" => 1e9,
        "MiB" => f64::from(1 << 20),
        "GiB" => f64::from(1 << 30),
        "TiB" => f64::from(1 << 20) * f64::from(1 << 20),
        _ => return Err("expected a size such as 12GiB, 800MiB or 16GB".to_owned()),
    };
    let number = number.parse::<f64>().map_err(|_| "expected a size such as 12GiB".to_owned())?;
    Ok((number * factor) as u64)
}

impl Up {
    pub(crate) fn run(self, home: &Home, output: &Output) -> Result<()> {
        let data = match self.data {
            Some(data) => data,
            None => home.server_dir()?,
        };
        let database: Option<DatabaseUrl> = self.database.as_deref().map(str::parse).transpose()?;
        let _awake = self.wake.hold(*output)?;
        let policy = self.policy.load(home)?;
        let audit_key = home.audit_key()?;
        let mut settings = Settings::new(launch(&self.runtime, &self.language)?, data.join("loaded"));
        let given = self.keys_from.as_deref().map(first_keys::Given::read).transpose()?;
        let monitors = given.as_ref().map(|given| given.monitors.clone()).unwrap_or_default();
        settings.tls = self.tls.load()?;
        settings.keys = KeySettings {
            mode: self.keys,
            plain_http: self.plain_http,
            encrypted: settings.tls.is_some(),
            metrics_open: self.metrics_open,
            monitors,
        };
        settings.policy_file = Some(self.policy.file(home)?);
        if let Some(file) = &self.engines {
            settings.launch.engines = Engines::load(file)?;
        }
        if let Some(listen) = self.nodes_listen {
            let nodes = Nodes::new(listen, home.dir()?.join("nodes-ca"));
            settings.nodes = Some(Nodes { address: self.nodes_address, ..nodes });
        }
        settings.cache = self.cache_memory.filter(|bytes| *bytes != 0).map(|memory| CacheSettings {
            memory,
            age: Duration::from_secs(self.cache_seconds),
            models: self.cache_model.clone(),
        });
        // Where workers may join, each says how much it has, and placement keeps within it.
        let usual = || bms_server::usual_memory().filter(|_| self.nodes_listen.is_none());
        settings.memory = self.memory.or_else(usual).filter(|bytes| *bytes != 0);
        let store = self.store.as_deref().map(Location::parse).transpose()?;
        let (every, rate, from) = (self.scrub_every, self.scrub_rate, self.scrub_from);
        if every.is_zero() && from.is_some() {
            return Err(Error::new(
                Code::InvalidRequest,
                "`--scrub-from` has no effect with `--scrub-every 0`",
            )
            .hint("Leave one of them out."));
        }
        run_until_told_by(self.tls.scheme(), &self.listen, output, |listener, shutdown| async move {
            let registry = Registry::open_with(&data, store.as_ref(), database.as_ref()).await?;
            registry.anchor_audit(audit_key).await?;
            first_keys::settle(&registry, &settings.keys, given.as_ref(), &listener, output).await?;
            if !every.is_zero() {
                let replica = match &from {
                    Some(url) => Some(replica(url).await?),
                    None => None,
                };
                settings.care =
                    Some(Care { every, bytes_per_second: rate.saturating_mul(1_000_000), replica });
            }
            bms_server::run(settings, registry, policy, listener, shutdown).await
        })
    }
}

/// Options of `bms serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The model: a bundle's folder, a GGUF file, or a folder with `config.json` and safetensors. The latter two are
    /// served where they lie; they carry no signature, so the policy decides. Also hf://OWNER/NAME and other sources of
    /// `bms pull`, which are pulled to the home folder first.
    model: PathBuf,
    /// What requests call a model that is no bundle [default: after its file or folder].
    #[arg(long)]
    name: Option<String>,
    /// A file of engines: programs of other projects that run models, see the guide.
    #[arg(long, value_name = "FILE", requires = "engine")]
    engines: Option<PathBuf>,
    /// The engine of that file that runs the model; without it this program does.
    #[arg(long, value_name = "NAME", requires = "engines")]
    engine: Option<String>,
    #[command(flatten)]
    policy: PolicyOption,
    #[command(flatten)]
    runtime: RuntimeOptions,
    #[command(flatten)]
    language: LanguageRunOptions,
    #[command(flatten)]
    tls: TlsOptions,
    #[command(flatten)]
    wake: WakeOptions,
    #[command(flatten)]
    listen: ListenOptions,
}

impl Serve {
    pub(crate) fn run(self, home: &Home, output: &Output) -> Result<()> {
        let _awake = self.wake.hold(*output)?;
        let policy = self.policy.load(home)?;
        let work_dir = home.dir()?.join("serve");
        let mut settings = Settings::new(launch(&self.runtime, &self.language)?, work_dir);
        if let (Some(file), Some(engine)) = (&self.engines, &self.engine) {
            settings.launch.engines = Engines::load(file)?;
            settings.engine = Some(engine.clone());
        }
        settings.tls = self.tls.load()?;
        let model = crate::sources::local(&self.model, home, output)?;
        let place = model::place(&model, self.name.as_deref())?;
        if let Place::Bare { .. } = place {
            model::warn_unsigned(&model, output);
        }
        run_until_told_by(self.tls.scheme(), &self.listen, output, |listener, shutdown| async move {
            bms_server::serve_one(settings, place, policy, listener, shutdown).await
        })
    }
}

/// Options of the slot process.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("where").required(true).args(["bundle", "bare"])))]
pub(crate) struct Slot {
    /// The bundle's folder.
    #[arg(long)]
    bundle: Option<PathBuf>,
    /// A model that is no bundle.
    #[arg(long, requires = "name")]
    bare: Option<PathBuf>,
    /// What requests call it.
    #[arg(long, requires = "bare")]
    name: Option<String>,
    /// The Unix socket to answer on.
    #[arg(long)]
    socket: PathBuf,
    /// The trust policy.
    #[arg(long)]
    policy: PathBuf,
    /// The first line of standard input is the model's key.
    #[arg(long)]
    sealed: bool,
    /// Standard input is a socket to the watcher of this process.
    #[arg(long)]
    watched: bool,
    #[command(flatten)]
    runtime: RuntimeOptions,
    #[command(flatten)]
    language: LanguageRunOptions,
}

/// Options of the process that keeps an external engine.
#[derive(Debug, Args)]
pub(crate) struct KeepEngine {
    /// The engine's program and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

impl KeepEngine {
    pub(crate) fn run(self) -> Result<()> {
        bms_server::keeper::run(&self.command)
    }
}

/// Slots are this very program.
pub(crate) fn launch(options: &RuntimeOptions, language: &LanguageRunOptions) -> Result<Launch> {
    let program = std::env::current_exe()
        .map_err(|e| Error::new(Code::Internal, format!("failed to find this program's own file: {e}")))?;
    let mut launch = Launch::new(program, std::env::vars_os());
    launch.runtime = options.runtime;
    launch.threads = options.threads;
    launch.language = language.launch();
    Ok(launch)
}

/// Listens by plain HTTP, says where, and serves until a signal (or, when asked, the end of standard input) says stop.
pub(crate) fn run_until_told<F, S>(options: &ListenOptions, output: &Output, serve: F) -> Result<()>
where
    F: FnOnce(TcpListener, Pin<Box<dyn Future<Output = ()> + Send>>) -> S,
    S: Future<Output = Result<()>>,
{
    run_until_told_by("http", options, output, serve)
}

/// As [`run_until_told`], by `http` or `https`.
fn run_until_told_by<F, S>(
    scheme: &'static str,
    options: &ListenOptions,
    output: &Output,
    serve: F,
) -> Result<()>
where
    F: FnOnce(TcpListener, Pin<Box<dyn Future<Output = ()> + Send>>) -> S,
    S: Future<Output = Result<()>>,
{
    init_log();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::new(Code::Internal, format!("failed to start the runtime: {e}")).because(e))?;
    runtime.block_on(async {
        let listener =
            TcpListener::bind(options.listen).await.map_err(|e| cannot_listen(options.listen, e))?;
        let address = listener.local_addr().map_err(|e| cannot_listen(options.listen, e))?;
        let shutdown = told_to_stop(options.until_stdin_closes)?;
        let url = format!("{scheme}://{address}");
        tokio::select! {
            ended = serve(listener, Box::pin(shutdown)) => ended,
            never = announce(url, *output) => never,
        }
    })
}

/// Says where the server listens once it answers there, which a refused bundle or address never does.
async fn announce(url: String, output: Output) -> Result<()> {
    let probe = Probe::new(&url)?;
    loop {
        let probe = probe.clone();
        if tokio::task::spawn_blocking(move || probe.is_live()).await.unwrap_or(false) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    output.event("ready", format_args!("listening on {url} (Ctrl-C ends it)"), json!({"url": url}));
    std::future::pending().await
}

pub(crate) fn cannot_listen(address: SocketAddr, error: std::io::Error) -> Error {
    let hint = match error.kind() {
        std::io::ErrorKind::AddrInUse => "Another program listens there; choose another with --listen.",
        _ => "Choose another address with --listen.",
    };
    Error::new(Code::Unavailable, format!("failed to listen on {address}: {error}")).hint(hint).because(error)
}

/// Done when SIGINT or SIGTERM arrives, or standard input closes.
pub(crate) fn told_to_stop(until_stdin_closes: bool) -> Result<impl Future<Output = ()> + Send> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| {
        signal(kind)
            .map_err(|e| Error::new(Code::Internal, format!("failed to watch for signals: {e}")).because(e))
    };
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let mut stdin_closed = until_stdin_closes.then(stdin_closes).transpose()?;
    Ok(async move {
        let closed = async {
            match &mut stdin_closed {
                // The thread says so once; that it went without a word means the same.
                Some(closed) => drop(closed.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = closed => {}
        }
    })
}

/// Done when standard input closes. A thread of its own reads it: the runtime, which waits for reads of its own before it
/// ends, would not end on a signal as long as whoever started this program keeps the pipe open.
fn stdin_closes() -> Result<tokio::sync::oneshot::Receiver<()>> {
    let (tell, told) = tokio::sync::oneshot::channel();
    let read = move || {
        // Whatever comes is ignored; only the end matters, and a broken pipe is an end too.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = tell.send(());
    };
    let thread = std::thread::Builder::new().name("stdin".to_owned()).spawn(read);
    thread.map(|_| told).map_err(|e| Error::new(Code::Internal, "failed to start a thread").because(e))
}

/// Waits for a signal, or until `over` says so. What the caller holds is then dropped in order.
pub(crate) fn wait_until_told(mut over: impl FnMut() -> bool) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::new(Code::Internal, format!("failed to start the runtime: {e}")).because(e))?;
    runtime.block_on(async {
        let mut told = std::pin::pin!(told_to_stop(false)?);
        while !over() {
            let pause = tokio::time::sleep(Duration::from_millis(200));
            tokio::select! {
                () = &mut told => break,
                () = pause => {}
            }
        }
        Ok(())
    })
}

/// Log lines on standard error, coloured on a terminal; `BMS_LOG` chooses what, e.g. `info` or `bms_server=debug`.
pub(crate) fn init_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("BMS_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second call in one process changes nothing, which is what is wanted.
    let _ = log.with_ansi(!plain && std::io::stderr().is_terminal()).try_init();
}

impl Slot {
    pub(crate) fn run(self) -> Result<()> {
        init_log();
        let place = match (self.bundle, self.bare, self.name) {
            (Some(folder), None, _) => Place::Bundle(folder),
            (None, Some(path), Some(name)) => Place::Bare { path, name },
            _ => return Err(Error::new(Code::InvalidRequest, "one of --bundle and --bare is needed")),
        };
        bms_server::slot::run(bms_server::slot::Options {
            place,
            socket: self.socket,
            policy: self.policy,
            sealed: self.sealed,
            runtime: self.runtime.runtime,
            threads: self.runtime.threads,
            language: self.language.launch(),
            watched: self.watched,
        })
    }
}
