//! The edge agent: joins the centre, pulls the deployed version, verifies it, answers with it, online
//! or not, and sends samples it was unsure of back.
//!
//! ```text
//!              report ─▶ centre ─▶ desired version
//!                                       │ pull, gate, load, self-test
//!                                       ▼
//!  clients ─▶ HTTP ─▶ engine ◀─ switch ─ slot A | slot B      a version that fails never gets here
//!                       │ unsure
//!                       ▼
//!                     outbox (on disk) ─▶ centre, when it can be reached
//! ```
//!
//! Three threads talk to the centre, none of them answers requests: whatever happens to the network,
//! answers go on. State is on disk: after a restart without the centre the last good version serves.
//!
//! Routes: the Open Inference Protocol under `/v2`, `/metrics` for Prometheus, `/api/v1/status`.

mod agent;
mod backoff;
mod bell;
mod deliver;
mod durable;
mod guard;
mod http;
mod infer;
mod link;
mod live;
mod metrics;
mod node;
mod outbox;
mod pull;
mod report;
mod self_test;
mod settings;
mod slots;
mod status;
mod update;

pub use agent::{run, serve};
pub use settings::Settings;
pub use status::Status;
