//! `cargo xtask bench inference`: what serving a tiny model takes, of our server and of Python ones.
//!
//! All answer the same bodies on the same path, one after the other in each round, in the other order the next. Our own load
//! tool asks all of them: in a closed loop, which shows how many requests a server gets through, and at a rate far below
//! that, which shows what it adds to a request. The peers do no more than that; ours asks every request for its key, counts
//! it, and writes its log.

mod peer;
mod published;

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use self::peer::Peer;
use self::published::{KEY_VARIABLE, Published};
use super::ours::Ours;
use super::report::{median, spread, summary};
use super::{http, memory, number, progress};
use crate::arguments::Arguments;
use crate::process;
use crate::services::place::free_port;

/// Rounds when nobody says how many: most of the time goes into starting peers.
const ROUNDS: usize = 3;
const SECONDS: usize = 5;
/// Requests a second of the open loop.
const RATE: usize = 1000;
/// Connections of the closed loop.
const CONNECTIONS: usize = 16;
/// How long a server may take until it answers.
const START_MAX: Duration = Duration::from_secs(120);
/// What our server is called among the others.
const OURS: &str = "bms";
const PATH: &str = "/v2/models/mlp/infer";
/// By which Linux is asked to keep processors awake.
const LATENCY_DEVICE: &str = "/dev/cpu_dma_latency";

/// What is measured, and where it lies.
struct Scene {
    ours: Ours,
    published: Published,
    peers: Vec<Peer>,
    scratch: TempDir,
    seconds: String,
}

/// What one server did in one round.
struct Row {
    requests_per_second: f64,
    closed_p99_ms: f64,
    open_p50_ms: f64,
    open_p99_ms: f64,
    /// Of our server's rounds only.
    beyond: Option<Beyond>,
    peak_mib: f64,
}

/// What our server takes longer than the engine in the tool's own process at the rate, median and 99th percentile in
/// milliseconds.
struct Beyond {
    as_is: [f64; 2],
    /// With processors that do not sleep, where the machine lets us ask for that.
    awake: Option<[f64; 2]>,
}

pub(super) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let program = arguments.value("--program")?.map(PathBuf::from);
    let peers = arguments.value("--peers")?.map(PathBuf::from);
    let install = arguments.flag("--install-peers");
    let rounds = number(arguments.value("--rounds")?, "--rounds")?.unwrap_or(ROUNDS);
    let seconds = number(arguments.value("--seconds")?, "--seconds")?.unwrap_or(SECONDS).to_string();
    let as_json = arguments.flag("--json");
    arguments.finish()?;
    let scratch = TempDir::new()?;
    let peers = peer::find(peers, install, scratch.path())?;
    let ours = Ours::find(program)?;
    let published = prepare(&ours, scratch.path())?;
    let scene = Scene { ours, published, peers, scratch, seconds };
    let mut rows: Vec<(String, Vec<Row>)> = Vec::new();
    for round in 0..rounds {
        progress(format_args!("round {} of {rounds}, load {}", round + 1, memory::load_average()));
        let mut order: Vec<Option<&Peer>> =
            std::iter::once(None).chain(scene.peers.iter().map(Some)).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for peer in order {
            let name = peer.map_or(OURS, |peer| peer.name);
            let row = scene.measure(peer).with_context(|| format!("failed to measure {name}"))?;
            progress(format_args!(
                "  {name}: {:.0} requests/s, p50 {:.2} ms at {RATE}/s",
                row.requests_per_second, row.open_p50_ms
            ));
            match rows.iter_mut().find(|(known, _)| known == name) {
                Some((_, rows)) => rows.push(row),
                None => rows.push((name.to_owned(), vec![row])),
            }
        }
    }
    match as_json {
        true => println!("{}", json(&rows)),
        false => print!("{}", text(&rows)),
    }
    Ok(ExitCode::SUCCESS)
}

impl Scene {
    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn measure(&self, peer: Option<&Peer>) -> Result<Row> {
        let port = free_port(peer::PORTS_APART)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let server = match peer {
            Some(peer) => {
                let mut command = peer.command(&self.path("mlp.onnx"), port);
                command.stdout(Stdio::null()).stderr(Stdio::null());
                Running::start(&mut command, || http::post(address, PATH, &body(0)).map(drop))?
            }
            None => self.ours(address, &[])?,
        };
        let asked = format!("http://{address}");
        let connections = CONNECTIONS.to_string();
        let closed = self.load(&["--server", &asked, "--connections", &connections])?;
        let open = self.at_rate("--server", &asked)?;
        let peak_mib = memory::peak_bytes(server.0.id()) as f64 / f64::from(1 << 20);
        drop(server);
        let beyond = match peer {
            Some(_) => None,
            None => Some(Beyond { as_is: beyond(open, self.in_process()?), awake: self.awake()? }),
        };
        Ok(Row {
            requests_per_second: figure(&closed, "/answers_per_second")?,
            closed_p99_ms: figure(&closed, "/latency_ms/p99")?,
            open_p50_ms: open[0],
            open_p99_ms: open[1],
            beyond,
            peak_mib,
        })
    }

    /// Our server, started with these options as well.
    fn ours(&self, address: SocketAddr, options: &[&str]) -> Result<Running> {
        let mut command = self.published.command(&self.ours, address)?;
        Running::start(command.args(options), || published::ready(address))
    }

    /// What our server takes longer while it keeps the processors awake, for itself and for the engine alone.
    fn awake(&self) -> Result<Option<[f64; 2]>> {
        let Ok(mut device) = File::options().write(true).open(LATENCY_DEVICE) else { return Ok(None) };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port(0)?));
        let server = self.ours(address, &["--wake-within", "0"])?;
        let asked = self.at_rate("--server", &format!("http://{address}"))?;
        drop(server);
        // The engine alone has no server that asks for it.
        device.write_all(&0_i32.to_ne_bytes())?;
        Ok(Some(beyond(asked, self.in_process()?)))
    }

    /// Median and 99th percentile of the engine in the tool's own process.
    fn in_process(&self) -> Result<[f64; 2]> {
        self.at_rate("--in-process", &self.path("mlp").display().to_string())
    }

    /// Median and 99th percentile at the rate, in milliseconds.
    fn at_rate(&self, how: &str, whom: &str) -> Result<[f64; 2]> {
        let report = self.load(&[how, whom, "--connections", "64", "--rate", &RATE.to_string()])?;
        Ok([figure(&report, "/latency_ms/p50")?, figure(&report, "/latency_ms/p99")?])
    }

    fn load(&self, how: &[&str]) -> Result<Value> {
        let mut command = self.ours.command(&["bench", "serve", "mlp", "--json", "--seconds", &self.seconds]);
        command.args(["--warm-up", "1"]).args(how).env(KEY_VARIABLE, &self.published.key);
        let printed = process::output(command.arg("--bodies").arg(self.path("bodies.jsonl")))?;
        let last = printed.lines().rev().find(|line| line.starts_with('{'));
        let report: Value = serde_json::from_str(last.context("the load tool printed nothing")?)?;
        let failed = report["failed"].as_object().is_some_and(|failed| !failed.is_empty());
        ensure!(!failed, "requests failed: {}", report["failed"]);
        Ok(report)
    }
}

fn figure(report: &Value, path: &str) -> Result<f64> {
    report.pointer(path).and_then(Value::as_f64).with_context(|| format!("no `{path}` was measured"))
}

fn beyond(asked: [f64; 2], alone: [f64; 2]) -> [f64; 2] {
    [asked[0] - alone[0], asked[1] - alone[1]]
}

/// Writes the graph, the bundle, and what is asked, and publishes the bundle.
fn prepare(ours: &Ours, scratch: &Path) -> Result<Published> {
    let (graph, bundle) = (scratch.join("mlp.onnx"), scratch.join("mlp"));
    let mut example = process::cargo();
    example.args(["run", "--quiet", "--release", "-p", "bms-nn", "--example", "write_mlp", "--"]);
    process::run(example.arg(&graph))?;
    let mut package = ours.command(&["package", "--name", "mlp"]);
    process::output(package.arg("--out").arg(&bundle).arg(&graph))?;
    let bodies: Vec<String> = (0..64_u32).map(|n| body(n).to_string()).collect();
    std::fs::write(scratch.join("bodies.jsonl"), bodies.join("\n"))?;
    Published::new(ours, scratch.join("published"), &bundle)
}

/// A request with numbers of its own.
fn body(n: u32) -> Value {
    let value = |i: u32| f64::from((n * 64 + i).wrapping_mul(2_654_435_761) >> 8) / f64::from(1 << 24);
    let data: Vec<f64> = (0..64).map(value).collect();
    json!({ "inputs": [{ "name": "x", "shape": [1, 64], "datatype": "FP32", "data": data }] })
}

/// A server while it is measured; dropping it ends it and what it started.
struct Running(Child);

impl Running {
    /// Starts it and waits until it is ready.
    fn start(command: &mut Command, ready: impl Fn() -> Result<()>) -> Result<Running> {
        command.stdin(Stdio::piped());
        // A group of its own: some peers are several processes.
        std::os::unix::process::CommandExt::process_group(command, 0);
        let child =
            command.spawn().with_context(|| format!("failed to start `{}`", process::shown(command)))?;
        let (mut server, begin) = (Running(child), Instant::now());
        while let Err(error) = ready() {
            if let Some(status) = server.0.try_wait()? {
                bail!("`{}` ended with {status}", process::shown(command));
            }
            if START_MAX < begin.elapsed() {
                return Err(error.context(format!("`{}` does not answer", process::shown(command))));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let group = format!("-{}", self.0.id());
        for signal in ["-TERM", "-KILL"] {
            let _ = Command::new("kill").args([signal, "--", &group]).stderr(Stdio::null()).status();
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_secs(5) {
                if matches!(self.0.try_wait(), Ok(Some(_))) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

type Figure = (&'static str, usize, fn(&Row) -> f64);
const FIGURES: [Figure; 5] = [
    ("requests/s", 0, |row| row.requests_per_second),
    ("p99 ms then", 2, |row| row.closed_p99_ms),
    ("p50 ms at the rate", 3, |row| row.open_p50_ms),
    ("p99 ms at the rate", 3, |row| row.open_p99_ms),
    ("peak MiB", 0, |row| row.peak_mib),
];

fn text(rows: &[(String, Vec<Row>)]) -> String {
    let mut text = format!(
        "{CONNECTIONS} connections in a closed loop, then {RATE} requests/s; median (lowest..highest)\n\n"
    );
    let _ = write!(text, "{:<10}", "server");
    for (title, ..) in FIGURES {
        let _ = write!(text, " {title:>28}");
    }
    let _ = writeln!(text, " {:>24}", "our requests/s to its");
    for (name, of_it) in rows {
        let _ = write!(text, "{name:<10}");
        for (_, digits, figure) in FIGURES {
            let values: Vec<f64> = of_it.iter().map(figure).collect();
            let _ = write!(text, " {:>28}", spread(&values, digits));
        }
        let _ = writeln!(text, " {:>24}", spread(&ratios(rows, of_it), 1));
    }
    let [as_is, awake] = overheads(rows);
    text.push_str("\nours beyond the engine in the same process, ms:\n");
    for (how, [p50, p99]) in [("as it is", as_is), ("--wake-within 0", awake)] {
        let _ = match p50.is_empty() {
            true => writeln!(text, "  {how:<16} not measured: {LATENCY_DEVICE} cannot be written"),
            false => writeln!(text, "  {how:<16} p50 {}, p99 {}", spread(&p50, 3), spread(&p99, 3)),
        };
    }
    text
}

fn ours(rows: &[(String, Vec<Row>)]) -> &[Row] {
    rows.iter().find(|(name, _)| name == OURS).map_or(&[][..], |(_, rows)| rows)
}

/// How many times as many requests we get through as it does, a round at a time.
fn ratios(rows: &[(String, Vec<Row>)], of_it: &[Row]) -> Vec<f64> {
    ours(rows).iter().zip(of_it).map(|(a, b)| a.requests_per_second / b.requests_per_second).collect()
}

/// Median and 99th percentile beyond those of the engine alone, a round at a time: as the machine is, and with processors
/// that do not sleep.
fn overheads(rows: &[(String, Vec<Row>)]) -> [[Vec<f64>; 2]; 2] {
    let of = |how: fn(&Beyond) -> Option<[f64; 2]>| {
        let rounds: Vec<_> = ours(rows).iter().filter_map(|row| how(row.beyond.as_ref()?)).collect();
        [0, 1].map(|which| rounds.iter().map(|round| round[which]).collect())
    };
    [of(|beyond| Some(beyond.as_is)), of(|beyond| beyond.awake)]
}

fn json(rows: &[(String, Vec<Row>)]) -> Value {
    let servers = rows.iter().map(|(name, of_it)| {
        let figures = FIGURES.iter().map(|(title, _, figure)| {
            ((*title).to_owned(), summary(&of_it.iter().map(figure).collect::<Vec<_>>()))
        });
        let mut figures: serde_json::Map<String, Value> = figures.collect();
        figures.insert("our requests/s to its".to_owned(), json!(median(&ratios(rows, of_it))));
        (name.clone(), Value::Object(figures))
    });
    let [as_is, awake] =
        overheads(rows).map(|[p50, p99]| json!({ "p50": summary(&p50), "p99": summary(&p99) }));
    json!({
        "connections": CONNECTIONS, "rate": RATE, "servers": servers.collect::<serde_json::Map<_, _>>(),
        "beyond_the_engine_ms": as_is, "beyond_the_engine_awake_ms": awake,
    })
}
