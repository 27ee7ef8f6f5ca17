//! `bms node`: machines that run slots for a centre.

mod listing;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bms_server::JoinSettings;
use bms_wire::api::NewJoinToken;
use bms_wire::{Code, Error, Result};
use clap::{Args, Subcommand};
use serde_json::json;
use tokio::net::TcpListener;

use super::doctor::memory_bytes;
use super::lifecycle::PersonOption;
use super::serve::{LanguageRunOptions, RuntimeOptions, cannot_listen, init_log, launch, told_to_stop};
use crate::home::{Home, PolicyOption};
use crate::output::Output;
use crate::unit;
use crate::wake::WakeOptions;

/// The share of a machine's memory that slots may use when nothing else is said.
const MEMORY_SHARE: f64 = 0.8;

/// Options of `bms node`.
#[derive(Debug, Args)]
pub(crate) struct Node {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make tokens by which workers join.
    Token(TokenCommand),
    /// Work for a centre: run the slots it places here, until told to stop. Then its slots go over to others first.
    Join(Box<Join>),
    /// Show every worker: how it stands, its memory, its slots; and what no worker takes, with the reason.
    List(List),
    /// Have a worker's slots placed elsewhere; it leaves when they have gone over.
    Drain(Named),
    /// Take back that a worker shall leave: it takes slots again, if it has not left yet.
    Resume(Named),
    /// Take no more from a worker: its key and its certificates are worth nothing from now on.
    Revoke(Named),
}

#[derive(Debug, Args)]
struct TokenCommand {
    #[command(subcommand)]
    command: TokenVerb,
}

#[derive(Debug, Subcommand)]
enum TokenVerb {
    /// Print a token that lets workers in. It is shown this once.
    Create(CreateToken),
}

#[derive(Debug, Args)]
struct CreateToken {
    /// How many workers it lets in.
    #[arg(long, value_name = "N", default_value_t = 1)]
    uses: u64,
    /// How long it is good for, such as 30m, 1h or 7d.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = time)]
    expires: Duration,
    /// Labels of the workers it lets in, as NAME=VALUE,…; they go before what workers say of themselves.
    #[arg(long, value_name = "LABELS", value_delimiter = ',', value_parser = label)]
    labels: Vec<(String, String)>,
    #[command(flatten)]
    person: PersonOption,
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    person: PersonOption,
}

#[derive(Debug, Args)]
struct Named {
    /// The worker's name.
    name: String,
    #[command(flatten)]
    person: PersonOption,
}

/// Options of `bms node join`.
#[derive(Debug, Args)]
struct Join {
    /// The token of `bms node token create`; `@FILE` reads it from a file, `-` from standard input. Not needed by a worker
    /// that has joined before.
    #[arg(env = "BMS_JOIN_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Address on which the centre reaches this worker; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// HOST:PORT by which the centre reaches that [default: the address it listens on].
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<String>,
    /// The worker's name [default: the machine's].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Memory its slots may use, such as 8GiB or 500MiB [default: four fifths of the machine's].
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
    /// Processors its slots may use; each slot counts as one, or as many as `bms deploy --slot-cores` asks for
    /// [default: the machine's].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=65536))]
    cores: Option<u64>,
    /// What it says of itself, as NAME=VALUE,…
    #[arg(long, value_name = "LABELS", value_delimiter = ',', value_parser = label)]
    labels: Vec<(String, String)>,
    /// How long this machine is there, such as 3600s or 2h; it leaves before that is over.
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "until")]
    walltime: Option<Duration>,
    /// Until when this machine is there, as 2027-01-31T18:00:00Z or in seconds since 1970; it leaves before.
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    until: Option<SystemTime>,
    /// How long before that it begins to leave.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = time)]
    drain_margin: Duration,
    /// Where its key lies, and the copies of what it runs [default: the home folder's `worker`].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// End, as by a signal, when standard input closes.
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
    #[command(flatten)]
    policy: PolicyOption,
    #[command(flatten)]
    runtime: RuntimeOptions,
    #[command(flatten)]
    language: LanguageRunOptions,
    #[command(flatten)]
    wake: WakeOptions,
}

impl Node {
    pub(crate) fn run(self, home: &Home, output: &Output) -> Result<()> {
        match self.command {
            Command::Token(TokenCommand { command: TokenVerb::Create(create) }) => create.run(output),
            Command::Join(join) => join.run(home, output),
            Command::List(list) => list.run(output),
            Command::Drain(named) => {
                let worker = named.person.client()?.drain_worker(&named.name)?;
                output.result(format_args!("{} is {}", worker.name, worker.state.as_str()), &worker);
                Ok(())
            }
            Command::Resume(named) => {
                let worker = named.person.client()?.resume_worker(&named.name)?;
                output.result(format_args!("{} is {}", worker.name, worker.state.as_str()), &worker);
                Ok(())
            }
            Command::Revoke(named) => {
                let worker = named.person.client()?.revoke_worker(&named.name)?;
                output.result(format_args!("{} is revoked", worker.name), &worker);
                Ok(())
            }
        }
    }
}

impl CreateToken {
    fn run(self, output: &Output) -> Result<()> {
        let seconds = self.expires.as_secs();
        let new = NewJoinToken { uses: self.uses, seconds, labels: self.labels.into_iter().collect() };
        let token = self.person.client()?.create_join_token(&new)?;
        output.result(&token.token, &token);
        Ok(())
    }
}

impl List {
    fn run(self, output: &Output) -> Result<()> {
        let client = self.person.client()?;
        let workers = client.workers()?;
        let placements = match client.placements() {
            // A server of the version before does not tell, or takes it for something that only admins may ask.
            Err(error) if matches!(error.code(), Code::NotFound | Code::PermissionDenied) => Vec::new(),
            placements => placements?,
        };
        output.result(
            listing::described(&workers, &placements),
            &json!({ "workers": workers, "placements": placements }),
        );
        Ok(())
    }
}

impl Join {
    fn run(self, home: &Home, output: &Output) -> Result<()> {
        init_log();
        let _awake = self.wake.hold(*output)?;
        let data = match self.data {
            Some(data) => data,
            None => home.dir()?.join("worker"),
        };
        let settings = JoinSettings {
            name: self.name,
            usual_name: machine_name(),
            token: self.token.map(|token| read_token(&token)).transpose()?,
            address: self.address,
            data,
            memory_bytes: self.memory.unwrap_or_else(usual_memory),
            cores: self
                .cores
                .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get() as u64)),
            labels: self.labels.into_iter().collect::<BTreeMap<_, _>>(),
            until: self.until.or_else(|| self.walltime.map(|time| SystemTime::now() + time)),
            margin: self.drain_margin,
            launch: launch(&self.runtime, &self.language)?,
            policy: self.policy.load(home)?,
            policy_file: Some(self.policy.file(home)?),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| {
            Error::new(Code::Internal, format!("failed to start the runtime: {e}")).because(e)
        })?;
        let output = *output;
        runtime.block_on(async {
            let listener = TcpListener::bind(self.listen).await.map_err(|e| cannot_listen(self.listen, e))?;
            let shutdown = told_to_stop(self.until_stdin_closes)?;
            let at_once = told_twice()?;
            let joined = bms_server::join(settings, listener, shutdown, move |worker, address| {
                let told = format!("`{worker}` works on {address} (Ctrl-C lets it leave)");
                output.event("ready", told, json!({ "worker": worker, "address": address }));
            });
            tokio::select! {
                ended = joined => ended,
                told = at_once => {
                    told?;
                    let what = "the worker ended before its centre let it leave, as it was told twice";
                    Err(Error::new(Code::Unavailable, what)
                        .hint("The centre starts its slots elsewhere once it misses it."))
                }
            }
        })
    }
}

/// Done at the second signal to end: who has given one and does not want to wait, as for a centre that is away, gives another.
fn told_twice() -> Result<impl Future<Output = Result<()>>> {
    let once = told_to_stop(false)?;
    Ok(async move {
        once.await;
        told_to_stop(false)?.await;
        Ok(())
    })
}

/// The token itself, or what the file or standard input holds.
fn read_token(token: &str) -> Result<String> {
    let read = |from: &str| match from {
        "-" => std::io::read_to_string(std::io::stdin().lock()),
        file => std::fs::read_to_string(file),
    };
    match token.strip_prefix('@') {
        Some(file) => read(file).map_err(|e| Error::io("read", file.as_ref(), e)),
        None if token == "-" => read("-").map_err(|e| Error::io("read", "standard input".as_ref(), e)),
        None => Ok(token.to_owned()),
    }
}

/// The machine's name as a worker's.
fn machine_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_lowercase();
    let name: String =
        name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_')).collect();
    Some(name).filter(|name| name.starts_with(|c: char| c.is_ascii_alphanumeric()))
}

fn usual_memory() -> u64 {
    (memory_bytes().unwrap_or_default() as f64 * MEMORY_SHARE) as u64
}

/// A number of seconds, or one with its unit.
fn time(text: &str) -> std::result::Result<Duration, String> {
    let seconds = unit::whole(text, &unit::TIMES, 1);
    seconds
        .filter(|seconds| *seconds <= u64::from(u32::MAX))
        .map(Duration::from_secs)
        .ok_or_else(|| "expected a time such as 3600s, 90m or 2h".to_owned())
}

/// A number of bytes above zero, or one with its unit.
fn size(text: &str) -> std::result::Result<u64, String> {
    let bytes = unit::bytes(text)?;
    if bytes == 0 { Err("expected a size above zero, such as 8GiB".to_owned()) } else { Ok(bytes) }
}

fn label(text: &str) -> std::result::Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| "expected NAME=VALUE".to_owned())?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// A moment as RFC 3339 writes it in UTC, or in seconds since 1970.
fn moment(text: &str) -> std::result::Result<SystemTime, String> {
    let seconds = text.parse::<u64>().ok().or_else(|| utc_seconds(text));
    seconds
        .and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
        .ok_or_else(|| "expected 2027-01-31T18:00:00Z, or seconds since 1970".to_owned())
}

/// Whole seconds; a date alone, or a time of another place, is not meant.
fn utc_seconds(text: &str) -> Option<u64> {
    let is_meant = text.trim() == text && text.contains('T') && text.ends_with('Z') && !text.contains('.');
    let at_ms = is_meant.then(|| bms_bundle::parse_time(text).ok())??;
    u64::try_from(at_ms / 1000).ok()
}

#[cfg(test)]
mod tests;
