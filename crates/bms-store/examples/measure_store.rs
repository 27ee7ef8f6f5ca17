//! How fast the store is, beside what the machine allows and beside restic where that is installed.
//!
//! `cargo xtask bench store [--mib N] [--rounds N] [--dir DIR]` runs this. The two take turns on fresh folders, each first in every
//! other round. It prints a table of medians and, last, one line of JSON.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use bms_store::{Digest, Location, ScrubOptions, Store};
use serde_json::{Value, json};
use sha2::Digest as _;

type Failure = Box<dyn std::error::Error>;

/// One measurement.
struct Line {
    what: &'static str,
    /// Bytes of content handled.
    bytes: u64,
    seconds: f64,
    /// Processor time of this process and those it waited for.
    cpu_seconds: f64,
    note: String,
}

impl Line {
    fn mb_per_second(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.seconds
    }

    fn mb_per_cpu_second(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.cpu_seconds.max(0.01)
    }
}

/// What is the same work of both.
const PAIRS: [(&str, &str); 5] = [
    ("put", "restic backup"),
    ("put the same again", "restic backup, the same again"),
    ("put the second version", "restic backup, second version"),
    ("fetch", "restic restore"),
    ("scrub", "restic check, all data read"),
];

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let (mut mib, mut rounds, mut dir) = (1024, 3, std::env::temp_dir());
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.next()) {
            ("--mib", Some(value)) => mib = value.parse()?,
            ("--rounds", Some(value)) => rounds = value.parse::<usize>()?.max(1),
            ("--dir", Some(value)) => dir = value.into(),
            _ => return Err("give --mib N, --rounds N or --dir DIR".into()),
        }
    }
    let has_restic = Command::new("restic").arg("version").stdout(Stdio::null()).status().is_ok();
    if !has_restic {
        println!("restic is not installed; `apt-get install restic` brings it");
    }
    let dir = tempfile::tempdir_in(dir)?;
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let changed = write_models(mib << 20, &first, &second)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut rounds_of: Vec<Vec<Line>> = Vec::new();
    let mut ratio = 0.0;
    for round in 0..rounds {
        let place = tempfile::tempdir_in(dir.path())?;
        let mut lines = limits(&first)?;
        if has_restic && round % 2 == 1 {
            restic(place.path(), &first, &second, &mut lines)?;
        }
        ratio = runtime.block_on(ours(place.path(), &first, &second, &mut lines))?;
        if has_restic && round % 2 == 0 {
            restic(place.path(), &first, &second, &mut lines)?;
        }
        lines.sort_by_key(|line| line.what.starts_with("restic"));
        rounds_of.push(lines);
    }
    let lines = medians(rounds_of);
    println!("{rounds} rounds, medians (lowest and highest seconds)");
    println!("{:<30} {:>8} {:>15} {:>8} {:>10}  note", "what", "seconds", "", "MB/s", "of a core");
    for Median { line, lowest, highest } in &lines {
        let (speed, of_core) = (line.mb_per_second(), line.mb_per_cpu_second());
        let spread = format!("({lowest:.2} to {highest:.2})");
        let (what, seconds, note) = (line.what, line.seconds, &line.note);
        println!("{what:<30} {seconds:>8.2} {spread:>15} {speed:>8.0} {of_core:>10.0}  {note}");
    }
    let find = |what: &str| lines.iter().map(|median| &median.line).find(|line| line.what == what);
    for (of_ours, of_restic) in PAIRS {
        let (Some(ours), Some(restic)) = (find(of_ours), find(of_restic)) else { continue };
        println!(
            "{of_ours} / {of_restic}: {:.2} times as fast, {:.2} times by processor time",
            restic.seconds / ours.seconds,
            restic.cpu_seconds / ours.cpu_seconds.max(0.01)
        );
    }
    let (changed_percent, moved_percent) = (changed * 100.0, ratio * 100.0);
    println!("second version: {changed_percent:.2} % of its bytes changed, {moved_percent:.2} % were moved");
    let all: Vec<Value> = lines
        .iter()
        .map(|Median { line, lowest, highest }| {
            json!({"what": line.what, "bytes": line.bytes, "seconds": line.seconds, "lowest": lowest,
                "highest": highest, "cpu_seconds": line.cpu_seconds, "note": line.note})
        })
        .collect();
    println!("{}", json!({"measured": all, "rounds": rounds, "changed": changed, "moved": ratio}));
    Ok(())
}

/// A line whose times are medians.
struct Median {
    line: Line,
    lowest: f64,
    highest: f64,
}

/// The medians of rounds that measured the same in the same order.
fn medians(mut rounds: Vec<Vec<Line>>) -> Vec<Median> {
    let last = rounds.pop().unwrap_or_default();
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        (values[values.len() / 2], values[0], values[values.len() - 1])
    };
    let of = |(at, line): (usize, Line)| {
        let (mut seconds, mut cpu_seconds) = (vec![line.seconds], vec![line.cpu_seconds]);
        for round in &rounds {
            seconds.push(round[at].seconds);
            cpu_seconds.push(round[at].cpu_seconds);
        }
        let (middle, lowest, highest) = median(&mut seconds);
        Median {
            line: Line { seconds: middle, cpu_seconds: median(&mut cpu_seconds).0, ..line },
            lowest,
            highest,
        }
    };
    last.into_iter().enumerate().map(of).collect()
}

/// Two versions of a model of about this size: bf16 weights as after training, one tensor in twenty another. Gives the share that
/// changed.
fn write_models(bytes: u64, first: &Path, second: &Path) -> Result<f64, Failure> {
    let mut files = [std::fs::File::create(first)?, std::fs::File::create(second)?];
    let sizes = [4096_u64, bytes / 160, bytes / 320, bytes / 160, bytes / 160];
    let (mut written, mut changed, mut number) = (0, 0, 0_u64);
    while written < bytes {
        let size = sizes[number as usize % sizes.len()] & !1;
        let other = number % 20 == 13;
        for (version, file) in files.iter_mut().enumerate() {
            let seed = if other { number + 1_000_000 * version as u64 } else { number };
            file.write_all(&tensor(seed, size as usize))?;
        }
        changed += if other { size } else { 0 };
        written += size;
        number += 1;
    }
    files.iter().try_for_each(std::fs::File::sync_all)?;
    Ok(changed as f64 / written as f64)
}

/// Numbers like weights: the sum of four uniform ones, of small magnitude, as bf16. Their exponents compress.
fn tensor(seed: u64, bytes: usize) -> Vec<u8> {
    let mut random = vec![0; bytes * 2];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut random);
    let value = |four: &[u8]| {
        let sum: f32 = four.iter().map(|byte| f32::from(*byte) / 255.0 - 0.5).sum();
        let low = f32::from(four[0] ^ four[3].rotate_left(3)) / 65536.0;
        ((sum + low) * 0.02).to_bits().to_be_bytes()
    };
    random
        .chunks_exact(4)
        .flat_map(|four| {
            let bits = value(four);
            [bits[1], bits[0]]
        })
        .collect()
}

/// What the machine allows: copying, and the digests every byte needs.
fn limits(first: &Path) -> Result<Vec<Line>, Failure> {
    let bytes = std::fs::read(first)?;
    let mut copy = vec![1; bytes.len()];
    let mut lines = vec![
        measure("memcpy", &bytes, || copy.copy_from_slice(&bytes)),
        measure("BLAKE3, one thread", &bytes, || {
            blake3::hash(&bytes);
        }),
        measure("SHA-256, one thread", &bytes, || {
            sha2::Sha256::digest(&bytes);
        }),
    ];
    drop(copy);
    let to = first.with_extension("copy");
    let mut failed = None;
    lines.push(measure("cp and sync", &bytes, || failed = copy_file(first, &to).err()));
    failed.map_or(Ok(()), Err)?;
    std::fs::remove_file(to)?;
    Ok(lines)
}

fn copy_file(from: &Path, to: &Path) -> Result<(), Failure> {
    let status = Command::new("cp").arg(from).arg(to).status()?;
    std::fs::File::open(to)?.sync_all()?;
    if status.success() { Ok(()) } else { Err("cp failed".into()) }
}

fn measure(what: &'static str, bytes: &[u8], work: impl FnOnce()) -> Line {
    let (cpu, begin) = (cpu_seconds(), Instant::now());
    work();
    let seconds = begin.elapsed().as_secs_f64();
    Line { what, bytes: bytes.len() as u64, seconds, cpu_seconds: cpu_seconds() - cpu, note: String::new() }
}

async fn ours(dir: &Path, first: &Path, second: &Path, lines: &mut Vec<Line>) -> Result<f64, Failure> {
    let place = dir.join("store");
    let store = Store::open(&Location::Folder(place)).await?;
    let size = std::fs::metadata(first)?.len();
    let mut moved = 0;
    for (what, file) in [("put", first), ("put the same again", first), ("put the second version", second)] {
        let (cpu, begin) = (cpu_seconds(), Instant::now());
        let (_, pushed) = store.put(std::fs::File::open(file)?, Some(size)).await?;
        moved = pushed.bytes_moved;
        lines.push(Line {
            what,
            bytes: pushed.bytes,
            seconds: begin.elapsed().as_secs_f64(),
            cpu_seconds: cpu_seconds() - cpu,
            note: format!(
                "{} of {} chunks new, {} MB moved",
                pushed.chunks_new,
                pushed.chunks,
                moved / 1_000_000
            ),
        });
    }
    let digest = digest_of(first)?;
    let (cpu, begin) = (cpu_seconds(), Instant::now());
    let fetched = store.fetch(digest, &dir.join("back"), &[]).await?;
    let seconds = begin.elapsed().as_secs_f64();
    let cpu_seconds_taken = cpu_seconds() - cpu;
    let note = format!("{} chunks", fetched.chunks);
    lines.push(Line { what: "fetch", bytes: fetched.bytes, seconds, cpu_seconds: cpu_seconds_taken, note });
    let (cpu, begin) = (cpu_seconds(), Instant::now());
    let report = store.scrub(&ScrubOptions::default()).await?;
    let seconds = begin.elapsed().as_secs_f64();
    let note = format!("healthy: {}", report.healthy);
    lines.push(Line {
        what: "scrub",
        bytes: report.bytes_read,
        seconds,
        cpu_seconds: cpu_seconds() - cpu,
        note,
    });
    std::fs::remove_file(dir.join("back"))?;
    Ok(moved as f64 / std::fs::metadata(second)?.len() as f64)
}

fn digest_of(path: &Path) -> Result<Digest, Failure> {
    let mut hasher = blake3::Hasher::new();
    let mut file = std::fs::File::open(path)?;
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hasher.finalize().into()),
            read => drop(hasher.update(&piece[..read])),
        }
    }
}

/// The same with restic, a backup program that also keeps content-defined chunks in packs; it encrypts besides.
fn restic(dir: &Path, first: &Path, second: &Path, lines: &mut Vec<Line>) -> Result<(), Failure> {
    let repository: PathBuf = dir.join("restic");
    let run = |arguments: &[&std::ffi::OsStr]| {
        let mut command = Command::new("restic");
        command.args(arguments).env("RESTIC_PASSWORD", "measured").env("RESTIC_REPOSITORY", &repository);
        command.env("RESTIC_CACHE_DIR", dir.join("restic-cache"));
        command.stdout(Stdio::null()).stderr(Stdio::null()).status()
    };
    if !run(&["init".as_ref()])?.success() {
        return Err("restic does not make a repository".into());
    }
    let to = dir.join("restored");
    let works: [(&'static str, Vec<&std::ffi::OsStr>); 5] = [
        ("restic backup", vec!["backup".as_ref(), first.as_os_str()]),
        ("restic backup, the same again", vec!["backup".as_ref(), "--force".as_ref(), first.as_os_str()]),
        ("restic backup, second version", vec!["backup".as_ref(), second.as_os_str()]),
        ("restic restore", vec!["restore".as_ref(), "latest".as_ref(), "--target".as_ref(), to.as_os_str()]),
        ("restic check, all data read", vec!["check".as_ref(), "--read-data".as_ref()]),
    ];
    for (what, arguments) in works {
        let before = folder_bytes(&repository);
        let (cpu, begin) = (cpu_seconds(), Instant::now());
        if !run(&arguments)?.success() {
            return Err(format!("{what} failed").into());
        }
        let note = format!("{} MB moved", folder_bytes(&repository).saturating_sub(before) / 1_000_000);
        lines.push(Line {
            what,
            bytes: std::fs::metadata(first)?.len(),
            seconds: begin.elapsed().as_secs_f64(),
            cpu_seconds: cpu_seconds() - cpu,
            note,
        });
    }
    Ok(())
}

fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let one = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => folder_bytes(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.flatten().map(one).sum()
}

/// Seconds of processor time of this process and of ended children: fields 14 to 17 of proc(5) stat, in hundredths.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    fields.skip(11).take(4).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}
