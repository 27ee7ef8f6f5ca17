//! What a slot's process says of its own work, and whether that moves.
//!
//! The rule of the watchdog, without processes and clocks: `docs/adr/0020-a-slot-is-hung-when-nothing-moves.md`.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bms_engine::Progress;
use serde::{Deserialize, Serialize};

/// How a line on a process's standard output begins that is a report.
const REPORT: &[u8] = b"{\"progress\":";

/// The share of one processor a process must use to count as computing.
const BUSY_SHARE: f64 = 0.05;

/// One line a slot prints again and again, from a thread that does nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    progress: Counts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Counts {
    steps: u64,
    waiting: u64,
}

impl From<Progress> for Report {
    fn from(Progress { steps, waiting }: Progress) -> Self {
        Report { progress: Counts { steps, waiting } }
    }
}

/// The last report of one process.
#[derive(Debug, Default)]
pub(crate) struct Reports(Mutex<Option<(Instant, Progress)>>);

impl Reports {
    /// Takes a line the process printed, when it is a report.
    pub(crate) fn hear(&self, line: &[u8]) {
        if !line.starts_with(REPORT) {
            return;
        }
        if let Ok(Report { progress: Counts { steps, waiting } }) = serde_json::from_slice(line) {
            let heard = Some((Instant::now(), Progress { steps, waiting }));
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = heard;
        }
    }

    /// What it said last.
    pub(crate) fn last(&self) -> Option<Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).map(|(_, progress)| progress)
    }

    /// Whether it said anything in this time.
    pub(crate) fn heard_within(&self, time: Duration) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|(at, _)| at.elapsed() < time)
    }
}

/// What is seen of a process at one look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// Requests wait for it.
    pub(crate) waits: bool,
    /// How long ago an answer, a piece of one or a step came, or the first of the waiting requests.
    pub(crate) moved_ago: Duration,
    /// Processor time it has used since its start.
    pub(crate) used: Duration,
    /// Times it has waited for a page from disk since its start.
    pub(crate) faults: u64,
    /// One of its threads would go on if it got a processor or what it reads from disk.
    pub(crate) would_run: bool,
}

/// Why a process is to be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Requests wait, and for so long there was neither an answer nor a step nor work.
    Hung(Duration),
    /// Requests wait, it computes, and for so long there was neither an answer nor a step.
    Spinning(Duration),
}

/// Follows one process.
#[derive(Debug)]
pub(crate) struct Watchdog {
    hung_after: Duration,
    spinning_after: Duration,
    looked: Instant,
    worked: Instant,
    used: Duration,
    faults: u64,
}

impl Watchdog {
    pub(crate) fn new(hung_after: Duration, spinning_after: Duration, now: Instant) -> Self {
        let spinning_after = spinning_after.max(hung_after);
        Watchdog { hung_after, spinning_after, looked: now, worked: now, used: Duration::ZERO, faults: 0 }
    }

    /// Takes a look into account. Gives for how long nothing has moved or worked, zero when nothing waits, and the
    /// verdict if there is one.
    pub(crate) fn look(&mut self, seen: Seen, now: Instant) -> (Duration, Option<Verdict>) {
        let passed = now.saturating_duration_since(self.looked);
        let computed = passed.mul_f64(BUSY_SHARE) < seen.used.saturating_sub(self.used);
        // A look that comes late was kept from looking by something that may have kept the process from working.
        let is_late = self.hung_after / 2 < passed;
        if computed || self.faults < seen.faults || seen.would_run || is_late {
            self.worked = now;
        }
        (self.looked, self.used, self.faults) = (now, seen.used, seen.faults);
        if !seen.waits {
            return (Duration::ZERO, None);
        }
        let quiet = seen.moved_ago.min(now.saturating_duration_since(self.worked));
        let hung = (self.hung_after <= quiet).then_some(Verdict::Hung(quiet));
        let spins = self.spinning_after <= seen.moved_ago;
        (quiet, hung.or(spins.then_some(Verdict::Spinning(seen.moved_ago))))
    }
}

#[cfg(test)]
mod tests;
