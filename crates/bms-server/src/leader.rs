//! Leading: what only one replica does, under a lease of the database.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bms_registry::{Lease, Registry};
use bms_wire::{Code, Result};

/// How long a lease lasts. Another replica takes over that long after its holder was last heard of.
const LENGTH: Duration = Duration::from_secs(10);
/// Renewed well before it is over; a holder that is late for once still has it.
const RENEW_AFTER: Duration = Duration::from_secs(3);

/// Names given so far.
static NAMED: AtomicU64 = AtomicU64::new(0);

/// A name for this process that no other has.
pub(crate) fn replica_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    // Two servers of one process, as in tests, differ by this.
    let number = NAMED.fetch_add(1, Ordering::Relaxed);
    let unlike = blake3::hash(format!("{since} {number}").as_bytes());
    format!("{}/{}/{}", host.trim(), std::process::id(), &unlike.to_hex()[..12])
}

/// The attempt to lead, and the lease while it succeeds.
#[derive(Debug)]
pub(crate) struct Leadership {
    registry: Registry,
    name: String,
    holder: String,
    held: Option<(Lease, Instant)>,
}

impl Leadership {
    pub(crate) fn new(registry: Registry, name: &str, holder: String) -> Self {
        Leadership { registry, name: name.to_owned(), holder, held: None }
    }

    /// The lease, taken or renewed when that is due. `None` while another replica leads.
    ///
    /// Whoever gets one may have lost it a moment later: what is written under it is refused then.
    pub(crate) async fn hold(&mut self) -> Result<Option<Lease>> {
        if let Some((lease, renewed)) = &mut self.held {
            if renewed.elapsed() < RENEW_AFTER {
                return Ok(Some(lease.clone()));
            }
            match self.registry.renew_lease(lease).await {
                Ok(()) => {
                    *renewed = Instant::now();
                    return Ok(Some(lease.clone()));
                }
                Err(error) if error.code() == Code::Conflict => self.held = None,
                Err(error) => return Err(error),
            }
        }
        let lease = self.registry.acquire_lease(&self.name, &self.holder, LENGTH).await?;
        if let Some(lease) = &lease {
            tracing::info!(lease = %self.name, token = lease.token(), "this replica leads");
            self.held = Some((lease.clone(), Instant::now()));
        }
        Ok(lease)
    }

    /// Lets another lead.
    pub(crate) async fn release(&mut self) {
        let Some((lease, _)) = self.held.take() else { return };
        if let Err(error) = self.registry.release_lease(lease).await {
            tracing::debug!("a lease was not given back: {error}");
        }
    }
}
