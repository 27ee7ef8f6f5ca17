//! Workers: machines that run slots for a centre.
//!
//! ```text
//! centre: gateway, registry, leader          worker: slots, each with the gate, the sandbox and the watchdog
//!    │  ◀── enrol, heartbeat, bundles ──────────┤
//!    └───── requests, watching of slots ──────▶ │      both by TLS, each side with a certificate of one authority
//! ```
//!
//! A worker keeps no state of its own but its key: the leader places slots (`placement`, `lead`), the worker runs what it
//! is told with every heartbeat (`worker`), and every replica follows where slots are (`crate::slots`).

mod authority;
mod centre;
mod centres;
mod lead;
mod peer;
mod placement;
mod protocol;
mod pull;
mod reckon;
mod secret;
mod token;
mod worker;

use bms_wire::{Code, Error, Result};

pub(crate) use centre::Centre;
pub use centre::Nodes;
pub(crate) use centres::Centres;
pub(crate) use lead::{Known, Lead};
pub(crate) use pull::Pull;
pub(crate) use token::Token;
pub use worker::{JoinSettings, join};

/// The name in the certificates of a centre.
const CENTRE_HOST: &str = "centre.bms.internal";

/// What a worker is told whose certificate has ended.
const JOIN_AGAIN: &str =
    "Join again with a fresh token of `bms node token create`; it stays the same worker.";

/// The name in the certificate of the worker with this name. Names of workers are longer than those of the DNS may be.
pub(crate) fn worker_host(worker: &str) -> String {
    format!("w{}.worker.bms.internal", &blake3::hash(worker.as_bytes()).to_hex()[..32])
}

/// The parts of `HOST:PORT`.
///
/// # Errors
/// [`Code::InvalidRequest`] for what is none.
pub(crate) fn host_and_port(address: &str) -> Result<(&str, u16)> {
    let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) = parts.filter(|(host, port)| !host.is_empty() && *port != 0).ok_or_else(|| {
        Error::new(Code::InvalidRequest, format!("`{address}` is not an address"))
            .hint("Give it as HOST:PORT, for example 10.0.0.5:8443.")
    })?;
    Ok((host.trim_start_matches('[').trim_end_matches(']'), port))
}
