//! Slots: one operating-system process per loaded version, kept running by a supervisor.
//!
//! A crash or a hostile model takes down nothing but its own slot; unloading ends the process, so its
//! memory returns to the system. Requests borrow a slot through a [`Lease`]; a slot that is being
//! unloaded gives no new leases and ends once the last one is returned.

mod address;
mod condition;
mod connections;
mod direct;
mod foreign;
mod launch;
mod placed;
mod process;
mod progress;
mod remote;
mod request;
mod slot;
mod source;
pub(crate) mod splice;
mod supervise;
mod translate;
mod watching;

pub use launch::{KvCache, LanguageLaunch, Launch};
pub use source::Place;

pub(crate) use address::{Address, Tls};
pub(crate) use condition::Condition;
pub(crate) use connections::{Broken, CONNECTIONS_MAX, Coming, Connections, PROCESS};
pub(crate) use launch::Launcher;
pub(crate) use placed::{Berth, Berths, Elsewhere};
pub(crate) use process::{Greeting, Ready};
pub(crate) use progress::Report;
pub(crate) use remote::{OVERDUE, State, WATCH};
pub(crate) use request::{
    INFER, INFERENCE_HEADER_LENGTH, REQUEST_HEADERS, for_slot, forwarded, inferring, of_version,
};
pub(crate) use slot::{Held, Lease, Slot, Unavailable, is_language};
pub(crate) use source::Source;
pub(crate) use supervise::Reason;
pub(crate) use translate::Back;

/// A version of a model, by name and number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct VersionName {
    pub(crate) model: String,
    pub(crate) version: u64,
}

impl std::fmt::Display for VersionName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.model, self.version)
    }
}
