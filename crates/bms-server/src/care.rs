//! Looking after the store while the server runs: now and then everything in it is read, at a bounded speed, and what no
//! version needs is removed.

use std::sync::Arc;
use std::time::Duration;

use bms_registry::Registry;
use bms_store::{GcOptions, Replica, ScrubOptions};
use bms_wire::{Code, Result};

/// After a start, other work comes first.
const BEGIN_AFTER: Duration = Duration::from_secs(60);

/// How the store is looked after.
#[derive(Clone, Debug)]
pub struct Care {
    /// Time between the end of a round and the beginning of the next.
    pub every: Duration,
    /// Bytes read in a second at most.
    pub bytes_per_second: u64,
    /// Where to repair from.
    pub replica: Option<Arc<dyn Replica>>,
}

impl Care {
    /// Until the task is ended.
    pub(crate) async fn run(self, registry: Registry) {
        tokio::time::sleep(BEGIN_AFTER.min(self.every)).await;
        loop {
            if let Err(error) = self.round(&registry).await {
                tracing::warn!(%error, "the store was not looked after");
            }
            tokio::time::sleep(self.every).await;
        }
    }

    async fn round(&self, registry: &Registry) -> Result<()> {
        let options = ScrubOptions {
            bytes_per_second: Some(self.bytes_per_second),
            replica: self.replica.clone(),
            ..ScrubOptions::default()
        };
        let report = registry.scrub(&options).await?;
        if report.healthy {
            tracing::info!(
                bytes = report.bytes_read,
                chunks = report.chunks_read,
                "all of the store was read"
            );
        } else {
            tracing::error!(
                problems = report.problems_found,
                repaired = report.problems_repaired,
                files = report.files_damaged.len(),
                "files in the store are damaged; `bms scrub --from URL` repairs them from another store"
            );
        }
        match registry.gc(&GcOptions::default()).await {
            // Another replica of this server does it.
            Err(error) if error.code() == Code::Conflict => Ok(()),
            collected => collected.map(|report| {
                tracing::info!(
                    packs = report.packs_removed,
                    bytes = report.bytes_removed,
                    "garbage was collected"
                );
            }),
        }
    }
}
