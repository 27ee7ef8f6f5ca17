//! Slurm's words for why a job waits or ended, as sentences that say what to do.

use super::queue::{Job, Phase};

/// Why a job waits, by what the word begins with: <https://slurm.schedmd.com/job_reason_codes.html>.
const WAITS: &[(&str, &str)] = &[
    ("Resources", "it is next, once nodes are free"),
    ("Priority", "others are before it in the queue"),
    ("None", "Slurm has not looked at it yet"),
    ("Dependency", "another job of its name has not ended yet"),
    ("BeginTime", "its time has not come"),
    ("JobHeldUser", "somebody holds it: `scontrol release JOB` lets it go"),
    ("JobHeldAdmin", "an administrator holds it"),
    ("PartitionTimeLimit", "the walltime is longer than the partition allows: give a shorter one"),
    ("PartitionNodeLimit", "the partition allows no job of this size"),
    ("PartitionDown", "the partition is down"),
    ("PartitionInactive", "the partition takes no jobs now"),
    ("ReqNodeNotAvail", "nodes it needs are down, drained or reserved"),
    ("BadConstraints", "no node can ever be what is asked for: look at memory, cores and constraints"),
    ("InvalidAccount", "the account does not exist or may not be used"),
    ("InvalidQOS", "the quality of service does not exist or may not be used"),
    ("QOSNotAllowed", "the quality of service may not be used here"),
    ("AccountNotAllowed", "the account may not use this partition"),
    ("Licenses", "it waits for a licence"),
    ("Reservation", "it waits for its reservation"),
    ("NodeDown", "a node it needs is down"),
    (
        "launch failed requeued held",
        "it could not be started and is held: look at the node, then `scontrol release JOB`",
    ),
    ("Max", "a limit of the user, account or partition is reached"),
    ("QOS", "a limit of the quality of service is reached"),
    ("Assoc", "a limit of the user or account is reached"),
];

/// How a job ended, by the word in its state.
const ENDED: &[(&str, &str)] = &[
    ("NODE_FAIL", "its node failed"),
    ("PREEMPTED", "it had to make room for a job of higher priority"),
    ("TIMEOUT", "its walltime was over before it had drained"),
    ("OUT_OF_MEMORY", "it used more memory than it asked for: give --memory more"),
    ("BOOT_FAIL", "its node did not start"),
    ("LAUNCH_FAILED", "it could not be started on its node"),
    ("DEADLINE", "it could not end before its deadline"),
    ("CANCELLED", "somebody cancelled it"),
    ("COMPLETED", "its worker ended as told"),
    ("FAILED", "its worker ended with an error: look at its output"),
    ("GONE", "Slurm has forgotten it"),
];

/// What there is to say of a job beyond its state.
pub(super) fn sentence(job: &Job) -> Option<String> {
    let word = match job.phase {
        Phase::Waiting => WAITS.iter().find(|(word, _)| job.reason.starts_with(word)),
        Phase::Ending | Phase::Ended => {
            ENDED.iter().find(|(word, _)| job.state.split('+').any(|w| w == *word))
        }
        Phase::Running | Phase::Unknown => None,
    };
    match word {
        Some((_, sentence)) => Some((*sentence).to_owned()),
        None if job.phase == Phase::Waiting && !job.reason.is_empty() => {
            Some(format!("Slurm says: {}", job.reason))
        }
        None => None,
    }
}
