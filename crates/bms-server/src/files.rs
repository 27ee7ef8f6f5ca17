//! How many files may be open, and so how many connections.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Connections a server accepts at a time when the system allows.
const CONNECTIONS_MAX: usize = 4096;
/// Connections it accepts at least.
const CONNECTIONS_MIN: usize = 64;
/// Open files kept for everything else: the database, uploads, pipes to slots.
const RESERVE: u64 = 256;
/// A request in flight has a connection to its client and one to its slot.
const FILES_PER_CONNECTION: u64 = 2;

/// Raises the limit of open files as far as useful, and says how many connections fit into it.
pub(crate) fn connections_max() -> usize {
    let useful = CONNECTIONS_MAX as u64 * FILES_PER_CONNECTION + RESERVE;
    let mut limit = getrlimit(Resource::Nofile);
    // No limit is as good as enough of it.
    let hard = limit.maximum.unwrap_or(useful);
    let current = limit.current.unwrap_or(useful);
    let wanted = useful.min(hard);
    if current < wanted {
        limit.current = Some(wanted);
        if let Err(e) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!("failed to raise the limit of open files from {current} to {wanted}: {e}");
            return fitting(current);
        }
    }
    fitting(current.max(wanted))
}

fn fitting(files: u64) -> usize {
    let fitting = files.saturating_sub(RESERVE) / FILES_PER_CONNECTION;
    usize::try_from(fitting).unwrap_or(CONNECTIONS_MAX).clamp(CONNECTIONS_MIN, CONNECTIONS_MAX)
}

#[cfg(test)]
mod tests;
