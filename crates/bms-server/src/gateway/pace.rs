//! How fast a model answers while it is busy, so that who would wait in vain is told at once.
//!
//! Without this a slow model with a long queue answers nobody in time: whoever reaches its slot has waited for most of the
//! time allowed. What is refused early costs nothing, and the others are answered.
//!
//! Of tensors whole answers are counted. Of language models it is beginnings, the first piece of a stream or a document: who is open
//! is who waits for that, and in a full engine as many begin as end. An engine that has just been idle begins many at once, until it is full; then
//! the time in which others are written and none begins counts as well.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Over how long answers are counted at least; they come in batches.
const WINDOW: Duration = Duration::from_millis(250);
/// Answers that are counted at least: a few that come after something stood still are no pace.
const ANSWERS_MIN: u32 = 8;
/// Beginnings that are counted at least: language models answer one by one, and each may take long.
const BEGINNINGS_MIN: u32 = 4;
/// Percent of the time allowed that waiting may take, as far as is known.
const WAIT_PERCENT: u32 = 80;

/// The pace of one model.
#[derive(Debug)]
pub(super) struct Pace {
    answers_min: u32,
    beat: Mutex<Beat>,
}

#[derive(Debug, Default)]
struct Beat {
    open: usize,
    /// Since when answers are counted: since an answer, so that of a batch either all or one count.
    since: Option<Instant>,
    answers: u32,
    /// When something was written last, of an answer that has begun.
    moved: Option<Instant>,
    /// Answers a second; unknown at first, and again once nothing is open.
    rate: Option<f64>,
}

impl Beat {
    /// How fast it was says nothing of what follows.
    fn forget(&mut self) {
        *self = Beat { open: self.open, ..Beat::default() };
    }

    /// Answers a second: no more than while others were written of late.
    fn rate(&self) -> Option<f64> {
        let rate = self.rate?;
        let took = match (self.since, self.moved) {
            (Some(since), Some(moved)) => moved.saturating_duration_since(since),
            _ => Duration::ZERO,
        };
        let of_late = f64::from(self.answers + 1) / took.as_secs_f64();
        Some(if WINDOW <= took { rate.min(of_late) } else { rate })
    }
}

impl Pace {
    /// Of a model that answers with tensors.
    pub(super) fn of_answers() -> Self {
        Pace { answers_min: ANSWERS_MIN, beat: Mutex::default() }
    }

    /// Of a language model.
    pub(super) fn of_beginnings() -> Self {
        Pace { answers_min: BEGINNINGS_MIN, beat: Mutex::default() }
    }

    fn beat(&self) -> MutexGuard<'_, Beat> {
        self.beat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much too long one more request would wait that has this much time, when it would.
    pub(super) fn excess(&self, allowed: Duration) -> Option<Duration> {
        let beat = self.beat();
        let wait = beat.open as f64 / beat.rate()?;
        let wait = Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX);
        wait.checked_sub(allowed * WAIT_PERCENT / 100).filter(|excess| !excess.is_zero())
    }

    pub(super) fn entered(&self) {
        self.beat().open += 1;
    }

    /// A slot was lost: how fast it was, and how long it stood still, says nothing of what follows.
    pub(super) fn forget(&self) {
        self.beat().forget();
    }

    /// Something was written of an answer that has begun.
    pub(super) fn moved(&self, now: Instant) {
        self.beat().moved = Some(now);
    }

    /// One that was not answered is open no longer.
    pub(super) fn gave_up(&self) {
        let mut beat = self.beat();
        beat.open = beat.open.saturating_sub(1);
        if beat.open == 0 {
            beat.forget();
        }
    }

    pub(super) fn left(&self, now: Instant) {
        let mut beat = self.beat();
        beat.open = beat.open.saturating_sub(1);
        if beat.open == 0 {
            // What follows is another time.
            beat.forget();
            return;
        }
        let Some(since) = beat.since else {
            beat.since = Some(now);
            return;
        };
        beat.answers += 1;
        let took = now.saturating_duration_since(since);
        if WINDOW <= took && self.answers_min <= beat.answers {
            let rate = f64::from(beat.answers) / took.as_secs_f64();
            beat.rate = Some(beat.rate.map_or(rate, |before| (before + rate) / 2.0));
            (beat.since, beat.answers) = (Some(now), 0);
        }
    }
}

#[cfg(test)]
mod tests;
