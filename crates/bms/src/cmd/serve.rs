//! `bms up`, `bms serve` and the slot process they start.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use bms_nn::onnx::RuntimeChoice;
use bms_registry::Registry;
use bms_server::{Launch, Settings};
use bms_wire::client::Client;
use bms_wire::{Code, Error, Result};
use clap::Args;
use serde_json::json;
use tokio::net::TcpListener;

use crate::home::{Home, PolicyOption};
use crate::output::Output;

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
    /// Threads one run of a graph may use.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) threads: usize,
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
    #[command(flatten)]
    policy: PolicyOption,
    #[command(flatten)]
    runtime: RuntimeOptions,
    #[command(flatten)]
    listen: ListenOptions,
}

impl Up {
    pub(crate) fn run(self, home: &Home, output: &Output) -> Result<()> {
        let data = match self.data {
            Some(data) => data,
            None => home.server_dir()?,
        };
        let policy = self.policy.load(home)?;
        let settings = Settings::new(launch(&self.runtime)?, data.join("loaded"));
        run_until_told(&self.listen, output, |listener, shutdown| async move {
            let registry = Registry::open(&data).await?;
            bms_server::run(settings, registry, policy, listener, shutdown).await
        })
    }
}

/// Options of `bms serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The bundle's folder.
    bundle: PathBuf,
    #[command(flatten)]
    policy: PolicyOption,
    #[command(flatten)]
    runtime: RuntimeOptions,
    #[command(flatten)]
    listen: ListenOptions,
}

impl Serve {
    pub(crate) fn run(self, home: &Home, output: &Output) -> Result<()> {
        let policy = self.policy.load(home)?;
        let work_dir = home.dir()?.join("serve");
        let settings = Settings::new(launch(&self.runtime)?, work_dir);
        let bundle = self.bundle;
        run_until_told(&self.listen, output, |listener, shutdown| async move {
            bms_server::serve_one(settings, &bundle, policy, listener, shutdown).await
        })
    }
}

/// Options of the slot process.
#[derive(Debug, Args)]
pub(crate) struct Slot {
    /// The bundle's folder.
    #[arg(long)]
    bundle: PathBuf,
    /// The Unix socket to answer on.
    #[arg(long)]
    socket: PathBuf,
    /// The trust policy.
    #[arg(long)]
    policy: PathBuf,
    #[command(flatten)]
    runtime: RuntimeOptions,
}

/// Slots are this very program.
fn launch(options: &RuntimeOptions) -> Result<Launch> {
    let program = std::env::current_exe()
        .map_err(|e| Error::new(Code::Internal, format!("failed to find this program's own file: {e}")))?;
    let mut launch = Launch::new(program, std::env::vars_os());
    launch.runtime = options.runtime;
    launch.threads = options.threads;
    Ok(launch)
}

/// Listens, says where, and serves until a signal (or, when asked, the end of standard input) says stop.
pub(crate) fn run_until_told<F, S>(options: &ListenOptions, output: &Output, serve: F) -> Result<()>
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
        let url = format!("http://{address}");
        tokio::select! {
            ended = serve(listener, Box::pin(shutdown)) => ended,
            never = announce(url, *output) => never,
        }
    })
}

/// Says where the server listens once it answers there, which a refused bundle or address never does.
async fn announce(url: String, output: Output) -> Result<()> {
    let client = Client::new(&url)?;
    loop {
        let probe = client.clone();
        if tokio::task::spawn_blocking(move || probe.is_live()).await.unwrap_or(false) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    output.event("ready", format_args!("listening on {url} (Ctrl-C ends it)"), json!({"url": url}));
    std::future::pending().await
}

fn cannot_listen(address: SocketAddr, error: std::io::Error) -> Error {
    let hint = match error.kind() {
        std::io::ErrorKind::AddrInUse => "Another program listens there; choose another with --listen.",
        _ => "Choose another address with --listen.",
    };
    Error::new(Code::Unavailable, format!("failed to listen on {address}: {error}")).hint(hint).because(error)
}

/// Done when SIGINT or SIGTERM arrives, or standard input closes.
fn told_to_stop(until_stdin_closes: bool) -> Result<impl Future<Output = ()> + Send> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| {
        signal(kind)
            .map_err(|e| Error::new(Code::Internal, format!("failed to watch for signals: {e}")).because(e))
    };
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    Ok(async move {
        let stdin_closed = async {
            if until_stdin_closes {
                // Whatever comes is ignored; only the end matters, and a broken pipe is an end too.
                let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = stdin_closed => {}
        }
    })
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

/// Log lines on standard error; `BMS_LOG` chooses what, e.g. `info` or `bms_server=debug`.
fn init_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("BMS_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    // A second call in one process changes nothing, which is what is wanted.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}

impl Slot {
    pub(crate) fn run(self) -> Result<()> {
        init_log();
        bms_server::slot::run(bms_server::slot::Options {
            bundle: self.bundle,
            socket: self.socket,
            policy: self.policy,
            runtime: self.runtime.runtime,
            threads: self.runtime.threads,
        })
    }
}
