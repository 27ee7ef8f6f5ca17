//! How a slot stands, as its supervisor publishes it.

use std::sync::Arc;
use std::time::Duration;

use bms_wire::ErrorBody;
use bms_wire::api::{LastRestart, SlotState};

use super::connections::Connections;

/// Starts in a row that must fail before requests are told so instead of waiting for the next one.
const FAILURES_BEFORE_GIVING_UP_WAITING: u32 = 3;

/// How a slot stands.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    pub(crate) state: SlotState,
    /// Processes started so far: tells one process from the next.
    pub(crate) generation: u64,
    pub(crate) pid: Option<u32>,
    pub(crate) runtime: Option<String>,
    /// The model's task; stays known while the process is replaced.
    pub(crate) task: Option<String>,
    /// The way to the process; present in state `Ready` and while draining.
    pub(crate) connections: Option<Arc<Connections>>,
    /// Why it does not serve, when it does not.
    pub(crate) problem: Option<ErrorBody>,
    /// Times it was started again.
    pub(crate) restarts: u64,
    /// Why, the last time.
    pub(crate) last_restart: Option<LastRestart>,
    /// How long the last process took until it was ready.
    pub(crate) started_in: Duration,
    /// Starts in a row that did not get as far as `Ready`.
    pub(crate) failures: u32,
    /// The worker it is on; none when it is on this machine.
    pub(crate) worker: Option<Arc<str>>,
}

impl Condition {
    pub(crate) fn starting() -> Self {
        Condition {
            state: SlotState::Starting,
            generation: 0,
            pid: None,
            runtime: None,
            task: None,
            connections: None,
            problem: None,
            restarts: 0,
            last_restart: None,
            started_in: Duration::ZERO,
            failures: 0,
            worker: None,
        }
    }

    /// It is down, which is not for this program to change: requests are told so.
    pub(crate) fn is_down(&mut self, problem: ErrorBody) {
        (self.state, self.problem) = (SlotState::Restarting, Some(problem));
        self.failures = FAILURES_BEFORE_GIVING_UP_WAITING;
    }

    /// Whether it keeps failing to start: then waiting for it is not worth a request's time.
    pub(crate) fn is_failing(&self) -> bool {
        FAILURES_BEFORE_GIVING_UP_WAITING <= self.failures
    }
}
