//! Keeping keys and counts in step with the database: every second, what changed of keys is read, what was counted is written,
//! and what others counted is heard.
//!
//! Where several replicas serve, each writes beside what it counted what it holds of quotas: see `share`.
//!
//! While the database cannot be reached the keys stay as they were read last, and counts are written once it can be again.

use std::sync::Arc;
use std::time::Duration;

use bms_registry::{KeyUses, Registry};
use bms_wire::Result;
use tokio::time::Instant;

use super::{Keys, Table};

/// How often; a key that was revoked elsewhere counts no longer than this and the time of a query.
const EVERY: Duration = Duration::from_secs(1);
/// How often at most, whatever happens.
const PAUSE: Duration = Duration::from_millis(100);
/// How often what was counted on earlier days of the month is read, which changes when a replica writes late.
const EARLIER_EVERY: Duration = Duration::from_secs(60);
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
    earlier: Option<Earlier>,
}

/// When earlier days were read last: on this day, for keys of this revision.
#[derive(Debug)]
struct Earlier {
    day: i64,
    revision: Option<u64>,
    at: Instant,
}

/// Keeps for ever; to be dropped when the server stops.
pub(crate) async fn keep(keeper: Arc<tokio::sync::Mutex<Keeper>>) {
    let keys = keeper.lock().await.keys.clone();
    loop {
        // Woken or not, it looks at everything.
        let _ = tokio::time::timeout(EVERY - PAUSE, keys.shared.changed.notified()).await;
        if let Err(error) = keeper.lock().await.look().await {
            tracing::warn!(code = error.code().as_str(), "keys stay as they are: {error}");
        }
        tokio::time::sleep(PAUSE).await;
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
        let mut keeper = Keeper { keys, registry, replica, said: None, earlier: None };
        keeper.look().await?;
        Ok(keeper)
    }

    async fn look(&mut self) -> Result<()> {
        self.keys.look(&self.registry).await?;
        let table = self.keys.table();
        if table.callers.is_empty() && table.gone.is_empty() {
            return Ok(());
        }
        let heard = self.registry.key_uses(&self.replica, self.keys.shared.day()).await?;
        self.keys.hear(&table, &heard);
        self.look_back(&table, heard.day).await?;
        self.write(&table).await
    }

    /// Reads what was counted on earlier days of the month, where somebody has a limit of one.
    async fn look_back(&mut self, table: &Table, day: i64) -> Result<()> {
        let is_known = self.earlier.as_ref().is_some_and(|earlier| {
            let is_as_then = earlier.day == day && earlier.revision == table.revision;
            is_as_then && earlier.at.elapsed() < EARLIER_EVERY
        });
        if is_known || !table.callers.values().any(|caller| caller.counts_months()) {
            return Ok(());
        }
        let heard = self.registry.key_uses_earlier(day).await?;
        for (id, caller) in &table.callers {
            caller.hear_earlier(heard.get(id), day);
        }
        self.earlier = Some(Earlier { day, revision: table.revision, at: Instant::now() });
        Ok(())
    }

    /// Writes down what was counted, if anything was, and now and then that this process is there.
    async fn write(&mut self, table: &Table) -> Result<()> {
        let is_heard = self.said.is_some_and(|said| said.elapsed() < SAY_EVERY);
        let has_news = table.callers.values().any(|caller| caller.has_to_tell())
            || table.gone.iter().any(|caller| caller.has_unwritten());
        if is_heard && !has_news {
            return Ok(());
        }
        let mut is_late = false;
        let tell = |heard: &KeyUses| {
            let moment = self.keys.hear(table, heard);
            let callers = table.callers.values().chain(&table.gone);
            let uses: Vec<_> = callers.flat_map(|caller| caller.tell(moment)).collect();
            is_late = uses.iter().any(|used| used.day < heard.day);
            uses
        };
        let written = self.registry.exchange_key_uses(&self.replica, self.keys.shared.day(), tell).await;
        for caller in table.callers.values().chain(&table.gone) {
            caller.was_written(written.is_ok());
        }
        written?;
        if is_late {
            self.earlier = None;
        }
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
