//! What the launcher is told.

use std::path::PathBuf;
use std::time::Duration;

use bms_wire::{Code, Error, Result, limits};

/// Options of `sbatch` that are the launcher's own, long and short.
const OURS: &[&str] = &[
    "--job-name",
    "-J",
    "--comment",
    "--time",
    "-t",
    "--nodes",
    "-N",
    "--array",
    "-a",
    "--requeue",
    "--no-requeue",
    "--dependency",
    "-d",
    "--signal",
    "--parsable",
    "--wait",
    "-W",
    "--wrap",
    "--test-only",
    "--output",
    "-o",
    "--export",
];

/// One group of workers, all alike.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The group's name, which no other launcher of the same Slurm user has: lower-case letters, digits and `-`.
    pub group: String,
    /// Program and arguments of a worker. `{job}`, `{host}` and `{seconds}` in them become the job's number, the node's
    /// name and the seconds until the walltime is over.
    pub worker: Vec<String>,
    /// How long one job may run. Slurm counts in minutes.
    pub walltime: Duration,
    /// How long before the end of a job the next one is submitted.
    pub replace_before: Duration,
    /// How long a new job has to run until the one before it is drained: the time a worker takes to get ready.
    pub settle: Duration,
    /// How long a worker may take to drain; it is told so long before its walltime is over.
    pub drain: Duration,
    /// The partition, if not the cluster's default one.
    pub partition: Option<String>,
    /// The account that is charged, if not the user's default one.
    pub account: Option<String>,
    /// The quality of service, if not the default one.
    pub qos: Option<String>,
    /// Mebibytes of memory a job.
    pub memory_mib: Option<u64>,
    /// Processors a job.
    pub cores: Option<u32>,
    /// Further options of `sbatch`, each as one word (`--constraint=avx512`).
    pub extra: Vec<String>,
    /// Variables for the worker, such as its token. Nothing else of the launcher's environment gets there.
    pub environment: Vec<(String, String)>,
    /// A folder on the nodes for what workers print; it is thrown away when absent.
    pub output: Option<PathBuf>,
    /// Where Slurm's programs lie, when not on the path.
    pub programs: Option<PathBuf>,
    /// Time between two looks at the queue.
    pub poll: Duration,
}

impl Settings {
    /// Settings with times that fit the walltime.
    pub fn new(group: &str, worker: Vec<String>, walltime: Duration) -> Settings {
        let drain = Duration::from_secs(60).min(walltime / 4);
        // A queue may take a while; a tenth of the walltime, half an hour at most, is spent on two workers for one seat.
        let lead = (walltime / 10).clamp(Duration::from_secs(60), Duration::from_secs(1800));
        Settings {
            group: group.to_owned(),
            worker,
            walltime,
            replace_before: (drain + lead).min(walltime / 2),
            settle: Duration::from_secs(30).min(walltime / 8),
            drain,
            partition: None,
            account: None,
            qos: None,
            memory_mib: None,
            cores: None,
            extra: Vec::new(),
            environment: Vec::new(),
            output: None,
            programs: None,
            poll: Duration::from_secs(5),
        }
    }

    /// Refuses what cannot work.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] with what is wrong.
    pub fn check(&self) -> Result<()> {
        let refuse = |what: String| Err(Error::new(Code::InvalidRequest, what));
        if !is_group(&self.group) {
            return refuse(format!(
                "`{}` is no name of a group: up to 40 lower-case letters, digits and `-`, a letter first",
                self.group
            ));
        }
        if self.worker.is_empty() {
            return refuse("the worker has no command".to_owned());
        }
        let (least, most) = (limits::SLURM_WALLTIME_SECONDS_MIN, limits::SLURM_WALLTIME_SECONDS_MAX);
        if !(least..=most).contains(&self.walltime.as_secs()) {
            return refuse(format!(
                "a walltime is {least} to {most} seconds, not {}",
                self.walltime.as_secs()
            ));
        }
        if self.walltime < self.replace_before || self.replace_before < self.drain + self.settle {
            let times =
                [self.drain + self.settle, self.replace_before, self.walltime].map(|time| time.as_secs());
            return refuse(format!(
                "the next job is submitted {} s before the end: that has to lie between {} s, which settling and \
                 draining take, and the walltime of {} s",
                times[1], times[0], times[2]
            ));
        }
        if self.drain.as_secs() == 0 || u64::from(u16::MAX) < self.drain.as_secs() {
            return refuse(format!("a drain takes 1 to {} seconds", u16::MAX));
        }
        let words = self.worker.iter().chain(&self.extra).chain(self.words());
        if let Some(word) = words.into_iter().find(|word| word.chars().any(char::is_control)) {
            return refuse(format!("{word:?} has control characters"));
        }
        for option in &self.extra {
            let name = option.split('=').next().unwrap_or_default();
            // Short options may have their value behind them: `-Jname`.
            let is_ours = |ours: &&&str| match ours.starts_with("--") {
                true => name == **ours,
                false => !option.starts_with("--") && option.starts_with(**ours),
            };
            if let Some(ours) = OURS.iter().find(is_ours) {
                return refuse(format!("`{ours}` of sbatch is the launcher's own"));
            }
            if !option.starts_with('-') {
                return refuse(format!(
                    "`{option}` is no option; write a value behind `=`: `--constraint=avx512`"
                ));
            }
        }
        let is_name = |name: &str| {
            !name.starts_with(|c: char| c.is_ascii_digit())
                && !name.is_empty()
                && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
        };
        match self.environment.iter().find(|(name, value)| !is_name(name) || value.contains('\0')) {
            Some((name, _)) => refuse(format!("`{name}` is no variable that a worker can be given")),
            None => Ok(()),
        }
    }

    fn words(&self) -> impl Iterator<Item = &String> {
        [&self.partition, &self.account, &self.qos].into_iter().flatten()
    }
}

fn is_group(name: &str) -> bool {
    name.len() <= 40
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
}

#[cfg(test)]
mod tests;
