//! What is written down of one inference request, however it ends.

use std::sync::Arc;
use std::time::Instant;

use bms_wire::Result;
use http::StatusCode;

use super::Gateway;
use crate::keys::{Asking, Ticket};
use crate::metrics::UNKNOWN_MODEL;
use crate::rollout::Trial;
use crate::slots::VersionName;

/// The code under which requests are counted whose client left before the answer.
const CLIENT_LEFT: u16 = 499;

/// One request to a model: counted when it ends, also when its client leaves first.
pub(crate) struct Record {
    gateway: Arc<Gateway>,
    began: Instant,
    model: String,
    version: Option<u64>,
    code: u16,
    counts: bool,
    /// The side of a rollout it counts for.
    trial: Option<Trial>,
    /// What somebody with a key asks it by.
    ticket: Option<Arc<Ticket>>,
}

impl Record {
    pub(crate) fn begin(gateway: &Arc<Gateway>) -> Self {
        Record {
            gateway: gateway.clone(),
            began: Instant::now(),
            model: UNKNOWN_MODEL.to_owned(),
            version: None,
            code: CLIENT_LEFT,
            counts: true,
            trial: None,
            ticket: None,
        }
    }

    /// A record of something that is no inference: it is not kept.
    pub(crate) fn none(gateway: &Arc<Gateway>) -> Self {
        let mut record = Record::begin(gateway);
        record.counts = false;
        record
    }

    /// Somebody with a key makes it.
    ///
    /// # Errors
    /// [`bms_wire::Code::RateLimited`] when the key has used what it may.
    pub(crate) fn is_for(&mut self, asking: Option<&Asking>) -> Result<()> {
        self.ticket = asking.map(Asking::ticket).transpose()?;
        Ok(())
    }

    /// The model is deployed, so its name may become a label.
    ///
    /// # Errors
    /// [`bms_wire::Code::PermissionDenied`] when whoever asks may not ask this model, [`bms_wire::Code::QueueFull`] when
    /// theirs are too many of its places already.
    pub(crate) fn known(&mut self, model: &str, takes_text: bool) -> Result<()> {
        model.clone_into(&mut self.model);
        self.ticket.as_ref().map_or(Ok(()), |ticket| ticket.asks(model, takes_text))
    }

    /// About so many tokens will be read, and so many written for it.
    ///
    /// # Errors
    /// [`bms_wire::Code::RateLimited`] when whoever asks has not as many left.
    pub(crate) fn generates(&self, (prompt, answer): (u64, u64)) -> Result<()> {
        self.ticket.as_ref().map_or(Ok(()), |ticket| ticket.generates(prompt, answer))
    }

    /// The name of the key it is asked with; empty without one.
    pub(super) fn caller(&self) -> &str {
        self.ticket.as_ref().map_or("", |ticket| ticket.key())
    }

    /// What somebody with a key asks it by.
    pub(super) fn ticket(&self) -> Option<Arc<Ticket>> {
        self.ticket.clone()
    }

    /// Whether this version was asked last.
    pub(super) fn is_answered_by(&self, of: &VersionName) -> bool {
        self.version == Some(of.version)
    }

    /// The version that was asked last.
    pub(crate) fn answered_by(&mut self, of: &VersionName) {
        self.version = Some(of.version);
    }

    /// It counts for this side of a rollout.
    pub(crate) fn tries(&mut self, trial: Trial) {
        self.trial = Some(trial);
    }

    /// It counts for no side: it was answered by another than it fell to.
    pub(crate) fn tries_nothing(&mut self) {
        self.trial = None;
    }

    pub(crate) fn end(mut self, status: StatusCode) {
        self.code = status.as_u16();
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.counts {
            return;
        }
        let took = self.began.elapsed();
        self.gateway.traffic.record(took, 400 <= self.code);
        if let Some(trial) = &self.trial {
            trial.count(self.code, took);
        }
        let code = StatusCode::from_u16(self.code).unwrap_or_default();
        let mut digits = itoa::Buffer::new();
        let version = self.version.map_or("", |version| digits.format(version));
        let metrics = &self.gateway.metrics;
        metrics.requests.with_label_values(&[self.model.as_str(), version, code.as_str()]).inc();
        metrics.latency.with_label_values(&[self.model.as_str(), version]).observe(took.as_secs_f64());
    }
}
