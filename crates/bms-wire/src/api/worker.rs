//! Workers: machines that run slots for a centre. An edge node is something else: it answers by itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::SlotState;

/// How a worker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// It is heard, and takes slots.
    Ready,
    /// It takes no new slots; those it has go over to others.
    Draining,
    /// It was not heard for too long.
    Gone,
    /// It has left, and may come back.
    Left,
    /// Its key is not accepted any more.
    Revoked,
}

impl WorkerState {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            WorkerState::Ready => "ready",
            WorkerState::Draining => "draining",
            WorkerState::Gone => "gone",
            WorkerState::Left => "left",
            WorkerState::Revoked => "revoked",
        }
    }
}

/// A slot as its worker reports it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerSlot {
    /// The assignment it is there for.
    pub id: String,
    /// Model name.
    pub model: String,
    /// Version.
    pub version: u64,
    /// What it is doing.
    pub state: SlotState,
    /// Bytes of memory its process uses, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resident_bytes: Option<u64>,
    /// Why it does not serve, when it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A version that a worker does not load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRefusal {
    /// Model name.
    pub model: String,
    /// Version.
    pub version: u64,
    /// Why.
    pub why: String,
}

/// What a worker says of itself with every heartbeat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerReport {
    /// `HOST:PORT` at which the centre reaches it.
    pub address: String,
    /// Bytes of memory its slots may use.
    pub memory_bytes: u64,
    /// Bytes of memory that are free on its machine.
    pub memory_free_bytes: u64,
    /// Processors its slots may use.
    pub cores: u64,
    /// What it says of itself, beyond the labels of its token.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Milliseconds since 1970 at which its machine goes, when that is known.
    #[serde(default)]
    pub until_ms: Option<i64>,
    /// It wants to leave.
    #[serde(default)]
    pub draining: bool,
    /// Its slots.
    #[serde(default)]
    pub slots: Vec<WorkerSlot>,
    /// What it has refused to load since it was started, or since its policy changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<WorkerRefusal>,
}

/// `GET /api/v1/workers`: a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// Its name.
    pub name: String,
    /// How it stands.
    pub state: WorkerState,
    /// Milliseconds since 1970 at which it joined.
    pub joined_ms: i64,
    /// Milliseconds since it was last heard.
    pub silent_ms: i64,
    /// What it last said.
    #[serde(flatten)]
    pub report: WorkerReport,
}

/// `GET /api/v1/placements`: a slot in the place that was decided for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Names the slot in this place.
    pub id: String,
    /// Model name.
    pub model: String,
    /// Version.
    pub version: u64,
    /// Which of the version's slots.
    pub number: u64,
    /// The worker it is on; absent for the server's own machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// Bytes of memory it was reckoned with when that was decided.
    pub memory_bytes: u64,
    /// Processors that were asked for it, which it has as threads; absent when none were: it counts as one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cores: Option<u64>,
    /// Another takes over.
    #[serde(default)]
    pub leaving: bool,
    /// On a worker, what its memory is reckoned by; at the server, why no worker takes it.
    #[serde(default)]
    pub why: String,
}

/// `POST /api/v1/workers/tokens`: make a token by which workers join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewJoinToken {
    /// How many workers it lets in.
    pub uses: u64,
    /// Seconds it is good for.
    pub seconds: u64,
    /// Labels of the workers it lets in; they go before what these say of themselves.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// A token by which workers join. It is shown this once, and kept only as a digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// The token.
    pub token: String,
    /// The address in it, `HOST:PORT`.
    pub address: String,
    /// How many workers it lets in.
    pub uses: u64,
    /// Milliseconds since 1970 at which it ends.
    pub expires_ms: i64,
}
