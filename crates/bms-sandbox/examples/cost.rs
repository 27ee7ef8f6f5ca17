//! What confinement costs: `cargo run --release -p bms-sandbox --example cost`.
//!
//! The same small process runs unconfined, confined, and confined and watched, in turns, and times what a slot does: its
//! start, opening a file, a call on an open file, a thread. The medians of all rounds are printed.

use std::fs::File;
use std::io::{Read, stdin};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bms_sandbox::{Confinement, Watch};
use serde_json::json;

/// Which of [`KINDS`] a process that is measured is.
const VARIABLE: &str = "BMS_COST_KIND";
const KINDS: [&str; 3] = ["unconfined", "confined", "watched"];
const ROUNDS: usize = 21;
const MEASURED: [&str; 5] = ["start", "confining itself", "open a file", "read 4 KB", "a thread"];
const OPENINGS: u32 = 500;
const READS: u32 = 20_000;
const THREADS: u32 = 200;

fn main() {
    match std::env::var(VARIABLE) {
        Ok(kind) => measured(&kind),
        Err(_) => compare(),
    }
}

fn compare() {
    let mut times = vec![vec![Vec::new(); MEASURED.len()]; KINDS.len()];
    for _ in 0..ROUNDS {
        for (kind, times) in KINDS.iter().zip(&mut times) {
            for (time, times) in run(kind).into_iter().zip(times) {
                times.push(time);
            }
        }
    }
    println!("{:18}{:>14}{:>14}{:>14}", "median, µs", KINDS[0], KINDS[1], KINDS[2]);
    for (at, what) in MEASURED.iter().enumerate() {
        let cell = |kind: usize| {
            let mut times = times[kind][at].clone();
            times.sort_by(f64::total_cmp);
            format!("{:>14.2}", times[ROUNDS / 2])
        };
        println!("{what:18}{}{}{}", cell(0), cell(1), cell(2));
    }
}

/// Starts a process of a kind; its times in microseconds.
fn run(kind: &str) -> Vec<f64> {
    let mut command = Command::new(std::env::current_exe().expect("this program has a file"));
    command.env(VARIABLE, kind).stdout(Stdio::piped());
    let (watch, end) = Watch::pair().expect("there are descriptors");
    let began = Instant::now();
    command.stdin(Stdio::from(end));
    let mut child = command.spawn().expect("this program starts");
    drop(command);
    let pid = child.id();
    let watching = std::thread::spawn(move || watch.run(pid, |denied| println!("denied: {denied:?}")));
    let mut line = Vec::new();
    let mut out = child.stdout.take().expect("it was piped");
    let mut first = [0];
    out.read_exact(&mut first).expect("it says that it started");
    let started = began.elapsed();
    out.read_to_end(&mut line).expect("it says its times");
    child.wait().expect("it ends");
    watching.join().expect("the watcher ends with it");
    let times: Vec<f64> = serde_json::from_slice(&line).expect("its times are numbers");
    [vec![started.as_secs_f64() * 1e6], times].concat()
}

fn measured(kind: &str) {
    let mut confinement = Confinement::new(64);
    let program = std::env::current_exe().expect("this program has a file");
    confinement.read(&program).expect("it is there");
    let stdin = stdin();
    let confining = time(1, || match kind {
        "unconfined" => {}
        "confined" => drop(bms_sandbox::enter(&confinement, None).expect("it is confined")),
        _ => {
            let enforced = bms_sandbox::enter(&confinement, Some(stdin.as_fd())).expect("it is confined");
            assert!(enforced.watched, "this machine tells no denials");
        }
    });
    print!(" ");
    std::io::Write::flush(&mut std::io::stdout()).expect("somebody reads");
    let open = time(OPENINGS, || drop(File::open(Path::new(&program)).expect("it may be read")));
    let file = File::open(&program).expect("it may be read");
    let mut page = [0; 4096];
    let read = time(READS, || {
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut page, 0).expect("it is that long");
    });
    let thread = time(THREADS, || std::thread::spawn(|| {}).join().expect("it ends"));
    println!("{}", json!([confining, open, read, thread]));
}

/// Microseconds of one of so many times.
fn time(times: u32, mut what: impl FnMut()) -> f64 {
    let began = Instant::now();
    for _ in 0..times {
        what();
    }
    (began.elapsed() / times).max(Duration::from_nanos(1)).as_secs_f64() * 1e6
}
