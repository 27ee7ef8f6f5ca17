//! Looking after the store while the server runs: now and then everything in it is read, at a bounded speed, and what no
//! version needs is removed.

use std::sync::Arc;
use std::time::Duration;

use bms_registry::Registry;
use bms_store::{GcOptions, Replica, ScrubOptions};
use bms_wire::{Code, Result};

use crate::event::{Event, StoreRead, StoreUnread};
use crate::metrics::Metrics;

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
    pub(crate) async fn run(self, registry: Registry, metrics: Arc<Metrics>) {
        tokio::time::sleep(BEGIN_AFTER.min(self.every)).await;
        loop {
            if let Err(error) = self.round(&registry, &metrics).await {
                StoreUnread { error: &error }.emit(&metrics);
            }
            tokio::time::sleep(self.every).await;
        }
    }

    async fn round(&self, registry: &Registry, metrics: &Metrics) -> Result<()> {
        let options = ScrubOptions {
            bytes_per_second: Some(self.bytes_per_second),
            replica: self.replica.clone(),
            ..ScrubOptions::default()
        };
        let report = registry.scrub(&options).await?;
        StoreRead { report: &report }.emit(metrics);
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
