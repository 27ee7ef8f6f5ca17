//! Gateway, control plane, slots and dashboard.
//!
//! ```text
//! client ── TCP ──▶ gateway ── Unix socket ──▶ slot process: gate, engine, one version
//!                     │ routes                    ▲ starts, watches, starts again, unloads
//!                   fleet ────────────────────────┘
//!                     ▲ what is wanted
//!            registry deployments ◀── management API, dashboard
//! ```
//!
//! A slot speaks the protocols of its model, the Open Inference Protocol or those of language models; the gateway
//! passes them through.
//!
//! [`run`] is the server with a registry, [`serve_one`] the one for a single bundle, [`slot::run`] what a
//! slot's process does. All three are given what they work with, so that tests run them on real sockets.

mod again;
mod alarm;
mod api;
mod aside;
mod body;
mod care;
mod continuation;
mod dashboard;
mod engines;
mod event;
mod failure;
mod files;
mod fleet;
mod follow;
mod gateway;
mod grpc;
mod guard;
mod hub;
mod isolation;
mod keys;
mod leader;
mod listen;
mod machine;
mod metrics;
mod mlflow;
mod nodes;
mod policy;
mod repository;
mod rollout;
mod server;
mod slots;
mod socket;
mod traffic;
mod validity;
mod warm;
mod work;

pub mod autoscale;
pub mod keeper;
pub mod slot;
pub mod slurm;

pub use care::Care;
pub use engines::Engines;
pub use gateway::CacheSettings;
pub use keys::{KeySettings, KeysMode, first_key};
pub use listen::Tls;
pub use nodes::{JoinSettings, Nodes, join};
pub use server::{Settings, run, serve_one, usual_memory};
pub use slots::{KvCache, LanguageLaunch, Launch, Place};
pub use work::Work;
