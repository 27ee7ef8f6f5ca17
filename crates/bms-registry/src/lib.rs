//! What exists and who may rely on it: models with immutable versions, aliases, lineage, deployments,
//! edge nodes, hard samples, quarantine and the audit log.
//!
//! State is one folder: `registry.sqlite` (names and facts), `store/` (files as chunks, unless they lie in a
//! bucket; see `bms_store`), `assembled/` (files put together from them for a while), `quarantine/` (files of refused
//! bundles) and `audit.head` (where the audit chain must end). Names and facts can lie in a PostgreSQL database instead
//! ([`DatabaseUrl`]), which several replicas share.
//! Whatever a call acknowledged is on disk: a killed process loses none of it.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! # let folder = tempfile::tempdir().unwrap();
//! let registry = bms_registry::Registry::open(folder.path()).await?;
//! let digest = registry.put_blob(b"weights", None).await?;
//! assert!(registry.has_blob(&digest).await?);
//! registry.audit("store.filled", &digest, serde_json::json!({ "by": "an example" })).await?;
//! assert_eq!(registry.audit_verify().await?, 2, "opening a new registry is the first event");
//! # Ok::<(), bms_wire::Error>(()) }).unwrap();
//! ```

mod aliases;
mod artifacts;
mod audit;
mod clock;
mod database;
mod deletion;
mod deployments;
mod describe;
mod keys;
mod leases;
mod lineage;
mod materialise;
mod names;
mod nodes;
mod publish;
mod quarantine;
mod register;
mod registry;
mod retention;
mod rollouts;
mod runs;
mod samples;
mod search;
mod stages;
mod statement;
mod store;
mod versions;
mod workers;

pub mod filter;

// The registry: every operation is a method of it, in the module of its subject.
pub use registry::Registry;

pub use database::DatabaseUrl;

// Files by digest.
pub use store::{BlobReader, BlobUpload, Health};

// Questions and answers.
pub use artifacts::Incoming;
pub use audit::AuditChain;
pub use keys::{
    ByKey, GivenKey, GivenOutcome, KEY_ID_CHARS, KeyUse, KeyUses, MonitorKey, OthersUse, Spent, StoredKey,
};
pub use leases::Lease;
pub use quarantine::Refusal;
pub use register::NewArtifactVersion;
pub use rollouts::{RolloutCount, RolloutMove, SIDES as ROLLOUT_SIDES, UnderWay};
pub use runs::{
    Batch, Experiment, LoggedModel, Metric, NewRun, Page, Run, RunLink, RunSearch, STATUSES, View,
};
pub use samples::{SampleCounts, SampleFilter};
pub use workers::{Placed, Placing};

pub use names::check_name;
