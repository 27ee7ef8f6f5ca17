//! How many slots one version has now and shall have: the control law of [`crate::autoscale`] with the clock, what is
//! counted and what is known of memory around it.

use std::collections::VecDeque;
use std::time::Duration;

use bms_wire::api::Scale;
use tokio::time::Instant;

use super::load::Load;
use super::memory::About;
use crate::autoscale::{Law, Seen, Terms};

/// The time over which answers are counted.
const RATE_OVER: Duration = Duration::from_secs(3);

/// What one version's slots say of their engines.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Engines {
    /// Seconds a request waits in them.
    pub(super) queue_seconds: f64,
    /// Tokens read and written in a second.
    pub(super) tokens: f64,
}

/// How many slots one version shall have.
#[derive(Debug)]
pub(super) struct Scaling {
    pub(super) scale: Scale,
    law: Law,
    began: Instant,
    /// Answers so far, lately.
    answered: VecDeque<(Instant, u64)>,
    pub(super) engines: Engines,
    /// What a slot is expected to take, or the most that one took.
    pub(super) need: u64,
    /// What its operator keeps for one at least.
    pub(super) asked: u64,
    /// That is what one took.
    pub(super) is_measured: bool,
    /// There is no memory for a slot that is wanted: since when, and what is said of it.
    pub(super) lack: Option<(Instant, String)>,
}

impl Scaling {
    pub(super) fn new(scale: Scale, slots: usize, about: Option<&About>, kv_bytes: Option<u64>) -> Self {
        Scaling {
            scale,
            law: Law::new(slots),
            began: Instant::now(),
            answered: VecDeque::new(),
            engines: Engines::default(),
            need: about.map_or(0, |about| about.expected(kv_bytes)),
            asked: 0,
            is_measured: false,
            lack: None,
        }
    }

    fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// How many slots are wanted since the last look.
    pub(super) fn wanted(&self) -> usize {
        self.law.wanted()
    }

    /// Has at least so many wanted, within what is allowed.
    pub(super) fn raise_to(&mut self, slots: usize) {
        let now = self.now();
        self.law.raise_to(slots.min(self.scale.max_slots as usize), now);
    }

    /// The last slots went, for others that need their memory: nobody asked for them.
    pub(super) fn put_to_sleep(&mut self) {
        self.law = Law::new(0);
        self.began = Instant::now();
    }

    /// Has the law look at how things stand.
    pub(super) fn look(&mut self, load: &Load, ready: usize, start: Duration) -> usize {
        let now = Instant::now();
        self.answered.push_back((now, load.answered()));
        while 2 < self.answered.len() && self.answered[1].0 + RATE_OVER < now {
            self.answered.pop_front();
        }
        let (since, before) = self.answered[0];
        let seconds = now.duration_since(since).as_secs_f64();
        let answers = (load.answered() - before) as f64 / seconds.max(0.1);
        let at_door = match (load.waiting(), answers) {
            (0, _) => 0.0,
            // Nothing was answered for all of that time, and something waits.
            (_, 0.0) => seconds,
            (waiting, answers) => waiting as f64 / answers,
        };
        let seen = Seen {
            ready,
            requests: load.waiting() + load.in_flight(),
            queue_seconds: at_door + self.engines.queue_seconds,
            answers,
            tokens: self.engines.tokens,
            // While the first one starts there is nothing that could go for want of requests.
            idle_seconds: if ready == 0 { 0.0 } else { load.idle_for().as_secs_f64() },
            start_seconds: start.as_secs_f64(),
        };
        let at = self.now();
        self.law.step(at, &terms(&self.scale), &seen)
    }
}

/// A deployment's numbers as the law takes them.
fn terms(scale: &Scale) -> Terms {
    Terms {
        min: scale.min_slots as usize,
        max: scale.max_slots as usize,
        idle_seconds: scale.idle_seconds as f64,
        concurrency: scale.target_concurrency,
        queue_seconds: (scale.target_queue_ms != 0).then(|| scale.target_queue_ms as f64 / 1e3),
        tokens: (0.0 < scale.target_tokens).then_some(scale.target_tokens),
    }
}
