//! Looking after the store while the server runs: now and then everything in it is read, at a bounded speed, and what no
//! version needs is removed. Of several replicas with one store, one does it, under a lease.

use std::sync::Arc;
use std::time::Duration;

use bms_registry::{Lease, Registry};
use bms_store::{GcOptions, Replica, ScrubOptions};
use bms_wire::{Code, Result};

use crate::event::{Event, StoreRead, StoreUnread};
use crate::leader::replica_name;
use crate::metrics::Metrics;

/// After a start, other work comes first.
const BEGIN_AFTER: Duration = Duration::from_secs(60);
/// How often it is looked whether a round is due.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How long the lease lasts, and when it is renewed during a round.
const LEASE: Duration = Duration::from_secs(120);
const RENEW_AFTER: Duration = Duration::from_secs(30);

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
        let (lease, holder) = (format!("care of {}", registry.store_name()), replica_name());
        tokio::time::sleep(BEGIN_AFTER.min(self.every)).await;
        loop {
            let done = match registry.acquire_due_lease(&lease, &holder, LEASE, self.every).await {
                Ok(Some(lease)) => self.lead(&registry, lease, &metrics).await,
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = done {
                StoreUnread { error: &error }.emit(&metrics);
            }
            tokio::time::sleep(LOOK_EVERY.min(self.every)).await;
        }
    }

    /// One round, for as long as the lease holds.
    async fn lead(&self, registry: &Registry, lease: Lease, metrics: &Metrics) -> Result<()> {
        let done = tokio::select! {
            done = self.round(registry, metrics) => done,
            lost = renew(registry, &lease) => lost,
        };
        match done {
            Ok(()) => registry.finish_lease(lease).await,
            Err(error) => {
                if let Err(over) = registry.release_lease(lease).await {
                    tracing::debug!("a lease was not given back: {over}");
                }
                Err(error)
            }
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

/// Renews the lease again and again; returns only when it is lost.
async fn renew(registry: &Registry, lease: &Lease) -> Result<()> {
    loop {
        tokio::time::sleep(RENEW_AFTER).await;
        match registry.renew_lease(lease).await {
            // A database that cannot be reached for a moment is asked again; the lease ends by itself.
            Err(error) if error.code() == Code::Conflict => return Err(error),
            Err(error) => tracing::warn!("a lease was not renewed: {error}"),
            Ok(()) => {}
        }
    }
}
