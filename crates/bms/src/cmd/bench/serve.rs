//! `bms bench serve`: requests to a server, and how long its answers take.
//!
//! Two kinds of load answer two questions. In a closed loop every connection asks again as soon as it has its answer:
//! that finds how much a server does. In an open loop requests come at a rate of their own, whatever the server does with
//! them, as they do from people: that finds how long they wait. There every time counts from when the request was due,
//! not from when a connection was free for it; otherwise a server that stalls would hold up its own measurement
//! (Gil Tene, "How NOT to Measure Latency", 2013).

mod exchange;
mod in_process;
mod load;
mod picture;
mod plain;
mod report;
mod stream;
mod tally;
mod tensors;
mod work;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bms_wire::{Code, Error, Result};
use clap::{Args, ValueEnum};
use http::Uri;
use rustls::ClientConfig;

use self::exchange::Form;
use self::in_process::InProcess;
use self::load::{Load, Pace};
use self::work::Work;
use crate::api_key::ApiKeyOption;
use crate::cmd::serve::RuntimeOptions;
use crate::home::{Home, PolicyOption};
use crate::output::Output;

/// How often a request is sent again when there is somewhere else to send it.
const RETRIES: u32 = 4;

/// Options of `bms bench serve`.
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Model to ask.
    model: String,
    /// Address of the server. Given several times, its replicas: connections take turns at them, and what one does not
    /// answer goes to the next.
    #[arg(long, env = "BMS_SERVER", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    server: Vec<String>,
    /// Ask the engine in this process instead, with this bundle: what a server's answers take longer is what the server adds.
    #[arg(long, value_name = "BUNDLE", requires = "bodies", conflicts_with_all = ["server", "retries"])]
    in_process: Option<PathBuf>,
    #[command(flatten)]
    policy: PolicyOption,
    #[command(flatten)]
    runtime: RuntimeOptions,
    /// How often a request is sent again whose connection breaks before its answer has begun, or that is answered with
    /// 503 [default: 0 with one server, 4 with several].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100))]
    retries: Option<u32>,
    /// Protocol to ask in.
    #[arg(long, value_enum, default_value_t = Protocol::Infer)]
    protocol: Protocol,
    /// Connections that ask at the same time.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=4096))]
    connections: u16,
    /// Threads that ask. One takes the least of the server's processors; more are for connections that are too many for one,
    /// where an answer would wait for the tool and not for the server.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    client_threads: u16,
    /// Requests a second that are due whatever the server does, an open loop [default: each connection asks again when
    /// it has its answer, a closed loop].
    #[arg(long, value_name = "PER SECOND", value_parser = rate)]
    rate: Option<f64>,
    /// When requests of an open loop are due.
    #[arg(long, value_enum, default_value_t = Arrivals::Poisson, requires = "rate")]
    arrivals: Arrivals,
    /// Seconds to measure.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    seconds: f64,
    /// Seconds of the same load before that, which do not count.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds)]
    warm_up: f64,
    /// Requests to measure at most.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// Seconds an answer may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, value_parser = seconds)]
    timeout: f64,
    /// Milliseconds within which an answer is a good one [default: all are].
    #[arg(long, value_name = "MILLISECONDS", value_parser = rate)]
    within: Option<f64>,
    /// File of requests' bodies, one JSON a line, taken in turns [default: made up for the model].
    #[arg(long, value_name = "FILE")]
    bodies: Option<PathBuf>,
    /// Rows of a made-up request for tensors.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    rows: u16,
    /// Words of a made-up prompt; all prompts differ.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    prompt_words: u32,
    /// Words all made-up prompts begin with, of them.
    #[arg(long, value_name = "N", default_value_t = 0)]
    shared_words: u32,
    /// Tokens of a made-up request's answer.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: u32,
    #[command(flatten)]
    key: ApiKeyOption,
    /// Write the latencies and the course of the measurement as a picture, SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// What chance comes from.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// How a server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Protocol {
    /// Open Inference Protocol, tensors as JSON.
    Infer,
    /// Open Inference Protocol, tensors as bytes behind a JSON head.
    Binary,
    /// Open Inference Protocol by gRPC, tensors as bytes.
    Grpc,
    /// OpenAI chat completions, streamed.
    Chat,
    /// OpenAI completions, streamed.
    Completions,
    /// OpenAI embeddings.
    Embeddings,
}

impl Protocol {
    /// How answers come.
    fn form(self) -> Form {
        match self {
            Protocol::Chat | Protocol::Completions => Form::Events,
            Protocol::Grpc => Form::Grpc,
            Protocol::Infer | Protocol::Binary | Protocol::Embeddings => Form::Whole,
        }
    }
}

/// When requests of an open loop are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Arrivals {
    /// Independently of each other, as from many people.
    Poisson,
    /// At equal intervals.
    Even,
}

impl Serve {
    pub(super) fn run(self, home: &Home, output: &Output) -> Result<()> {
        let servers = self.server.iter().map(|server| address(server)).collect::<Result<Vec<_>>>()?;
        let retries = self.retries.unwrap_or(if servers.len() < 2 { 0 } else { RETRIES });
        let key = self.key.key()?;
        let work = Work::new(&self)?;
        let in_process = self.in_process(home, &work)?;
        let pace = self.rate.map_or(Pace::Closed, |rate| Pace::Open { rate, arrivals: self.arrivals });
        let load = Load {
            tls: encryption(&servers, &self.key, self.protocol.form())?,
            servers,
            in_process,
            path: work.path().to_owned(),
            key,
            form: self.protocol.form(),
            retries,
            connections: usize::from(self.connections),
            threads: usize::from(self.client_threads),
            pace,
            warm_up: Duration::from_secs_f64(self.warm_up),
            measured: Duration::from_secs_f64(self.seconds),
            requests_max: self.requests.unwrap_or(u64::MAX),
            timeout: Duration::from_secs_f64(self.timeout),
            within: self.within.map(|milliseconds| Duration::from_secs_f64(milliseconds / 1e3)),
            seed: self.seed,
        };
        let tally = load.run(work, output)?;
        if let Some(path) = &self.plot {
            let svg = picture::draw(&tally)?;
            std::fs::write(path, svg).map_err(|e| Error::io("write", path, e))?;
        }
        report::print(output, &self, &tally);
        match tally.latency.is_empty() {
            false => Ok(()),
            true => Err(tally.why_none()),
        }
    }
}

impl Serve {
    /// The engine that is asked instead of a server, if one is named.
    fn in_process(&self, home: &Home, work: &Work) -> Result<Option<InProcess>> {
        let Some(bundle) = &self.in_process else { return Ok(None) };
        if !matches!(self.protocol, Protocol::Infer | Protocol::Binary) {
            let what = "--in-process takes requests of the protocols `infer` and `binary`";
            return Err(Error::new(Code::InvalidRequest, what));
        }
        let policy = self.policy.load(home)?;
        InProcess::load(bundle, &policy, &self.runtime, work.given()).map(Some)
    }
}

/// How connections to servers at https:// addresses are encrypted; `None` when there are none such.
fn encryption(servers: &[Uri], key: &ApiKeyOption, form: Form) -> Result<Option<Arc<ClientConfig>>> {
    if !servers.iter().any(|server| server.scheme_str() == Some("https")) {
        return Ok(None);
    }
    let mut config = bms_wire::tls::config(key.authorities())?;
    config.alpn_protocols = vec![form.protocol().to_vec()];
    Ok(Some(Arc::new(config)))
}

/// The host and port of a server's address.
fn address(server: &str) -> Result<Uri> {
    let uri = server.trim_end_matches('/').parse::<Uri>().ok();
    let plain = |uri: &Uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some() && uri.path() == "/"
    };
    uri.filter(plain).ok_or_else(|| {
        Error::new(Code::InvalidRequest, format!("`{server}` is not a server address"))
            .hint("Give it as http://HOST:PORT or https://HOST:PORT, for example http://127.0.0.1:8080.")
    })
}

fn rate(text: &str) -> std::result::Result<f64, String> {
    between(text, 1e-3, 1e6)
}

fn seconds(text: &str) -> std::result::Result<f64, String> {
    between(text, 0.0, 86_400.0)
}

fn between(text: &str, low: f64, high: f64) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (low..=high).contains(&value) => Ok(value),
        _ => Err(format!("a number from {low} to {high} is expected")),
    }
}

#[cfg(test)]
mod tests;
