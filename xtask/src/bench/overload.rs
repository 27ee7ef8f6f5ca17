//! `cargo xtask bench overload`: what a server still does when it is asked for ten times what it can do.
//!
//! The model is heavy, so that few requests overload it: what refuses them and what asks for them run on the processors
//! that compute the model, and are part of what the overload costs. First a closed loop finds the capacity; then
//! requests come at a multiple of it, whatever becomes of them.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::ours::Ours;
use super::{http, memory, number, progress};
use crate::arguments::Arguments;
use crate::process;
use crate::services::place::free_port;

const SECONDS: usize = 12;
/// The multiple of the capacity that is asked for.
const TIMES: usize = 10;
/// Width and layers of the graph.
const WIDTH: &str = "4096";
const LAYERS: &str = "3";
/// Rows of a request, and numbers of a row.
const ROWS: &str = "16";
const COLUMNS: usize = 64;
/// Connections that find the capacity.
const CONNECTIONS: &str = "16";
/// Connections of the overload: twice what the door of a model lets in.
const CONNECTIONS_MANY: &str = "2048";
/// Seconds at the beginning of the overload in which the queue fills.
const FILLING: usize = 3;
/// What is asked for: the share of the capacity, the time of a refusal, and how memory may grow.
const GOODPUT_MIN: f64 = 0.9;
const REFUSAL_P99_MS_MAX: f64 = 5.0;
const MEMORY_GROWTH_MAX: f64 = 1.1;
const START_MAX: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// For how long it is looked at how late this machine wakes threads, and how long these sleep.
const LATENESS_WITHIN: Duration = Duration::from_secs(4);
const LATENESS_SLEEP: Duration = Duration::from_millis(3);

/// What was found.
struct Found {
    times: usize,
    /// How late a thread is woken on this machine while all processors compute: the median, and one in a hundred.
    late_ms: [f64; 2],
    /// How long the gateway took to say that it lives to whoever asked during the overload, likewise. In the load tool an
    /// answer waits for those before it; this one does nothing else.
    live_ms: [f64; 2],
    /// How long refusals took that were asked for one after the other, likewise by somebody who does nothing else.
    alone_ms: [f64; 2],
    capacity: f64,
    capacity_p99_ms: f64,
    overload: Value,
    /// Answers a second once the queue was full.
    goodput: f64,
    /// Seconds since the overload began, and resident bytes of the gateway and of its slots.
    resident: Vec<(f64, [u64; 2])>,
}

pub(super) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let program = arguments.value("--program")?.map(PathBuf::from);
    let seconds = number(arguments.value("--seconds")?, "--seconds")?.unwrap_or(SECONDS).max(2 * FILLING);
    let times = number(arguments.value("--times")?, "--times")?.unwrap_or(TIMES);
    let as_json = arguments.flag("--json");
    arguments.finish()?;
    let (ours, scratch) = (Ours::find(program)?, TempDir::new()?);
    let graph = scratch.path().join("mlp.onnx");
    let mut example = process::cargo();
    example.args(["run", "--quiet", "--release", "-p", "bms-nn", "--example", "write_mlp", "--"]);
    process::run(example.arg(&graph).args([WIDTH, LAYERS]))?;
    let bundle = scratch.path().join("mlp");
    let mut package = ours.command(&["package", "--name", "mlp"]);
    process::output(package.arg("--out").arg(&bundle).arg(&graph))?;
    let server = Running::start(&ours, &bundle)?;
    progress(format_args!("how late this machine wakes a thread, {} s", LATENESS_WITHIN.as_secs()));
    let late_ms = lateness_ms();
    progress(format_args!("the capacity, {seconds} s"));
    let closed = server.load(&ours, seconds, &["--connections", CONNECTIONS])?;
    let capacity = closed["answers_per_second"].as_f64().context("nothing was answered")?;
    let rate = capacity * times as f64;
    progress(format_args!("{capacity:.0} requests/s; now {rate:.0} requests/s, {seconds} s"));
    let over = AtomicBool::new(false);
    let (overload, resident, live_ms, alone_ms) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| server.watch(&over));
        let asking = scope.spawn(|| server.live_ms(&over));
        let refused = scope.spawn(|| server.refused_ms(&over));
        let how = ["--connections", CONNECTIONS_MANY, "--client-threads", "2", "--rate", &rate.to_string()];
        let overload = server.load(&ours, seconds, &how);
        over.store(true, Ordering::Relaxed);
        (overload, joined(watching), joined(asking), joined(refused))
    });
    let overload = overload?;
    let course = overload["course"].as_array().map_or(&[][..], Vec::as_slice);
    let answered = course.iter().take(seconds).skip(FILLING).filter_map(|second| second["answered"].as_f64());
    let goodput = answered.sum::<f64>() / (seconds - FILLING) as f64;
    let capacity_p99_ms = closed["latency_ms"]["p99"].as_f64().unwrap_or_default();
    let (live_ms, alone_ms) = (live_ms?, alone_ms?);
    let found =
        Found { times, late_ms, live_ms, alone_ms, capacity, capacity_p99_ms, overload, goodput, resident };
    match as_json {
        true => println!("{}", found.json()),
        false => print!("{}", found.text()),
    }
    Ok(if found.problems().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Found {
    fn refusal_ms(&self, percentile: &str) -> f64 {
        self.overload["refusal_ms"][percentile].as_f64().unwrap_or_default()
    }

    fn count(&self, what: &str) -> u64 {
        let counts = self.overload[what].as_object();
        counts.map_or(0, |counts| counts.values().filter_map(Value::as_u64).sum())
    }

    /// How much more memory there is at the end than once the queue was full: of the gateway and of its slots.
    fn growth(&self) -> [f64; 2] {
        let filled = self.resident.iter().position(|(at, _)| FILLING as f64 <= *at).unwrap_or(0);
        let rest = &self.resident[filled..];
        let (early, late) = rest.split_at(rest.len() / 2);
        let most =
            |half: &[(f64, [u64; 2])], of: usize| half.iter().map(|(_, bytes)| bytes[of]).max().unwrap_or(0);
        [0, 1].map(|of| most(late, of) as f64 / most(early, of).max(1) as f64)
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let share = self.goodput / self.capacity;
        if share < GOODPUT_MIN {
            problems.push(format!("goodput is {:.0} % of the capacity", 100.0 * share));
        }
        if self.count("refused") == 0 {
            problems.push("nothing was refused: it was no overload".to_owned());
        }
        if REFUSAL_P99_MS_MAX < self.refusal_ms("p99") {
            problems.push(format!("one of a hundred refusals takes {:.1} ms", self.refusal_ms("p99")));
        }
        if self.count("failed") != 0 {
            problems.push(format!("requests failed: {}", self.overload["failed"]));
        }
        if self.growth().iter().any(|growth| MEMORY_GROWTH_MAX < *growth) {
            problems.push("memory grows".to_owned());
        }
        problems
    }

    fn json(&self) -> Value {
        json!({
            "holds": self.problems().is_empty(), "problems": self.problems(), "times": self.times,
            "capacity_per_second": self.capacity, "capacity_p99_ms": self.capacity_p99_ms,
            "goodput_per_second": self.goodput, "goodput_share": self.goodput / self.capacity,
            "machine_wakes_late_ms": { "p50": self.late_ms[0], "p99": self.late_ms[1] },
            "live_ms": { "p50": self.live_ms[0], "p99": self.live_ms[1] },
            "refusal_alone_ms": { "p50": self.alone_ms[0], "p99": self.alone_ms[1] },
            "growth": self.growth(), "resident_bytes": self.resident, "overload": self.overload,
        })
    }

    fn text(&self) -> String {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let most = [0, 1].map(|of| self.resident.iter().map(|(_, bytes)| bytes[of]).max().unwrap_or(0));
        let asked = self.overload["rate"].as_f64().unwrap_or_default();
        let problems = self.problems();
        let end = match problems.is_empty() {
            true => "It holds.".to_owned(),
            false => format!("It does not hold: {}", problems.join("; ")),
        };
        format!(
            "capacity: {:.1} requests/s with {CONNECTIONS} connections, p99 {:.1} ms\n\
             asked for {asked:.0} requests/s: {:.1} answered a second, {:.0} % of the capacity, p99 {:.0} ms\n\
             {} refused, within {:.2} ms (p50), {:.2} ms (p99); {} failed\n\
             others meanwhile: \"live\" within {:.2} ms (p50), {:.2} ms (p99); a refusal within {:.2} ms (p50), {:.2} ms (p99); \
             this machine wakes a thread {:.2} ms late (p50), {:.2} ms (p99)\nwhile all processors compute, and a refusal takes two wakings\n\
             memory at most: gateway {:.0} MiB, slots {:.0} MiB; second half over first: {:.2}, {:.2}\n\
             the load tool used {:.0} % of a processor, which the server did not have\n\n{end}\n",
            self.capacity,
            self.capacity_p99_ms,
            self.goodput,
            100.0 * self.goodput / self.capacity,
            self.overload["latency_ms"]["p99"].as_f64().unwrap_or_default(),
            self.count("refused"),
            self.refusal_ms("p50"),
            self.refusal_ms("p99"),
            self.count("failed"),
            self.live_ms[0],
            self.live_ms[1],
            self.alone_ms[0],
            self.alone_ms[1],
            self.late_ms[0],
            self.late_ms[1],
            mib(most[0]),
            mib(most[1]),
            self.growth()[0],
            self.growth()[1],
            100.0 * self.overload["own_processor_share"].as_f64().unwrap_or_default(),
        )
    }
}

/// How late a thread that sleeps is woken while as many compute as there are processors. A refusal waits for that more
/// than once: the gateway is woken to read the request, the load tool to read the answer.
fn lateness_ms() -> [f64; 2] {
    let over = AtomicBool::new(false);
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let late = std::thread::scope(|scope| {
        for _ in 0..processors {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop()
                }
            });
        }
        let (begin, mut late) = (Instant::now(), Vec::new());
        while begin.elapsed() < LATENESS_WITHIN {
            let slept = Instant::now();
            std::thread::sleep(LATENESS_SLEEP);
            late.push(1000.0 * slept.elapsed().saturating_sub(LATENESS_SLEEP).as_secs_f64());
        }
        over.store(true, Ordering::Relaxed);
        late
    });
    median_and_p99(late)
}

/// What a thread gave, or its panic.
fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn median_and_p99(mut of: Vec<f64>) -> [f64; 2] {
    of.sort_by(f64::total_cmp);
    [of.len() / 2, of.len() * 99 / 100].map(|at| of.get(at).copied().unwrap_or_default())
}

/// The server; dropping it ends it.
struct Running {
    child: Child,
    address: SocketAddr,
}

impl Running {
    fn start(ours: &Ours, bundle: &std::path::Path) -> Result<Running> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port(0)?));
        let mut command = ours.command(&["serve", "--until-stdin-closes", "--listen", &address.to_string()]);
        command.arg(bundle).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let child =
            command.spawn().with_context(|| format!("failed to start `{}`", process::shown(&command)))?;
        let (mut server, begin) = (Running { child, address }, Instant::now());
        while http::get(address, "/v2/models/mlp/ready").is_err() {
            if let Some(status) = server.child.try_wait()? {
                bail!("the server ended with {status}");
            }
            if START_MAX < begin.elapsed() {
                bail!("the server does not answer");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    fn load(&self, ours: &Ours, seconds: usize, how: &[&str]) -> Result<Value> {
        let mut command = ours.command(&["bench", "serve", "mlp", "--json", "--protocol", "binary"]);
        command.args([
            "--rows",
            ROWS,
            "--warm-up",
            "1",
            "--timeout",
            "60",
            "--seconds",
            &seconds.to_string(),
        ]);
        command.args(how).args(["--server", &format!("http://{}", self.address)]);
        let printed = process::output(&mut command)?;
        let last = printed.lines().rev().find(|line| line.starts_with('{'));
        Ok(serde_json::from_str(last.context("the load tool printed nothing")?)?)
    }

    /// How long it takes to say that it lives, over one connection, until told that it is over.
    fn live_ms(&self, over: &AtomicBool) -> Result<[f64; 2]> {
        let question = format!("GET /v2/health/live HTTP/1.1\r\nhost: {}\r\n\r\n", self.address);
        self.asked_ms(over, question.as_bytes(), |status| match status {
            "200" => Ok(true),
            _ => bail!("the server does not say that it lives"),
        })
    }

    /// How long refusals of a request as large as the others take, over one connection, until told that it is over. It allows
    /// itself a time in which it cannot be answered, so that it is refused whatever the queue has room for.
    fn refused_ms(&self, over: &AtomicBool) -> Result<[f64; 2]> {
        let rows = ROWS.parse::<usize>()?;
        let values = vec![0; rows * COLUMNS * size_of::<f32>()];
        let head = json!({
            "parameters": { "timeout": 1000 },
            "inputs": [{
                "name": "x", "datatype": "FP32", "shape": [rows, COLUMNS],
                "parameters": { "binary_data_size": values.len() },
            }],
        });
        let head = head.to_string();
        let length = head.len() + values.len();
        let mut request = format!(
            "POST /v2/models/mlp/infer HTTP/1.1\r\nhost: {}\r\ncontent-type: application/octet-stream\r\n\
             inference-header-content-length: {}\r\ncontent-length: {length}\r\n\r\n{head}",
            self.address,
            head.len()
        )
        .into_bytes();
        request.extend(values);
        self.asked_ms(over, &request, |status| match status {
            "429" | "503" => Ok(true),
            // Before the queue was full.
            "504" => Ok(false),
            _ => bail!("a request with a short deadline was answered with status `{status}`"),
        })
    }

    /// How long answers to a request take that is made again and again over one connection, until told that it is over: of
    /// those whose status counts.
    fn asked_ms(
        &self,
        over: &AtomicBool,
        request: &[u8],
        counts: impl Fn(&str) -> Result<bool>,
    ) -> Result<[f64; 2]> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(START_MAX))?;
        let (mut took, mut answer) = (Vec::new(), [0; 4096]);
        while !over.load(Ordering::Relaxed) {
            let asked = Instant::now();
            stream.write_all(request)?;
            let length = stream.read(&mut answer)?;
            let answered = asked.elapsed();
            let answer = String::from_utf8_lossy(&answer[..length]);
            if counts(answer.split(' ').nth(1).unwrap_or_default())? {
                took.push(1000.0 * answered.as_secs_f64());
            }
            std::thread::sleep(LATENESS_SLEEP);
        }
        Ok(median_and_p99(took))
    }

    /// Memory of the gateway and of its slots, until told that it is over.
    fn watch(&self, over: &AtomicBool) -> Vec<(f64, [u64; 2])> {
        let (begin, gateway) = (Instant::now(), self.child.id());
        let mut seen = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let own = memory::resident_bytes(gateway);
            let slots = memory::children(gateway).into_iter().map(memory::resident_bytes).sum();
            // The load tool warms up for a second first.
            seen.push((begin.elapsed().as_secs_f64() - 1.0, [own, slots]));
            std::thread::sleep(LOOK_EVERY);
        }
        seen
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(30) && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
