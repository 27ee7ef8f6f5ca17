//! `cargo xtask bench seal`: the cipher of sealed bundles and `openssl speed`, in turns.
//!
//! Both count processor time, so a busy machine slows neither down on paper; what it does to the caches it does to
//! both, since they take turns.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use super::ours::Ours;
use super::{number, progress};
use crate::arguments::Arguments;
use crate::process;

/// Rounds when nobody says how many.
const ROUNDS: usize = 7;
/// Bytes of a chunk, as sealed files have them.
const CHUNK_BYTES: &str = "262144";
/// The share of OpenSSL's speed that is asked for.
const GOAL: f64 = 0.9;

/// What one round measured, in bytes per second of processor time.
struct Round {
    openssl: f64,
    /// Chunks that stay in the cache, as OpenSSL's block does.
    decipher: f64,
    /// More than the caches hold, chunk by chunk into one place.
    from_memory: f64,
    /// The same, straight into as much memory.
    load: f64,
    seal: f64,
    open: f64,
}

pub(super) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let program = arguments.value("--program")?;
    let rounds = number(arguments.value("--rounds")?, "--rounds")?.unwrap_or(ROUNDS);
    arguments.finish()?;
    let ours = Ours::find(program.map(PathBuf::from))?;
    let version = process::output(Command::new("openssl").arg("version"))
        .context("`openssl` is needed: it is in the package of that name")?;
    let mut all = Vec::with_capacity(rounds);
    for round in 0..rounds {
        progress(format_args!("round {} of {rounds}", round + 1));
        let first = (round % 2 == 0).then(openssl).transpose()?;
        // OpenSSL goes over one block again and again: the cipher is compared on what fits the cache as well.
        let small = ours.bench(&["seal", "--size", "1"])?;
        let large = ours.bench(&["seal", "--size", "256"])?;
        let rate = |measured: &serde_json::Value, name: &str| {
            measured[name]["processor"].as_f64().context("`bms bench seal` gave no rate")
        };
        let openssl = first.map_or_else(openssl, Ok)?;
        all.push(Round {
            openssl,
            decipher: rate(&small, "decipher")?,
            from_memory: rate(&large, "decipher")?,
            load: rate(&large, "load")?,
            seal: rate(&large, "seal")?,
            open: rate(&large, "open")?,
        });
    }
    println!(
        "{}, {CHUNK_BYTES}-byte blocks, GB per second of processor time: median (lowest to highest)",
        version.trim()
    );
    let values = |of: fn(&Round) -> f64| all.iter().map(of).collect::<Vec<_>>();
    let openssl = line("openssl speed -evp aes-256-gcm", values(|round| round.openssl));
    let decipher = line("decipher chunks, in the cache", values(|round| round.decipher));
    let from_memory = line("decipher chunks of 256 MiB into one place", values(|round| round.from_memory));
    let load = line("decipher 256 MiB into 256 MiB", values(|round| round.load));
    line("seal 256 MiB", values(|round| round.seal));
    line("open 256 MiB into fresh memory, overwritten", values(|round| round.open));
    let share = load / openssl;
    println!(
        "of openssl's speed: {share:.2} from memory into memory (goal {GOAL}), {:.2} into one place, {:.2} in the cache",
        from_memory / openssl,
        decipher / openssl
    );
    Ok(if GOAL <= share { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints a line of the table and gives back the median.
fn line(name: &str, mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let (low, median, high) = (values[0], values[values.len() / 2], values[values.len() - 1]);
    println!("  {name:44} {:6.2} ({:.2} to {:.2})", median / 1e9, low / 1e9, high / 1e9);
    median
}

/// What OpenSSL's own benchmark says, which counts the time of the processor.
fn openssl() -> Result<f64> {
    let mut command = Command::new("openssl");
    command.args(["speed", "-mr", "-evp", "aes-256-gcm", "-bytes", CHUNK_BYTES, "-seconds", "1"]);
    let printed = process::output(command.stderr(Stdio::null()))?;
    parse(&printed)
}

/// The rate in the machine-readable form: `+F:22:AES-256-GCM:6117916672.00`.
fn parse(printed: &str) -> Result<f64> {
    let Some(line) = printed.lines().find(|line| line.starts_with("+F:")) else {
        bail!("`openssl speed` printed no rate")
    };
    let rate = line.rsplit(':').next().and_then(|rate| rate.trim().parse::<f64>().ok());
    let rate = rate.with_context(|| format!("`openssl speed` printed {line:?}"))?;
    ensure!(rate.is_finite() && 0.0 < rate, "`openssl speed` printed {line:?}");
    Ok(rate)
}

#[cfg(test)]
mod tests;
