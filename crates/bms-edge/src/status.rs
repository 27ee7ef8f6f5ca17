//! `GET /api/v1/status`: how the node is doing.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use crate::node::Node;

/// How an edge node is doing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The node's name.
    pub node: String,
    /// The model it answers with.
    pub model: String,
    /// The version that answers; absent while there is none.
    pub version: Option<u64>,
    /// Its digest.
    pub digest: Option<String>,
    /// Publisher that signed it.
    pub signer: Option<String>,
    /// The run-time that executes it.
    pub runtime: Option<String>,
    /// The version the centre wants, once it said.
    pub desired_version: Option<u64>,
    /// Inference requests answered since the start.
    pub answers: u64,
    /// Those answered while the centre could not be reached.
    pub offline_answers: u64,
    /// Inference requests that failed.
    pub failures: u64,
    /// Pictures answered with a confidence below the threshold.
    pub hard_samples: u64,
    /// Samples waiting for the centre.
    pub outbox: u64,
    /// Bytes they take on disk.
    pub outbox_bytes: u64,
    /// Samples that were not kept: the outbox or the disk was full, the picture too large, or the
    /// centre refused it.
    pub samples_dropped: u64,
    /// Samples the centre took since the start.
    pub samples_delivered: u64,
    /// The centre's address.
    pub centre: String,
    /// Whether it can be reached.
    pub centre_reachable: bool,
    /// Why it was of no use the last time, when it was not: away, or it refuses this node.
    #[serde(default)]
    pub centre_problem: Option<String>,
    /// The last thing that went wrong with a version.
    pub problem: Option<String>,
}

impl Status {
    pub(crate) fn of(node: &Node) -> Status {
        let (metrics, counts, live) = (&node.metrics, node.outbox.counts(), node.live());
        let live = live.as_deref();
        let dropped = [&counts.full, &counts.too_large, &counts.failed, &metrics.samples_refused];
        Status {
            node: node.settings.node.clone(),
            model: node.settings.model.clone(),
            version: live.map(|live| live.version.version),
            digest: live.map(|live| live.version.digest.clone()),
            signer: live.and_then(|live| live.signer.clone()),
            runtime: live.map(|live| live.engine.describe().runtime.as_str().to_owned()),
            desired_version: node.desired().map(|desired| desired.version),
            answers: metrics.answers.load(Ordering::Relaxed),
            offline_answers: metrics.offline_answers.load(Ordering::Relaxed),
            failures: metrics.failures(),
            hard_samples: metrics.hard_samples.load(Ordering::Relaxed),
            outbox: node.outbox.len() as u64,
            outbox_bytes: node.outbox.bytes(),
            samples_dropped: dropped.iter().map(|count| count.load(Ordering::Relaxed)).sum(),
            samples_delivered: metrics.samples_delivered.load(Ordering::Relaxed),
            centre: node.client.base().to_owned(),
            centre_reachable: node.link.is_up(),
            centre_problem: node.link.problem(),
            problem: node.problem(),
        }
    }
}
