//! What was heard.

use std::collections::BTreeMap;
use std::time::Duration;

use bms_wire::{Code, Error, Result};
use hdrhistogram::Histogram;

/// Digits of a time that count.
const DIGITS: u8 = 3;
/// The longest time that is told from longer ones.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Seconds of the course that are kept; longer ones are added to the last.
const COURSE_SECONDS_MAX: usize = 24 * 3600;

/// Times, counted by their length.
#[derive(Clone, Debug)]
pub(super) struct Times(Histogram<u64>);

impl Times {
    /// # Errors
    /// None; the bounds are constants.
    pub(super) fn new() -> Result<Times> {
        let longest = LONGEST.as_nanos() as u64;
        let histogram = Histogram::new_with_max(longest, DIGITS);
        histogram.map(Times).map_err(|e| Error::new(Code::Internal, "times cannot be counted").because(e))
    }

    pub(super) fn add(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> u64 {
        self.0.len()
    }

    /// In milliseconds: that which so many of a hundred do not exceed.
    pub(super) fn percentile(&self, percent: f64) -> f64 {
        self.0.value_at_percentile(percent) as f64 / 1e6
    }

    /// In milliseconds.
    pub(super) fn mean(&self) -> f64 {
        self.0.mean() / 1e6
    }

    /// In milliseconds.
    pub(super) fn max(&self) -> f64 {
        self.0.max() as f64 / 1e6
    }

    /// Upper bound in milliseconds and number of each class that is not empty.
    pub(super) fn classes(&self) -> impl Iterator<Item = (f64, u64)> {
        // Ten classes for each factor of ten are enough to draw them.
        let steps = self.0.iter_log(1_000, 10f64.powf(0.1));
        steps
            .map(|step| (step.value_iterated_to() as f64 / 1e6, step.count_since_last_iteration()))
            .filter(|c| 0 < c.1)
    }
}

/// One second of the measurement.
#[derive(Clone, Debug, Default)]
pub(super) struct Second {
    pub(super) answered: u64,
    pub(super) refused: u64,
    pub(super) failed: u64,
    /// The longest answer that arrived in it.
    pub(super) longest: Duration,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// An answer with status 200.
    Answered(Streamed),
    /// The server said that it has no room, or not yet.
    Refused(u16),
    /// Anything else, in a few words.
    Failed(String),
}

/// When the parts of a streamed answer came, from when the request was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Streamed {
    pub(super) first: Option<Duration>,
    pub(super) gaps: Vec<Duration>,
    pub(super) tokens: u64,
}

/// The whole measurement.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// Of answers, from when their requests were due.
    pub(super) latency: Times,
    /// Of refusals.
    pub(super) refusal: Times,
    /// Until the first token, from when the request was due.
    pub(super) first_token: Times,
    /// Between tokens.
    pub(super) gap: Times,
    /// How long requests of an open loop waited for a connection.
    pub(super) waited: Times,
    /// Answers that came in time.
    pub(super) good: u64,
    pub(super) tokens: u64,
    /// Requests that were answered although they had to be sent more than once.
    pub(super) moved: u64,
    /// Times a request was sent again.
    pub(super) sent_again: u64,
    /// Times one request was sent at most.
    pub(super) sent_most: u32,
    pub(super) refused: BTreeMap<u16, u64>,
    pub(super) failed: BTreeMap<String, u64>,
    pub(super) course: Vec<Second>,
    /// How long was measured.
    pub(super) took: Duration,
    /// The share of one processor that this program used meanwhile.
    pub(super) own_share: f64,
}

impl Tally {
    /// # Errors
    /// None; the bounds are constants.
    pub(super) fn new() -> Result<Tally> {
        Ok(Tally {
            latency: Times::new()?,
            refusal: Times::new()?,
            first_token: Times::new()?,
            gap: Times::new()?,
            waited: Times::new()?,
            good: 0,
            tokens: 0,
            moved: 0,
            sent_again: 0,
            sent_most: 0,
            refused: BTreeMap::new(),
            failed: BTreeMap::new(),
            course: Vec::new(),
            took: Duration::ZERO,
            own_share: 0.0,
        })
    }

    /// Notes what became of a request that was due `since_start` and took `latency`; `waited` of it for a connection.
    pub(super) fn note(
        &mut self,
        outcome: Outcome,
        arrived: Duration,
        latency: Duration,
        waited: Duration,
        good: bool,
    ) {
        let second = usize::try_from(arrived.as_secs()).unwrap_or(usize::MAX).min(COURSE_SECONDS_MAX);
        if self.course.len() <= second {
            self.course.resize(second + 1, Second::default());
        }
        let course = &mut self.course[second];
        self.waited.add(waited);
        match outcome {
            Outcome::Answered(streamed) => {
                self.latency.add(latency);
                self.good += u64::from(good);
                self.tokens += streamed.tokens;
                streamed.first.into_iter().for_each(|first| self.first_token.add(waited + first));
                streamed.gaps.into_iter().for_each(|gap| self.gap.add(gap));
                course.answered += 1;
                course.longest = course.longest.max(latency);
            }
            Outcome::Refused(status) => {
                self.refusal.add(latency.saturating_sub(waited));
                *self.refused.entry(status).or_default() += 1;
                course.refused += 1;
            }
            Outcome::Failed(why) => {
                *self.failed.entry(why).or_default() += 1;
                course.failed += 1;
            }
        }
    }

    /// Notes how often a request was sent.
    pub(super) fn note_sent(&mut self, outcome: &Outcome, sent: u32) {
        self.moved += u64::from(1 < sent && matches!(outcome, Outcome::Answered(_)));
        self.sent_again += u64::from(sent.saturating_sub(1));
        self.sent_most = self.sent_most.max(sent);
    }

    /// Answers, refusals and failures together.
    pub(super) fn requests(&self) -> u64 {
        self.latency.len() + self.refusal.len() + self.failures()
    }

    pub(super) fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// So many in a second.
    pub(super) fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// The error when no request was answered.
    pub(super) fn why_none(&self) -> Error {
        let most = self.failed.iter().max_by_key(|(_, count)| **count).map(|(why, _)| why.clone());
        let refused = || self.refused.keys().next().map(|status| format!("it answers with status {status}"));
        let why = most.or_else(refused).unwrap_or_else(|| "nothing was asked in the time given".to_owned());
        Error::new(Code::Unavailable, format!("no request was answered: {why}"))
    }
}
