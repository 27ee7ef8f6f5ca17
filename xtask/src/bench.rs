//! `cargo xtask bench guard`: what becomes of bits that flip in loaded weights, and what looking for them costs.
//!
//! `cargo xtask bench llm`: our language-model engine and llama.cpp on the same model, machine and minutes.
//!
//! `cargo xtask bench endurance`: two replicas under load while slots, replicas and their database die.
//!
//! `cargo xtask bench inference`: what serving a tiny model takes, of our server and of Python ones.
//!
//! `cargo xtask bench overload`: what a server still does when it is asked for ten times what it can do.
//!
//! A shared machine is never quiet twice, so the two take turns, a round at a time, each round in the other order than
//! the one before; what is compared are the ratios of a round. What the machine itself can do is measured in the same
//! run, so that speed is also a fraction of the possible.

mod endurance;
mod guard;
mod http;
mod inference;
mod load;
mod memory;
mod ours;
mod overload;
mod peer;
mod prompts;
mod report;
mod scan;
mod seal;
mod serve;
mod server;
mod store;
mod work;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};

use self::ours::Ours;
use self::peer::LlamaCpp;
use self::report::Report;
use self::work::Work;
use crate::arguments::Arguments;

/// Rounds when nobody says how many: enough for a median that one disturbed round does not move.
const ROUNDS: usize = 5;

/// What was asked for.
/// The benchmarks there are.
const NAMES: &str = "`endurance`, `guard`, `inference`, `llm`, `overload`, `scan`, `seal` and `store`";

struct Plan {
    model: PathBuf,
    threads: usize,
    rounds: usize,
    works: Vec<Work>,
}

pub(crate) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    match arguments.command().as_deref() {
        Some("endurance") => endurance::run(arguments),
        Some("guard") => guard::run(arguments),
        Some("inference") => inference::run(arguments),
        Some("llm") => llm(arguments),
        Some("overload") => overload::run(arguments),
        Some("scan") => scan::run(arguments),
        Some("seal") => seal::run(arguments),
        Some("store") => store::run(arguments),
        Some(other) => bail!("there is no benchmark `{other}`; there are {NAMES}"),
        None => bail!("name a benchmark: {NAMES}"),
    }
}

fn llm(mut arguments: Arguments) -> Result<ExitCode> {
    let model = arguments.value("--model")?.context("`--model FILE` is needed")?;
    let peer = arguments.value("--llama-cpp")?;
    let program = arguments.value("--program")?;
    let threads = number(arguments.value("--threads")?, "--threads")?;
    let rounds = number(arguments.value("--rounds")?, "--rounds")?.unwrap_or(ROUNDS);
    let works = Work::parse_list(arguments.value("--only")?.as_deref())?;
    let json = arguments.flag("--json");
    arguments.finish()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let plan = Plan { model: std::path::absolute(&model)?, threads: threads.unwrap_or(cores), rounds, works };
    ensure!(plan.model.exists(), "there is no `{model}`");
    let ours = Ours::find(program.map(PathBuf::from))?;
    let peer = peer.map(|dir| LlamaCpp::find(&PathBuf::from(dir))).transpose()?;
    let report = measure(&plan, &ours, peer.as_ref())?;
    match json {
        true => println!("{}", report.json()?),
        false => print!("{}", report.text()),
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn number(value: Option<String>, name: &str) -> Result<Option<usize>> {
    let parse = |text: String| match text.parse() {
        Ok(number) if 0 < number => Ok(number),
        _ => bail!("`{name}` needs a whole number above zero, not `{text}`"),
    };
    value.map(parse).transpose()
}

/// Everything, a round at a time.
fn measure(plan: &Plan, ours: &Ours, peer: Option<&LlamaCpp>) -> Result<Report> {
    progress(format_args!("measuring the machine"));
    let (machine, model) = (ours.machine(plan.threads)?, ours.describe(plan)?);
    let vocab = model["vocab"].as_u64().and_then(|vocab| u32::try_from(vocab).ok());
    let mut served = serve::Served::new(plan, vocab.context("`bms bench llm` gave no vocabulary")?);
    let mut report = Report::new(plan, machine, model, peer.is_some());
    for round in 0..plan.rounds {
        progress(format_args!("round {} of {}, load {}", round + 1, plan.rounds, memory::load_average()));
        // Whoever goes second finds the machine warm; they take turns at that, too.
        let order = if round % 2 == 0 { [true, false] } else { [false, true] };
        for our_turn in order {
            match (our_turn, peer) {
                (true, _) => {
                    report.add(true, ours.direct(plan)?);
                    report.add(true, served.round(round, ours, plan)?);
                }
                (false, Some(peer)) => {
                    report.add(false, peer.direct(plan)?);
                    report.add(false, served.round(round, peer, plan)?);
                }
                (false, None) => {}
            }
        }
    }
    Ok(report)
}

/// A line of progress, away from the result.
fn progress(text: std::fmt::Arguments<'_>) {
    eprintln!("{text}");
}

#[cfg(test)]
mod tests;
