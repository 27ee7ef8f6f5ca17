//! Things that happen. Each knows its log line and its metric, so that the two cannot disagree.

use std::time::Duration;

use bms_registry::{Health, RolloutMove};
use bms_sandbox::Denied;
use bms_wire::api::Rollout;
use bms_wire::{Code, Error, ErrorBody};

use crate::fleet::Load;
use crate::metrics::Metrics;
use crate::slots::{Reason, VersionName};

/// Something that happened.
pub(crate) trait Event {
    /// Writes the log line and counts.
    fn emit(&self, metrics: &Metrics);
}

/// A slot's process answers.
pub(crate) struct SlotReady<'a> {
    pub(crate) of: &'a VersionName,
    pub(crate) pid: Option<u32>,
    pub(crate) runtime: Option<&'a str>,
    pub(crate) took: Duration,
}

impl Event for SlotReady<'_> {
    fn emit(&self, _metrics: &Metrics) {
        let took_ms = self.took.as_millis() as u64;
        tracing::info!(slot = %self.of, pid = self.pid, runtime = self.runtime, took_ms, "slot ready");
    }
}

/// An external engine that this program did not start is down.
pub(crate) struct EngineDown<'a> {
    pub(crate) of: &'a VersionName,
    pub(crate) why: &'a str,
}

impl Event for EngineDown<'_> {
    fn emit(&self, _metrics: &Metrics) {
        tracing::warn!(slot = %self.of, "{}", self.why);
    }
}

/// The gate or the engine said no; the version is not tried again.
pub(crate) struct SlotRefused<'a> {
    pub(crate) of: &'a VersionName,
    pub(crate) why: &'a ErrorBody,
}

impl Event for SlotRefused<'_> {
    fn emit(&self, metrics: &Metrics) {
        metrics.refusals.with_label_values(&[self.of.model.as_str(), self.why.code.as_str()]).inc();
        tracing::error!(slot = %self.of, code = self.why.code.as_str(), "version refused: {}", self.why.error);
    }
}

/// A slot's process ended or had to be ended; a fresh one follows after `pause`.
pub(crate) struct SlotLost<'a> {
    pub(crate) of: &'a VersionName,
    pub(crate) reason: Reason,
    pub(crate) why: &'a str,
    pub(crate) pause: Duration,
}

impl Event for SlotLost<'_> {
    fn emit(&self, metrics: &Metrics) {
        let (version, reason) = (self.of.version.to_string(), self.reason.as_str());
        metrics.restarts.with_label_values(&[self.of.model.as_str(), &version, reason]).inc();
        let pause_ms = self.pause.as_millis() as u64;
        tracing::warn!(slot = %self.of, reason, pause_ms, "slot lost, starting it again: {}", self.why);
    }
}

/// A slot's process tried what it may not, and was denied.
pub(crate) struct SlotDenied<'a> {
    pub(crate) of: &'a VersionName,
    pub(crate) pid: u32,
    pub(crate) denied: &'a Denied,
}

impl Event for SlotDenied<'_> {
    fn emit(&self, metrics: &Metrics) {
        let Denied { call, target, times } = self.denied;
        metrics.denials.with_label_values(&[self.of.model.as_str(), *call]).inc_by(*times);
        let about = target.as_deref();
        tracing::error!(slot = %self.of, pid = self.pid, call, about, times, "a slot tried what it may not");
    }
}

/// A slot was unloaded as asked.
pub(crate) struct SlotUnloaded<'a> {
    pub(crate) of: &'a VersionName,
    /// Requests that were still open when the time to finish had passed.
    pub(crate) cut_off: usize,
}

impl Event for SlotUnloaded<'_> {
    fn emit(&self, _metrics: &Metrics) {
        match self.cut_off {
            0 => tracing::info!(slot = %self.of, "slot unloaded"),
            cut_off => tracing::warn!(slot = %self.of, cut_off, "slot unloaded with requests open"),
        }
    }
}

/// More or fewer slots of a version are wanted.
pub(crate) struct SlotsChanged<'a> {
    pub(crate) of: &'a VersionName,
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) load: &'a Load,
}

impl Event for SlotsChanged<'_> {
    fn emit(&self, metrics: &Metrics) {
        let way = if self.from < self.to { "up" } else { "down" };
        metrics.scaling.scalings.with_label_values(&[self.of.model.as_str(), way]).inc();
        let (waiting, in_flight) = (self.load.waiting(), self.load.in_flight());
        tracing::info!(version = %self.of, from = self.from, to = self.to, waiting, in_flight, "slots wanted");
    }
}

/// A version that had no slot has one again, for a request that waited.
pub(crate) struct ModelWoken<'a> {
    pub(crate) of: &'a VersionName,
    pub(crate) took: Duration,
}

impl Event for ModelWoken<'_> {
    fn emit(&self, metrics: &Metrics) {
        metrics
            .scaling
            .wake_ups
            .with_label_values(&[self.of.model.as_str()])
            .observe(self.took.as_secs_f64());
        let took_ms = self.took.as_millis() as u64;
        tracing::info!(version = %self.of, took_ms, "model woken by a request");
    }
}

/// A slot that is wanted does not fit into the memory there is.
pub(crate) struct NoRoom<'a> {
    pub(crate) of: &'a VersionName,
    pub(crate) why: &'a Error,
}

impl Event for NoRoom<'_> {
    fn emit(&self, metrics: &Metrics) {
        metrics.scaling.lacks.with_label_values(&[self.of.model.as_str()]).inc();
        tracing::error!(version = %self.of, "no slot started: {}", self.why);
    }
}

/// A model's requests go to another version from now on.
pub(crate) struct TrafficSwitched<'a> {
    pub(crate) from: Option<&'a VersionName>,
    pub(crate) to: &'a VersionName,
}

impl Event for TrafficSwitched<'_> {
    fn emit(&self, _metrics: &Metrics) {
        let from = self.from.map(tracing::field::display);
        tracing::info!(from, to = %self.to, "traffic switched");
    }
}

/// A request's slot went away under it; the request is sent again.
pub(crate) struct RequestRetried<'a> {
    pub(crate) of: &'a VersionName,
    pub(crate) attempt: usize,
    pub(crate) why: &'a str,
}

impl Event for RequestRetried<'_> {
    fn emit(&self, metrics: &Metrics) {
        metrics.retries.with_label_values(&[self.of.model.as_str()]).inc();
        tracing::debug!(slot = %self.of, attempt = self.attempt, "sending a request again: {}", self.why);
    }
}

/// A stream's slot went away under it; the stream goes on in a fresh one.
pub(crate) struct StreamContinued<'a> {
    pub(crate) model: &'a str,
    pub(crate) why: &'a str,
}

impl Event for StreamContinued<'_> {
    fn emit(&self, metrics: &Metrics) {
        metrics.continuations.with_label_values(&[self.model]).inc();
        tracing::info!(model = self.model, "a stream goes on in a fresh slot: {}", self.why);
    }
}

/// The deployments could not be read; what runs goes on as it was.
pub(crate) struct ReconcileFailed<'a> {
    pub(crate) code: Code,
    pub(crate) why: &'a str,
}

impl Event for ReconcileFailed<'_> {
    fn emit(&self, _metrics: &Metrics) {
        tracing::error!(code = self.code.as_str(), "deployments not read: {}", self.why);
    }
}

/// A rollout's candidate did not answer a request that fell to it; the stable version is asked.
pub(crate) struct CandidateFailed<'a> {
    pub(crate) of: &'a VersionName,
    pub(crate) why: &'a str,
}

impl Event for CandidateFailed<'_> {
    fn emit(&self, metrics: &Metrics) {
        let version = self.of.version.to_string();
        metrics.rollouts.candidate_failures.with_label_values(&[self.of.model.as_str(), &version]).inc();
        tracing::debug!(slot = %self.of, "a candidate did not answer: {}", self.why);
    }
}

/// This replica decided about a rollout.
pub(crate) struct RolloutMoved<'a> {
    pub(crate) rollout: &'a Rollout,
    pub(crate) to: &'a RolloutMove,
    pub(crate) why: &'a str,
}

impl Event for RolloutMoved<'_> {
    fn emit(&self, metrics: &Metrics) {
        let (to, bad) = match self.to {
            RolloutMove::Step(_) => ("step", false),
            RolloutMove::Promote => ("promoted", false),
            RolloutMove::RollBack => ("rolled_back", true),
        };
        let (model, candidate) = (self.rollout.model.as_str(), self.rollout.candidate);
        metrics.rollouts.moves.with_label_values(&[model, &candidate.to_string(), to]).inc();
        match bad {
            true => tracing::warn!(model, candidate, "a rollout went back: {}", self.why),
            false => tracing::info!(model, candidate, to, "a rollout went on: {}", self.why),
        }
    }
}

/// All of the store was read.
pub(crate) struct StoreRead<'a> {
    pub(crate) report: &'a Health,
}

impl Event for StoreRead<'_> {
    fn emit(&self, metrics: &Metrics) {
        let report = self.report;
        let result = if report.healthy { "healthy" } else { "damaged" };
        metrics.store.scrubs.with_label_values(&[result]).inc();
        metrics.store.problems.with_label_values(&["true"]).inc_by(report.problems_repaired);
        let left = report.problems_found - report.problems_repaired;
        metrics.store.problems.with_label_values(&["false"]).inc_by(left);
        metrics.store.damaged.set(i64::try_from(report.files_damaged.len()).unwrap_or(i64::MAX));
        metrics.store.bytes.set(i64::try_from(report.bytes).unwrap_or(i64::MAX));
        match (report.problems_found, report.healthy) {
            (0, true) => tracing::info!(
                bytes = report.bytes_read,
                chunks = report.chunks_read,
                "all of the store was read"
            ),
            (problems, true) => tracing::warn!(problems, "what rotted in the store was repaired"),
            (problems, false) => tracing::error!(
                problems,
                repaired = report.problems_repaired,
                files = report.files_damaged.len(),
                "the store is damaged; `bms scrub --from URL` repairs it from another one"
            ),
        }
    }
}

/// The store could not be read to the end.
pub(crate) struct StoreUnread<'a> {
    pub(crate) error: &'a Error,
}

impl Event for StoreUnread<'_> {
    fn emit(&self, metrics: &Metrics) {
        metrics.store.scrubs.with_label_values(&["failed"]).inc();
        tracing::warn!(error = %self.error, "the store was not looked after");
    }
}
