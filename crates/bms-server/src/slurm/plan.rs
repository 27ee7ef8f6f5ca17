//! What to do, given what the queue holds. Nothing here asks or waits, so that all of it is tested without a Slurm.

use std::collections::{BTreeMap, BTreeSet};

use super::queue::{Job, Phase, Tag};

/// Seconds before a seat is filled again after its job ended soon after it began; doubled with each further one.
const AGAIN_AFTER: u64 = 5;
/// The longest of these waits, in seconds.
const AGAIN_AFTER_MAX: u64 = 300;
/// A job that lived shorter than this many seconds ended soon.
const SOON: u64 = 60;

/// Times, in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) replace_before: u64,
    pub(super) settle: u64,
    pub(super) drain: u64,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Submit(Tag),
    /// Tell the worker to drain.
    Drain(u64, &'static str),
    /// End the job at once.
    Cancel(u64, &'static str),
}

/// What brings the group nearer to `wanted` workers. `jobs` are all that are known, those that ended as well; `now` is in
/// seconds since 1970.
pub(super) fn plan(jobs: &[Job], wanted: u32, now: u64, terms: Terms) -> Vec<Action> {
    let mut seats: BTreeMap<u32, Vec<&Job>> = (0..wanted).map(|seat| (seat, Vec::new())).collect();
    for job in jobs {
        seats.entry(job.tag.seat).or_default().push(job);
    }
    let mut actions = Vec::new();
    for (seat, jobs) in seats {
        let overdue = |job: &&&Job| job.draining_since.is_some_and(|since| since + terms.drain < now);
        let late = jobs.iter().filter(|job| job.is_active()).filter(overdue);
        actions.extend(late.map(|job| Action::Cancel(job.id, "it did not drain in time")));
        let holders: Vec<&Job> =
            jobs.iter().copied().filter(|job| job.is_active() && job.draining_since.is_none()).collect();
        match seat < wanted {
            true => actions.extend(fill(seat, &jobs, holders, now, terms)),
            false => {
                actions.extend(holders.into_iter().filter_map(|job| end(job, "it is not needed any more")))
            }
        }
    }
    actions
}

/// Ends a job in the way that fits it.
fn end(job: &Job, why: &'static str) -> Option<Action> {
    match job.phase {
        Phase::Waiting => Some(Action::Cancel(job.id, why)),
        Phase::Running => Some(Action::Drain(job.id, why)),
        Phase::Ending | Phase::Ended | Phase::Unknown => None,
    }
}

/// One seat that is wanted. `holders` are its jobs that are neither over nor draining.
fn fill(seat: u32, jobs: &[&Job], mut holders: Vec<&Job>, now: u64, terms: Terms) -> Vec<Action> {
    let mut actions = Vec::new();
    holders.sort_by_key(|job| (job.tag.generation, job.id));
    // The first of one name runs, the others wait for it: they were submitted twice.
    let mut names = BTreeSet::new();
    holders.retain(|job| {
        let first = names.insert(job.tag.generation);
        if !first {
            actions.push(Action::Cancel(job.id, "it was submitted twice"));
        }
        first
    });
    let generation = jobs.iter().map(|job| job.tag.generation + 1).max().unwrap_or(0);
    let next = Action::Submit(Tag { seat, generation });
    let Some((newest, older)) = holders.split_last() else {
        if may_submit(jobs, now) {
            actions.push(next);
        }
        return actions;
    };
    let is_due = newest.ends.is_some_and(|ends| ends <= now + terms.replace_before);
    if newest.phase == Phase::Running && is_due && may_submit(jobs, now) {
        actions.push(next);
    }
    let settled =
        newest.phase == Phase::Running && newest.starts.is_some_and(|starts| starts + terms.settle <= now);
    for job in older {
        match job.phase {
            _ if settled => actions.extend(end(job, "the next one is ready")),
            // It went back into the queue; the newer one was submitted in its place.
            Phase::Waiting => actions.push(Action::Cancel(job.id, "a newer one waits as well")),
            _ => {}
        }
    }
    actions
}

/// Whether the seat's last jobs lived long enough, or ended long enough ago, to try again.
fn may_submit(jobs: &[&Job], now: u64) -> bool {
    let mut ended: Vec<&&Job> = jobs.iter().filter(|job| !job.is_active()).collect();
    ended.sort_by_key(|job| std::cmp::Reverse(job.tag.generation));
    let lived_short = |job: &&&&Job| {
        let drained = job.draining_since.is_some();
        let lived = job.ends.unwrap_or(now).saturating_sub(job.starts.unwrap_or(job.ends.unwrap_or(now)));
        !drained && lived < SOON
    };
    let count = ended.iter().take_while(lived_short).count();
    let Some(last) = ended.first().filter(|_| 0 < count) else { return true };
    let doublings = u32::try_from(count - 1).unwrap_or(u32::MAX).min(16);
    let pause = AGAIN_AFTER.saturating_mul(1 << doublings).min(AGAIN_AFTER_MAX);
    last.ends.is_none_or(|ended| ended + pause <= now)
}

#[cfg(test)]
mod tests;
