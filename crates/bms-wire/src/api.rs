//! The management API under `/api/v1`: registry, deployments, slots, edge nodes, audit.
//!
//! A bundle crosses the network as files named by digest (`PUT /api/v1/blobs/{blake3}`), then one
//! document that names them (`POST /api/v1/models/{model}/versions`). Uploads can be repeated and
//! resumed; a version exists only once every file has arrived and the gate has let it pass.

mod keys;
mod lifecycle;
mod needs;
mod rollout;
mod scale;
mod worker;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use keys::{ApiKey, CreatedKey, KeyLimits, KeyUsage, NewKey, Quota, Role, SetKey};
pub use lifecycle::{
    ApplyRetention, Decision, Describe, Found, KeptVersion, Lineage, LineageData, LineageNode, NewTransition,
    PERSON_HEADER, RetentionReport, RetentionRule, SetTag, StageRule, Transition, TransitionState,
    VersionKind, VersionName,
};
pub use needs::SlotNeeds;
pub use rollout::{
    NewRollout, RolledBack, Rollout, RolloutOrder, RolloutPlan, RolloutShadow, RolloutSide, RolloutState,
};
pub use scale::{ChangeScale, Memory, Scale};
pub use worker::{
    JoinToken, NewJoinToken, Placement, Worker, WorkerRefusal, WorkerReport, WorkerSlot, WorkerState,
};

/// One file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRef {
    /// Relative path with `/`.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Hex BLAKE3; the file's name in the store.
    pub blake3: String,
}

/// `POST /api/v1/chunks/missing`: which of these chunks does the server lack. A large file is sent as the chunks the server
/// lacks (`POST /api/v1/chunks`: of each its BLAKE3, its length as four bytes, little-endian, and its bytes), then the list of
/// all its chunks (`PUT /api/v1/blobs/{blake3}/recipe`). `POST /api/v1/chunks/read` answers with chunks in that form, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChunkList {
    /// Hex BLAKE3 of each.
    pub chunks: Vec<String>,
}

/// What became of chunks that were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunksStored {
    /// Chunks that the server lacked.
    pub new: u64,
    /// Bytes of those.
    pub bytes: u64,
}

/// `POST /api/v1/models/{model}/versions`: make a version of files already uploaded. All files of the
/// bundle are listed, manifest (`bundle.json`) and signature (`model.sig`) too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewVersion {
    /// Every file of the bundle.
    pub files: Vec<FileRef>,
    /// Aliases to point at it at once.
    #[serde(default)]
    pub aliases: Vec<String>,
}

/// A version of a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// Model name.
    pub model: String,
    /// Number, from 1.
    pub version: u64,
    /// Hex BLAKE3 of the bundle's manifest: the version's identity.
    pub digest: String,
    /// Task, e.g. `image-classification`.
    pub task: String,
    /// Bytes of all files.
    pub size_bytes: u64,
    /// Publisher that signed it.
    pub signer: Option<String>,
    /// Metrics of the manifest, `name -> value` on its evaluation data.
    pub metrics: BTreeMap<String, f64>,
    /// Digest of the version this one was made from.
    pub parent: Option<String>,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// Aliases that point here.
    pub aliases: Vec<String>,
    /// What it is made of.
    #[serde(default)]
    pub kind: VersionKind,
    /// The stage it is in, `none` at first.
    #[serde(default)]
    pub stage: String,
    /// What it is for, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Its tags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// The run that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Where it was registered from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Milliseconds since 1970 of the last change to what is said of it.
    #[serde(default)]
    pub updated_ms: i64,
    /// Milliseconds since 1970 at which it was deleted, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_ms: Option<i64>,
    /// The files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileRef>,
}

/// A model with its versions, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// What it is for, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Its tags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Milliseconds since 1970 of the last change to what is said of it.
    #[serde(default)]
    pub updated_ms: i64,
    /// Milliseconds since 1970 at which it was deleted, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_ms: Option<i64>,
    /// Versions, newest first.
    pub versions: Vec<Version>,
}

/// `PUT /api/v1/models/{model}/aliases/{alias}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetAlias {
    /// The version it shall point at.
    pub version: u64,
    /// The evaluation gate: refused with `quality_refused` unless the version's metric is at least
    /// the current version's, on the same evaluation data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require: Option<EvaluationGate>,
    /// Compare and set: refused with `conflict` unless the alias points at this version now. 0 means that there must
    /// be no such alias yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<u64>,
}

/// What the new version must reach against the one the alias points at now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationGate {
    /// Metric name, e.g. `accuracy`; higher is better.
    pub metric: String,
    /// How much lower than the current version's value is still accepted, e.g. 0.005.
    pub max_drop: f64,
}

/// `PUT /api/v1/deployments/{model}`: keep the alias' version loaded, following it when it moves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetDeployment {
    /// The alias that says which version, e.g. `production`.
    pub alias: String,
    /// The engine that runs its versions, one of those the server's operator declared; absent for this program itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// What changes of how many slots there are; the rest stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<ChangeScale>,
    /// What changes of what one slot needs; the rest stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<SlotNeeds>,
}

impl SetDeployment {
    /// A deployment that follows this alias, with as many slots as before, which need what they needed.
    pub fn of(alias: impl Into<String>) -> Self {
        SetDeployment { alias: alias.into(), engine: None, scale: None, needs: None }
    }
}

/// A deployment and how it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    /// Model name.
    pub model: String,
    /// The alias it follows.
    pub alias: String,
    /// The version the alias points at now.
    pub version: Option<u64>,
    /// The engine that runs its versions; absent for this program itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// How many slots there are.
    #[serde(default)]
    pub scale: Scale,
    /// What the operator says that one slot needs.
    #[serde(default, skip_serializing_if = "SlotNeeds::is_empty")]
    pub needs: SlotNeeds,
    /// Why it does not serve, when it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What a slot process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotState {
    /// The process is starting and loading weights.
    Starting,
    /// It answers.
    Ready,
    /// It finishes open requests and takes no new ones.
    Draining,
    /// It ended; a fresh one is on its way.
    Restarting,
    /// The gate or the engine refused the version; it is not tried again.
    Refused,
}

impl SlotState {
    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            SlotState::Starting => "starting",
            SlotState::Ready => "ready",
            SlotState::Draining => "draining",
            SlotState::Restarting => "restarting",
            SlotState::Refused => "refused",
        }
    }
}

/// One slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    /// Model name.
    pub model: String,
    /// Version number; 0 for what an engine serves without a version of the registry.
    pub version: u64,
    /// Process id, when one runs.
    pub pid: Option<u32>,
    /// What it is doing.
    pub state: SlotState,
    /// The run-time that executes the graph.
    pub runtime: Option<String>,
    /// Times it was started again after a crash.
    pub restarts: u64,
    /// Requests answered.
    pub requests: u64,
    /// Requests it has now.
    #[serde(default)]
    pub in_flight: u64,
    /// Resident memory, bytes.
    pub resident_bytes: Option<u64>,
    /// Whether its work moves; absent while no process is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<SlotProgress>,
    /// Why its last process was replaced, when one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_restart: Option<LastRestart>,
    /// The worker it is on; absent when it is on the server's own machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
}

/// Whether a slot's work moves: a process can answer "live" and "ready" for hours while the work it took stands still.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlotProgress {
    /// Whether it moves, or there is none.
    pub moving: bool,
    /// Requests the gateway waits for.
    pub waiting: u64,
    /// Seconds for which work has waited and nothing has moved; 0 when nothing waits.
    pub age_seconds: f64,
    /// What it has done, in its engine's own steps: passes of a language model over its batch, begins and ends of batches
    /// of a graph. It grows while work moves. Absent when the process does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
}

/// Why a slot's process was replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRestart {
    /// In one word: `ended`, `hung`, `spinning`, `overdue`, `unhealthy` or `start`.
    pub reason: String,
    /// In a sentence.
    pub why: String,
}

/// `PUT /api/v1/edge/nodes/{node}`: join, and every few seconds say how it goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeReport {
    /// The model it runs.
    pub model: String,
    /// The version it runs, when it has one.
    pub version: Option<u64>,
    /// Answers given since it started.
    pub answers: u64,
    /// Answers given while the centre could not be reached.
    pub offline_answers: u64,
    /// Samples waiting to be sent.
    pub outbox: u64,
    /// The last thing that went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// The centre's answer to a [`NodeReport`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeOrders {
    /// The version it shall run; absent when nothing is deployed.
    pub desired: Option<VersionRef>,
}

/// A version by number and digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRef {
    /// Number, from 1.
    pub version: u64,
    /// Hex BLAKE3 of the manifest.
    pub digest: String,
}

/// An edge node as the centre sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Milliseconds since 1970 of the last report.
    pub seen_ms: i64,
    /// The last report.
    pub report: NodeReport,
}

/// `POST /api/v1/edge/nodes/{node}/samples`: samples the edge was unsure of. Each has an id of the
/// edge's making, so that a delivery repeated after a lost answer stores nothing twice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampleDelivery {
    /// The samples; at most [`crate::limits::EDGE_DELIVERY_SAMPLES_MAX`].
    pub samples: Vec<HardSample>,
}

/// One sample the edge was unsure of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HardSample {
    /// Hex BLAKE3 of the picture: unique per content.
    pub id: String,
    /// Base64 of the PNG or JPEG as it was received.
    pub image: String,
    /// What the edge answered.
    pub label: String,
    /// How sure it was, 0 to 1.
    pub confidence: f32,
    /// Version that answered.
    pub version: u64,
    /// Milliseconds since 1970, by the edge's clock.
    pub at_ms: i64,
}

/// A stored sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredSample {
    /// The node that sent it.
    pub node: String,
    /// The model that was unsure.
    pub model: String,
    /// The sample; `image` is empty in listings.
    pub sample: HardSample,
    /// The label a larger model or a person gave it.
    pub assigned: Option<AssignedLabel>,
}

/// `PUT /api/v1/samples/{id}/label`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssignedLabel {
    /// The label.
    pub label: String,
    /// Who gave it, e.g. `model:digits-teacher@1`.
    pub by: String,
    /// How sure it was, 0 to 1.
    pub confidence: f32,
}

/// One entry of the audit log; `hash` covers `previous` and everything else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEvent {
    /// Position, from 1, without gaps.
    pub sequence: u64,
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// What happened, e.g. `bundle.refused`.
    pub action: String,
    /// On what.
    pub subject: String,
    /// Details.
    pub details: serde_json::Value,
    /// Hex hash of the event before; zeros for the first.
    pub previous: String,
    /// Hex BLAKE3 of this event.
    pub hash: String,
}

/// A refused bundle with its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantinedBundle {
    /// What and why.
    pub about: Quarantined,
    /// Whether its files are still there.
    pub files_kept: bool,
    /// Its files, as it named them.
    pub files: Vec<FileRef>,
}

/// `POST /api/v1/quarantine/{id}/release` and `…/purge`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedOrder {
    /// A DSSE envelope by somebody who may: what shall be done to which bundle, and why.
    pub order: String,
}

/// `GET /api/v1/audit/head`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    /// A DSSE envelope by the server's audit key: number and hash of the last event.
    pub head: String,
}

/// A bundle that was refused and set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Quarantine id.
    pub id: String,
    /// What it called itself.
    pub model: String,
    /// The code of the refusal.
    pub code: crate::Code,
    /// What was found.
    pub reason: String,
    /// Milliseconds since 1970.
    pub at_ms: i64,
}
