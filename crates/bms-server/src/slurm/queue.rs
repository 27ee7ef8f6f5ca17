//! What `squeue --json` says of our jobs.
//!
//! The form changed: up to 22.05 a job's state is a word and times are numbers; from 23.02 on states are lists of words and
//! numbers come as `{"set": …, "infinite": …, "number": …}`. Both are read.

use bms_wire::{Code, Error, Result};
use serde_json::Value;

/// What stands before the group in a job's name.
const PREFIX: &str = "bms";
/// What a job's comment begins with once it was told to drain; seconds since 1970 follow.
const DRAINING: &str = "bms draining since ";
/// What `squeue` says instead of a number that is not there.
const NO_TIME: u64 = 0xFFFF_FFFE;

/// Which job of a group: the seat it has, and the how-manieth on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tag {
    pub(super) seat: u32,
    pub(super) generation: u32,
}

impl Tag {
    /// The job's name.
    pub(super) fn name(self, group: &str) -> String {
        format!("{PREFIX}.{group}.{}.{}", self.seat, self.generation)
    }

    /// The tag in a name that is exactly one of ours.
    pub(super) fn read(name: &str, group: &str) -> Option<Tag> {
        let (seat, generation) = name
            .strip_prefix(PREFIX)?
            .strip_prefix('.')?
            .strip_prefix(group)?
            .strip_prefix('.')?
            .split_once('.')?;
        let tag = Tag { seat: seat.parse().ok()?, generation: generation.parse().ok()? };
        // No other spelling of the same numbers.
        (tag.name(group) == name).then_some(tag)
    }
}

/// The comment of a job that was told to drain.
pub(super) fn draining_comment(now: u64) -> String {
    format!("{DRAINING}{now}")
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not started yet, whatever it waits for.
    Waiting,
    Running,
    /// Over but for the cleaning up.
    Ending,
    Ended,
    /// A state this program does not know: nothing is done about it.
    Unknown,
}

/// A job of ours. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) tag: Tag,
    pub(super) phase: Phase,
    /// Slurm's words.
    pub(super) state: String,
    pub(super) reason: String,
    pub(super) node: String,
    pub(super) starts: Option<u64>,
    pub(super) ends: Option<u64>,
    pub(super) draining_since: Option<u64>,
}

impl Job {
    /// Whether it may still do something.
    pub(super) fn is_active(&self) -> bool {
        matches!(self.phase, Phase::Waiting | Phase::Running | Phase::Unknown)
    }
}

/// The jobs of a group of one user among all that are listed.
///
/// # Errors
/// [`Code::Unavailable`] when it is no list of jobs: nothing may be concluded from it.
pub(super) fn read(text: &[u8], group: &str, user: u32) -> Result<Vec<Job>> {
    let unreadable = || {
        Error::new(Code::Unavailable, "`squeue --json` printed something that is no list of jobs").hint(
            "Slurm 21.08 or newer with its JSON plugin is needed (`slurm-wlm-basic-plugins` on Debian).",
        )
    };
    let listing: Value = serde_json::from_slice(text).map_err(|e| unreadable().because(e))?;
    let complaints = listing["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !complaints.is_empty() {
        let first = complaints[0]["description"].as_str().or(complaints[0]["error"].as_str());
        return Err(Error::new(
            Code::Unavailable,
            format!("squeue: {}", first.unwrap_or("an error without words")),
        ));
    }
    let jobs = listing["jobs"].as_array().ok_or_else(unreadable)?;
    let mut ours: Vec<Job> = jobs.iter().filter_map(|job| one(job, group, user)).collect();
    ours.sort_by_key(|job| (job.tag, job.id));
    Ok(ours)
}

fn one(job: &Value, group: &str, user: u32) -> Option<Job> {
    if number(&job["user_id"])? != u64::from(user) {
        return None;
    }
    let tag = Tag::read(job["name"].as_str()?, group)?;
    let text = |field: &str| job[field].as_str().unwrap_or_default().to_owned();
    let words = words(&job["job_state"]);
    let time = |field: &str| number(&job[field]).filter(|time| *time != 0);
    Some(Job {
        id: number(&job["job_id"])?,
        tag,
        phase: phase(&words),
        state: words.join("+"),
        reason: text("state_reason"),
        node: text("nodes"),
        starts: time("start_time"),
        ends: time("end_time"),
        draining_since: job["comment"].as_str().and_then(|c| c.strip_prefix(DRAINING)?.parse().ok()),
    })
}

/// The words of a state: one, or a list.
fn words(state: &Value) -> Vec<&str> {
    match state {
        Value::String(word) => vec![word.as_str()],
        Value::Array(words) => words.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Base states and flags of <https://slurm.schedmd.com/job_state_codes.html>.
fn phase(words: &[&str]) -> Phase {
    let any = |of: &[&str]| words.iter().any(|word| of.contains(word));
    if any(&["COMPLETING", "STAGE_OUT"]) {
        return Phase::Ending;
    }
    // One that goes back into the queue has the state of its last run beside the flag.
    if any(&[
        "REQUEUED",
        "REQUEUE_HOLD",
        "REQUEUE_FED",
        "SPECIAL_EXIT",
        "RESV_DEL_HOLD",
        "CONFIGURING",
        "POWER_UP_NODE",
    ]) {
        return Phase::Waiting;
    }
    let ended = [
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "LAUNCH_FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
    ];
    match () {
        () if any(&ended) => Phase::Ended,
        () if any(&["PENDING"]) => Phase::Waiting,
        () if any(&["RUNNING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING"]) => Phase::Running,
        () => Phase::Unknown,
    }
}

/// A number in either form; `None` when it is not set or has no end.
fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Object(of) if of.get("set") == Some(&Value::Bool(false)) => None,
        Value::Object(of) if of.get("infinite") == Some(&Value::Bool(true)) => None,
        Value::Object(of) => of.get("number")?.as_u64(),
        _ => value.as_u64().filter(|number| *number < NO_TIME || u64::from(u32::MAX) < *number),
    }
}

#[cfg(test)]
mod tests;
