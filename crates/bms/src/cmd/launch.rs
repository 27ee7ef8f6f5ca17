//! `bms launch`: workers on machines that somebody else's scheduler hands out.

use std::path::PathBuf;
use std::time::Duration;

use bms_registry::{DatabaseUrl, Registry};
use bms_server::slurm::{self, Event, Settings};
use bms_store::Location;
use bms_wire::{Code, Error, Result};
use clap::{Args, Subcommand};
use serde_json::json;
use tokio::sync::watch;

use crate::cmd::serve::{init_log, told_to_stop};
use crate::home::Home;
use crate::output::Output;

/// Keep workers running on machines that a scheduler hands out.
#[derive(Debug, Args)]
pub(crate) struct Launch {
    #[command(subcommand)]
    how: How,
}

#[derive(Debug, Subcommand)]
enum How {
    /// As jobs of a Slurm cluster, each replaced before its walltime is over. Runs until told to stop; jobs stay then, and the
    /// next launcher of the group goes on with them. `--nodes 0` drains and cancels all of them, and ends.
    Slurm(Slurm),
}

/// Options of `bms launch slurm`.
#[derive(Debug, Args)]
struct Slurm {
    /// Workers that are wanted.
    #[arg(long, value_name = "N")]
    nodes: u32,
    /// Walltime of one job, as D-HH:MM:SS, HH:MM:SS, or a number with its unit such as 90m.
    #[arg(long, value_name = "TIME", default_value = "01:00:00", value_parser = walltime)]
    time: Duration,
    /// Name of the group, which no other launcher of this Slurm user has.
    #[arg(long, value_name = "NAME", default_value = "workers")]
    group: String,
    /// Partition of the jobs.
    #[arg(long, value_name = "NAME")]
    partition: Option<String>,
    /// Account that is charged.
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Quality of service.
    #[arg(long, value_name = "NAME")]
    qos: Option<String>,
    /// Memory of one job, such as 8G.
    #[arg(long, value_name = "SIZE", value_parser = mebibytes)]
    memory: Option<u64>,
    /// Processors of one job.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    cores: Option<u32>,
    /// How long before a job's end the next one is submitted [default: a tenth of the walltime and the drain].
    #[arg(long, value_name = "TIME", value_parser = walltime)]
    replace_before: Option<Duration>,
    /// How long a new job runs until the one before it is drained: what a worker takes to get ready [default: 30s].
    #[arg(long, value_name = "TIME", value_parser = walltime)]
    settle: Option<Duration>,
    /// How long a worker may take to drain [default: 60s].
    #[arg(long, value_name = "TIME", value_parser = walltime)]
    drain: Option<Duration>,
    /// Variable of this environment that workers get, too, such as one with their token; nothing else is passed on.
    #[arg(long, value_name = "NAME")]
    pass: Vec<String>,
    /// Option of sbatch, as one word: `--sbatch=--constraint=avx512`.
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    sbatch: Vec<String>,
    /// Folder on the nodes for what workers print [default: it is thrown away].
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Folder of Slurm's programs [default: the path].
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Time between two looks at the queue.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = walltime)]
    poll: Duration,
    /// The servers' PostgreSQL database: of several launchers of the group, one acts, under a lease there.
    #[arg(long, env = "BMS_DATABASE", hide_env_values = true, value_name = "URL")]
    database: Option<String>,
    /// The worker's command, behind `--`. `{job}`, `{host}` and `{seconds}` become the job's number, the node's name, and the
    /// seconds left of the walltime.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    worker: Vec<String>,
}

impl Launch {
    pub(crate) fn run(self, home: &Home, output: &Output) -> Result<()> {
        let How::Slurm(slurm) = self.how;
        slurm.run(home, output)
    }
}

impl Slurm {
    fn run(self, home: &Home, output: &Output) -> Result<()> {
        let settings = self.settings()?;
        settings.check()?;
        let (database, wanted) =
            (self.database.as_deref().map(str::parse::<DatabaseUrl>).transpose()?, self.nodes);
        init_log();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| {
            Error::new(Code::Internal, format!("failed to start the runtime: {e}")).because(e)
        })?;
        let output = *output;
        runtime.block_on(async {
            let registry = match &database {
                // The lease is all that is wanted of it: its files are none of the launcher's business.
                Some(database) => {
                    let data = home.dir()?.join("launcher");
                    Some(Registry::open_with(&data, Some(&Location::Memory), Some(database)).await?)
                }
                None => None,
            };
            let (_sender, wanted) = watch::channel(wanted);
            let shutdown = told_to_stop(false)?;
            slurm::run(settings, wanted, registry, move |event| tell(output, event), shutdown).await
        })
    }

    fn settings(&self) -> Result<Settings> {
        let mut settings = Settings::new(&self.group, self.worker.clone(), self.time);
        settings.drain = self.drain.unwrap_or(settings.drain);
        settings.settle = self.settle.unwrap_or(settings.settle);
        settings.replace_before = self.replace_before.unwrap_or(settings.replace_before);
        settings.partition = self.partition.clone();
        settings.account = self.account.clone();
        settings.qos = self.qos.clone();
        settings.memory_mib = self.memory;
        settings.cores = self.cores;
        settings.extra = self.sbatch.clone();
        settings.output = self.output.clone();
        settings.programs = self.programs.clone();
        settings.poll = self.poll;
        for name in &self.pass {
            let value = std::env::var(name).map_err(|e| {
                Error::new(Code::InvalidRequest, format!("the variable `{name}` cannot be passed on"))
                    .because(e)
            })?;
            settings.environment.push((name.clone(), value));
        }
        Ok(settings)
    }
}

/// One event as a line.
fn tell(output: Output, event: &Event) {
    let mut details = json!({});
    match event {
        Event::Submitted { job, name } => details = json!({"job": job, "name": name}),
        Event::Changed { job, name, state, node, why } => {
            details = json!({"job": job, "name": name, "state": state, "node": node, "why": why});
        }
        Event::Drained { job, why } | Event::Cancelled { job, why } => {
            details = json!({"job": job, "why": why})
        }
        Event::Refused { error, .. } | Event::Away { error, .. } => details = json!({"code": error.code()}),
        Event::Back | Event::Standby => {}
    }
    output.event(event.name(), event, details);
}

/// A time as Slurm writes it (`D-HH:MM:SS`, `HH:MM:SS`, `MM:SS`), or a number with its unit.
fn walltime(text: &str) -> std::result::Result<Duration, String> {
    let wrong = || "expected a time such as 01:00:00, 1-12:00:00, 90m or 30s".to_owned();
    let number = |text: &str| text.parse::<u64>().ok().filter(|number| *number <= u64::from(u32::MAX));
    let unit = |letter| {
        Some(match letter {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return None,
        })
    };
    let with_unit = text.chars().last().and_then(unit).map(|seconds| (seconds, &text[..text.len() - 1]));
    if let Some((seconds, count)) = with_unit {
        return number(count).map(|count| Duration::from_secs(count * seconds)).ok_or_else(wrong);
    }
    let (days, clock) = text.split_once('-').unwrap_or(("0", text));
    let parts: Option<Vec<u64>> = clock.split(':').map(number).collect();
    let seconds = match parts.as_deref() {
        Some([hours, minutes, seconds]) => hours * 3600 + minutes * 60 + seconds,
        Some([minutes, seconds]) => minutes * 60 + seconds,
        _ => return Err(wrong()),
    };
    number(days).map(|days| Duration::from_secs(days * 86_400 + seconds)).ok_or_else(wrong)
}

/// Memory in MiB: a number with M, G or T behind it, in powers of two.
fn mebibytes(text: &str) -> std::result::Result<u64, String> {
    let wrong = || "expected a size such as 512M or 8G".to_owned();
    let text = text.trim_end_matches("iB").trim_end_matches('B');
    let (number, mebibytes) = match text.chars().last() {
        Some('M') => (&text[..text.len() - 1], 1),
        Some('G') => (&text[..text.len() - 1], 1 << 10),
        Some('T') => (&text[..text.len() - 1], 1 << 20),
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(mebibytes).filter(|size| 0 < *size).ok_or_else(wrong)
}

#[cfg(test)]
mod tests;
