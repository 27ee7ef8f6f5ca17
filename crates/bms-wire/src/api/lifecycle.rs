//! What happens to models and versions after they were published: descriptions, stages, retention, lineage.
//!
//! Whoever changes something says who they are in the header [`PERSON_HEADER`]. It is recorded as said: requests are
//! not authenticated, so it is a signature only among people who trust each other.

use serde::{Deserialize, Serialize};

/// The header in which a request says who makes it.
pub const PERSON_HEADER: &str = "x-bms-person";

/// What a version is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VersionKind {
    /// A bundle that passed the gate: it can be deployed.
    #[default]
    Bundle,
    /// Files that were scanned and are no bundle: they can be kept, named and downloaded, never deployed.
    Artifacts,
}

/// `PATCH /api/v1/models/{model}` and `PATCH …/versions/{version}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Describe {
    /// What it is for, in words.
    pub description: String,
}

/// `PUT …/tags/{key}` of a model or version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetTag {
    /// The tag's value.
    pub value: String,
}

/// `POST /api/v1/models/{model}/versions/{version}/transitions`: ask for another stage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTransition {
    /// `none`, `staging`, `production`, `archived`, or another word.
    pub stage: String,
    /// Why.
    #[serde(default)]
    pub comment: String,
    /// Send the other versions that are in the stage to `archived`.
    #[serde(default)]
    pub archive_others: bool,
}

/// How a transition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransitionState {
    /// People have yet to agree.
    Pending,
    /// The version is in the stage, or was.
    Done,
    /// Somebody refused it.
    Rejected,
    /// The version went elsewhere meanwhile.
    Outdated,
}

/// A version's way from one stage to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// Its number.
    pub id: u64,
    /// The model.
    pub model: String,
    /// The version.
    pub version: u64,
    /// The stage it leaves.
    pub from: String,
    /// The stage it is to enter.
    pub to: String,
    /// How it stands.
    pub state: TransitionState,
    /// Who asked for it.
    pub requested_by: String,
    /// Why.
    pub comment: String,
    /// Milliseconds since 1970.
    pub requested_ms: i64,
    /// Milliseconds since 1970.
    pub decided_ms: Option<i64>,
    /// Who agreed, in order.
    pub approved_by: Vec<String>,
    /// How many have to agree.
    pub approvals_needed: u64,
}

/// `POST /api/v1/transitions/{id}/approve` and `…/reject`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// Why.
    #[serde(default)]
    pub comment: String,
}

/// How many people have to agree before a version enters a stage; `PUT /api/v1/stage-rules`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageRule {
    /// The model; for every model without a rule of its own when absent.
    #[serde(default)]
    pub model: Option<String>,
    /// The stage.
    pub stage: String,
    /// How many, apart from the one who asks.
    pub approvals: u64,
}

/// Which versions may go by themselves; `PUT /api/v1/retention`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionRule {
    /// The model; for every model without a rule of its own when absent.
    #[serde(default)]
    pub model: Option<String>,
    /// How many of the latest versions stay in any case.
    pub keep_last: u64,
    /// Only versions older than this go, milliseconds.
    pub older_than_ms: i64,
    /// Versions deleted longer ago than this are purged, milliseconds; never when absent.
    #[serde(default)]
    pub purge_after_ms: Option<i64>,
}

/// `POST /api/v1/retention/apply`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyRetention {
    /// Say what would go, and change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// What retention does, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionReport {
    /// Versions deleted; they can be restored.
    pub deleted: Vec<VersionName>,
    /// Versions purged: their files are gone.
    pub purged: Vec<VersionName>,
    /// Old versions that stay, each with what uses it.
    pub kept: Vec<KeptVersion>,
    /// Whether anything was changed.
    pub dry_run: bool,
}

/// A version by name and number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VersionName {
    /// The model.
    pub model: String,
    /// The number.
    pub version: u64,
}

/// A version that retention does not touch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptVersion {
    /// The model.
    pub model: String,
    /// The number.
    pub version: u64,
    /// Why it stays, such as `alias production`.
    pub because: Vec<String>,
}

/// Where a version comes from and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// The version asked about.
    pub version: LineageNode,
    /// What it was made from, nearest first.
    pub ancestors: Vec<LineageNode>,
    /// What was made from it, nearest first.
    pub descendants: Vec<LineageNode>,
    /// There is more than was listed.
    pub truncated: bool,
}

/// One version in a lineage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineageNode {
    /// The model; absent for a parent this registry does not know.
    pub model: Option<String>,
    /// The number.
    pub version: Option<u64>,
    /// Its digest.
    pub digest: String,
    /// Digest of the version it was made from.
    pub parent: Option<String>,
    /// Generations between it and the version asked about.
    pub distance: u64,
    /// Data sets it was trained on.
    pub data: Vec<LineageData>,
    /// The job that made it.
    pub job: Option<String>,
    /// The run that made it.
    pub run: Option<String>,
    /// It was deleted.
    pub deleted: bool,
}

/// A data set in a lineage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineageData {
    /// What people call it.
    pub name: String,
    /// Its digest.
    pub digest: String,
}

/// A page of a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found<T> {
    /// What was found.
    pub items: Vec<T>,
    /// Where the next page begins, when there is one.
    pub next: Option<u64>,
}
