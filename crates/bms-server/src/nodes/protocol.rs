//! What workers and centre say to each other.

use bms_wire::api::WorkerReport;
use bms_wire::limits;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Where a machine becomes a worker; the one place that asks for no certificate.
pub(super) const ENROL: &str = "/nodes/v1/enrol";
/// Where a worker gets a fresh certificate.
pub(super) const RENEW: &str = "/nodes/v1/renew";
/// Where it says how it is, and hears what to run.
pub(super) const HEARTBEAT: &str = "/nodes/v1/heartbeat";
/// Where it says that it has left.
pub(super) const LEAVE: &str = "/nodes/v1/leave";
/// Below this lies what it reads of the management API.
pub(super) const FILES: &str = "/nodes/v1/files";
/// Where a centre finds out whether it reaches a worker.
pub(super) const LIVE: &str = "/worker/v1/live";

/// Bytes of one of these documents.
pub(super) const DOCUMENT_BYTES_MAX: usize = 1 << 20;

/// A machine wants to be a worker.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Enrol {
    /// The secret of the join token.
    #[serde(with = "super::secret")]
    pub(super) secret: Zeroizing<String>,
    /// The name it wants.
    pub(super) name: String,
    /// Its public key on P-256, uncompressed, in base64.
    pub(super) key: String,
}

/// A certificate for a worker's key, in base64.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Certified {
    pub(super) certificate: String,
    pub(super) authority: String,
    /// How long the certificate is good for from now on.
    #[serde(default = "usual_seconds")]
    pub(super) seconds: u64,
}

fn usual_seconds() -> u64 {
    limits::WORKER_CERTIFICATE_SECONDS
}

/// A worker's word; the answer is [`Orders`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Heartbeat {
    #[serde(flatten)]
    pub(super) report: WorkerReport,
}

/// A worker's public key again, for a fresh certificate.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Renew {
    pub(super) key: String,
}

/// A worker has left.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Leave {
    /// Because it heard that it shall, and for no reason of its own.
    pub(super) was_told: bool,
}

/// What a worker shall run: these slots and no others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Orders {
    pub(super) slots: Vec<Order>,
    /// It shall leave once it has none.
    pub(super) leave: bool,
    /// Where it reaches the replicas that are there, `HOST:PORT`.
    #[serde(default)]
    pub(super) centres: Vec<String>,
}

/// One slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) id: String,
    pub(super) model: String,
    pub(super) version: u64,
    /// Processors that were asked for it: threads of its process. A centre of before says none, a worker of before hears none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cores: Option<u64>,
}

#[cfg(test)]
mod tests;
