//! How fast a model answers while it is busy, so that who would wait in vain is told at once.
//!
//! Without this a slow model with a long queue answers nobody in time: whoever reaches its slot has waited for most of the
//! time allowed. What is refused early costs nothing, and the others are answered.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Over how long answers are counted at least; they come in batches.
const WINDOW: Duration = Duration::from_millis(250);
/// Answers that are counted at least: a few that come after something stood still are no pace.
const ANSWERS_MIN: u32 = 8;
/// Percent of the time allowed that waiting may take, as far as is known.
const WAIT_PERCENT: u32 = 80;

/// The pace of one model.
#[derive(Debug)]
pub(super) struct Pace(Mutex<Beat>);

#[derive(Debug)]
struct Beat {
    open: usize,
    /// Since when answers are counted: since an answer, so that of a batch either all or one count.
    since: Option<Instant>,
    answers: u32,
    /// Answers a second; unknown at first, and again once nothing is open.
    rate: Option<f64>,
}

impl Pace {
    pub(super) fn new() -> Self {
        Pace(Mutex::new(Beat { open: 0, since: None, answers: 0, rate: None }))
    }

    fn beat(&self) -> MutexGuard<'_, Beat> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much too long one more request would wait that has this much time, when it would.
    pub(super) fn excess(&self, allowed: Duration) -> Option<Duration> {
        let beat = self.beat();
        let wait = beat.open as f64 / beat.rate?;
        let wait = Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX);
        wait.checked_sub(allowed * WAIT_PERCENT / 100).filter(|excess| !excess.is_zero())
    }

    pub(super) fn entered(&self) {
        self.beat().open += 1;
    }

    /// A slot was lost: how fast it was, and how long it stood still, says nothing of what follows.
    pub(super) fn forget(&self) {
        let mut beat = self.beat();
        (beat.since, beat.answers, beat.rate) = (None, 0, None);
    }

    pub(super) fn left(&self, now: Instant) {
        let mut beat = self.beat();
        beat.open = beat.open.saturating_sub(1);
        if beat.open == 0 {
            // What follows is another time.
            (beat.since, beat.answers, beat.rate) = (None, 0, None);
            return;
        }
        let Some(since) = beat.since else {
            beat.since = Some(now);
            return;
        };
        beat.answers += 1;
        let took = now.saturating_duration_since(since);
        if WINDOW <= took && ANSWERS_MIN <= beat.answers {
            let rate = f64::from(beat.answers) / took.as_secs_f64();
            beat.rate = Some(beat.rate.map_or(rate, |before| (before + rate) / 2.0));
            (beat.since, beat.answers) = (Some(now), 0);
        }
    }
}

#[cfg(test)]
mod tests;
