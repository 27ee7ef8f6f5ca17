//! Keeping keys and counts in step with the database: every second, what changed of keys is read, what was counted is written,
//! and what others counted is heard.
//!
//! While the database cannot be reached the keys stay as they were read last, and counts are written once it can be again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bms_registry::Registry;
use bms_wire::Result;
use tokio::time::Instant;

use super::{Keys, Table};

/// How often; a key that was revoked elsewhere counts no longer than this and the time of a query.
const EVERY: Duration = Duration::from_secs(1);
/// How often a replica says that it serves, when it has counted nothing.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// What one process writes of its keys.
#[derive(Debug)]
pub(crate) struct Keeper {
    keys: Arc<Keys>,
    registry: Registry,
    /// A name no other process has.
    replica: String,
    said: Option<Instant>,
}

/// Keeps for ever; to be dropped when the server stops.
pub(crate) async fn keep(keeper: Arc<tokio::sync::Mutex<Keeper>>) {
    let keys = keeper.lock().await.keys.clone();
    loop {
        // Woken or not, it looks at everything.
        let _ = tokio::time::timeout(EVERY, keys.changed.notified()).await;
        if let Err(error) = keeper.lock().await.look().await {
            tracing::warn!(code = error.code().as_str(), "keys stay as they are: {error}");
        }
    }
}

impl Keeper {
    /// Reads the keys and what was counted, so that nobody is let in before.
    ///
    /// # Errors
    /// Storage errors.
    pub(crate) async fn begin(keys: Arc<Keys>, registry: Registry) -> Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|e| {
            bms_wire::Error::new(bms_wire::Code::Io, format!("the system gives no random numbers: {e}"))
        })?;
        let replica = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut keeper = Keeper { keys, registry, replica, said: None };
        keeper.look().await?;
        Ok(keeper)
    }

    async fn look(&mut self) -> Result<()> {
        self.keys.look(&self.registry).await?;
        let table = self.keys.table();
        if table.callers.is_empty() && table.gone.is_empty() {
            return Ok(());
        }
        self.write(&table).await?;
        let heard = self.registry.key_uses(&self.replica).await?;
        self.keys.shared.day.store(heard.day, Ordering::Relaxed);
        self.keys.shared.replicas.store(heard.replicas, Ordering::Relaxed);
        for (id, caller) in &table.callers {
            let (requests, tokens) = heard.others.get(id).copied().unwrap_or_default();
            caller.hear(heard.day, requests, tokens);
        }
        Ok(())
    }

    /// Writes down what was counted, if anything was, and now and then that this process is there.
    async fn write(&mut self, table: &Table) -> Result<()> {
        let mut uses = Vec::new();
        let mut writing = Vec::new();
        for caller in table.callers.values().chain(&table.gone) {
            let unwritten = caller.unwritten();
            if !unwritten.is_empty() {
                writing.push(caller);
                uses.extend(unwritten);
            }
        }
        let is_heard = self.said.is_some_and(|said| said.elapsed() < SAY_EVERY);
        if uses.is_empty() && is_heard {
            return Ok(());
        }
        let written = self.registry.flush_key_uses(&self.replica, &uses).await;
        for caller in writing {
            caller.was_written(written.is_ok());
        }
        written?;
        self.said = Some(Instant::now());
        Ok(())
    }

    /// Writes down the last counts, and that this process serves no more.
    pub(crate) async fn end(&mut self) {
        let table = self.keys.table();
        if table.callers.is_empty() && table.gone.is_empty() {
            return;
        }
        let ended = match self.write(&table).await {
            Ok(()) => self.registry.leave_key_uses(&self.replica).await,
            failed => failed,
        };
        if let Err(error) = ended {
            tracing::warn!(code = error.code().as_str(), "what keys used last is not written down: {error}");
        }
    }
}
