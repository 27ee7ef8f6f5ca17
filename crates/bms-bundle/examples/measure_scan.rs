//! Measures the scanner on a labelled folder: how much of what is malicious it finds, how much of what is benign it
//! flags, and how long it takes; or its throughput on one large file.
//!
//! `cargo run --release --example measure_scan -- FOLDER`, where `FOLDER/labels.json` is a list of objects with at
//! least `file`, `malicious` and `technique`. With `--json` first, one line a file for `cargo xtask bench scan`.
//! `-- --throughput FILE` scans one file several times and prints bytes, seconds and memory as JSON.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use bms_bundle::scan::{Scanned, scan_file, targets};
use bms_bundle::{Content, Severity};

type Failure = Box<dyn std::error::Error>;

/// Turns of the throughput measurement.
const ROUNDS: usize = 5;

#[derive(serde::Deserialize)]
struct Label {
    file: String,
    malicious: bool,
    technique: String,
    #[serde(default)]
    format: String,
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--throughput", file] => throughput(Path::new(file)),
        ["--json", folder] => each(Path::new(folder), |label, scanned, micros| {
            let flagged = is_flagged(scanned);
            println!("{}", serde_json::json!({"file": label.file, "flagged": flagged, "micros": micros}));
        }),
        [folder] => table(Path::new(folder)),
        _ => Err("usage: measure_scan [--json] FOLDER | --throughput FILE".into()),
    }
}

fn is_flagged(scanned: &Scanned) -> bool {
    scanned.findings.iter().any(|finding| Severity::Medium <= finding.severity)
}

/// Scans every labelled file. Reading it is not part of the time.
fn each(folder: &Path, mut report: impl FnMut(&Label, &Scanned, u64)) -> Result<(), Failure> {
    let labels: Vec<Label> = serde_json::from_slice(&std::fs::read(folder.join("labels.json"))?)?;
    for label in &labels {
        let bytes = std::fs::read(folder.join(&label.file))?;
        let started = Instant::now();
        let scanned = scan_file(&label.file, &bytes);
        report(label, &scanned, started.elapsed().as_micros() as u64);
    }
    Ok(())
}

fn table(folder: &Path) -> Result<(), Failure> {
    // Per kind of file: malicious found, malicious, benign flagged, benign.
    let mut table: BTreeMap<String, [usize; 4]> = BTreeMap::new();
    let mut micros = Vec::new();
    each(folder, |label, scanned, time| {
        micros.push(time);
        let flagged = is_flagged(scanned);
        let row = table.entry(label.format.clone()).or_default();
        let (hit, all) = if label.malicious { (0, 1) } else { (2, 3) };
        row[hit] += usize::from(flagged);
        row[all] += 1;
        if flagged != label.malicious {
            let verdict = if flagged { "flagged" } else { "missed" };
            println!("{verdict}: {} ({}, {})", label.file, label.technique, scanned.format);
            scanned.findings.iter().for_each(|finding| println!("    {}: {finding}", finding.severity));
        }
    })?;
    println!("{:<14} {:>10} {:>10}", "kind", "found", "flagged");
    for (kind, [found, malicious, flagged, benign]) in &table {
        println!("{kind:<14} {:>10} {:>10}", format!("{found}/{malicious}"), format!("{flagged}/{benign}"));
    }
    let sum = |at: usize| table.values().map(|row| row[at]).sum::<usize>();
    println!(
        "{:<14} {:>10} {:>10}",
        "all",
        format!("{}/{}", sum(0), sum(1)),
        format!("{}/{}", sum(2), sum(3))
    );
    micros.sort_unstable();
    if let Some(last) = micros.last() {
        println!("microseconds: median {}, longest {last}", micros[micros.len() / 2]);
    }
    Ok(())
}

/// Maps and scans one file, as `bms scan` does, several times.
fn throughput(file: &Path) -> Result<(), Failure> {
    let target = targets(file)?.pop().ok_or("there is no such file")?;
    // Once for the system's file cache.
    let content = Content::open(file)?;
    drop(scan_file("warm", &content));
    drop(content);
    let mut seconds = Vec::new();
    let mut flagged = false;
    let before = processor_seconds();
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let (scanned, _content) = target.scan();
        seconds.push(started.elapsed().as_secs_f64());
        flagged |= is_flagged(&scanned);
    }
    let processor = (processor_seconds() - before) / ROUNDS as f64;
    seconds.sort_by(f64::total_cmp);
    println!(
        "{}",
        serde_json::json!({
            "bytes": target.size_bytes, "flagged": flagged, "seconds_best": seconds[0], "seconds_median": seconds[ROUNDS / 2],
            "processor_seconds": processor, "peak_bytes": status("VmHWM:"), "peak_own_bytes": status("RssAnon:"),
        })
    );
    Ok(())
}

/// Processor time of this process and its threads, in hundredths as the system counts them.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// A field of this process's status, in bytes; zero where the system does not tell.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}
