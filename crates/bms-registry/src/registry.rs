//! The registry's handle and its write path.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bms_store::Location;
use bms_wire::{Code, Error, Result};
use serde_json::Value;
use sqlx::{Any, Transaction};
use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore};

use crate::audit::{self, Head, HeadFile};
use crate::database::{Connection, Database, DatabaseUrl, Kind, writing};
use crate::store::Store;

/// Bundles checked by the gate at the same time. The small files of each are in memory meanwhile.
const GATES_MAX: usize = 2;

/// A registry: its names and facts in a database, its files in a folder. Cheap to clone; all clones are the same
/// registry.
///
/// Several processes may open one folder, and several machines one PostgreSQL database; the database's locks order
/// their writes.
#[derive(Clone, Debug)]
pub struct Registry {
    pub(crate) db: Database,
    pub(crate) store: Store,
    pub(crate) gates: Arc<Semaphore>,
    pub(crate) head_file: Arc<HeadFile>,
    /// Writers of this process queue here in order, instead of polling the database's lock; it also keeps the head file
    /// in step with the chain.
    writers: Arc<Mutex<()>>,
    /// One version is written to disk at a time.
    pub(crate) materialising: Arc<Mutex<()>>,
    /// The folder with its files.
    pub(crate) dir: PathBuf,
}

impl Registry {
    /// Opens the registry in `dir` with its SQLite database there, making it when absent.
    ///
    /// # Errors
    /// [`Code::Io`], [`Code::PermissionDenied`] or [`Code::StorageFull`] when the folder cannot be used;
    /// [`Code::Conflict`] when another version of the program made it.
    pub async fn open(dir: &Path) -> Result<Registry> {
        Registry::open_with(dir, None, None).await
    }

    /// As [`Registry::open`], with the files in a store at another place, e.g. a bucket, and the names and facts in a
    /// PostgreSQL database, when they are given: several replicas may share them.
    ///
    /// # Errors
    /// As [`Registry::open`]; errors of the store; [`Code::Unavailable`] when the database's server cannot be reached.
    pub async fn open_with(
        dir: &Path,
        store: Option<&Location>,
        database: Option<&DatabaseUrl>,
    ) -> Result<Registry> {
        let dir = make_folder(dir)?;
        let store = Store::open(&dir, store).await?;
        let db = match database {
            None => Database::open_file(&dir.join("registry.sqlite")).await?,
            Some(url) => Database::open_url(url).await?,
        };
        let registry = Registry {
            db,
            store,
            gates: Arc::new(Semaphore::new(GATES_MAX)),
            head_file: Arc::new(HeadFile::in_folder(&dir)),
            writers: Arc::new(Mutex::new(())),
            materialising: Arc::new(Mutex::new(())),
            dir: dir.clone(),
        };
        registry.begin_audit().await?;
        // The database file is new, perhaps: its folder entry has to be on disk as well.
        audit::sync_folder(&dir)?;
        Ok(registry)
    }

    /// The first event: a chain that is never empty cannot be emptied unseen.
    async fn begin_audit(&self) -> Result<()> {
        let mut change = self.change().await?;
        let details = match self.db.kind {
            Kind::Sqlite => serde_json::json!({}),
            Kind::Postgres => {
                serde_json::json!({ "folder": self.dir.display().to_string(), "host": host_name() })
            }
        };
        let action = if audit::head(change.db()).await?.sequence == 0 {
            "registry.created"
        } else if self.is_new_replica(&mut change, &details).await? {
            "replica.joined"
        } else {
            return Ok(());
        };
        self.head_file.begin()?;
        change.audit(action, "registry", details).await?;
        change.commit().await
    }

    /// Whether this is a replica's first look at a shared database. It has noted no head yet, and must be able to begin;
    /// one that has begun before must not: its file was removed.
    async fn is_new_replica(&self, change: &mut Change, details: &Value) -> Result<bool> {
        if self.db.kind == Kind::Sqlite || self.head_file.read().ok().flatten().is_some() {
            return Ok(false);
        }
        Ok(!audit::happened(change.db(), &["registry.created", "replica.joined"], details).await?)
    }

    /// Starts a change: nothing of it is visible before [`Change::commit`], all of it after.
    pub(crate) async fn change(&self) -> Result<Change> {
        let turn = Arc::clone(&self.writers).lock_owned().await;
        let tx = self.db.writer().await?;
        Ok(Change { tx, head: None, head_file: Arc::clone(&self.head_file), _turn: turn })
    }

    /// Which store the files lie in, in words: the same for replicas that share it, and another for those that do not.
    pub fn store_name(&self) -> String {
        let store = self.store.chunks.objects().to_string();
        // A path means something on its own machine only.
        if store.contains("LocalFileSystem") { format!("{store} on {}", host_name()) } else { store }
    }

    /// Appends one event to the audit log and returns once it is on disk. `action` is what happened,
    /// e.g. `policy.changed`, `subject` on what; `details` are free.
    ///
    /// # Errors
    /// [`Code::TooLarge`] when the event is over its limit; storage errors.
    pub async fn audit(
        &self,
        action: &str,
        subject: &str,
        details: Value,
    ) -> Result<bms_wire::api::AuditEvent> {
        let mut change = self.change().await?;
        let event = change.audit(action, subject, details).await?;
        change.commit().await?;
        Ok(event)
    }
}

/// One atomic change with its audit events.
pub(crate) struct Change {
    tx: Transaction<'static, Any>,
    head: Option<Head>,
    head_file: Arc<HeadFile>,
    _turn: OwnedMutexGuard<()>,
}

impl Change {
    /// The connection inside the transaction.
    pub(crate) fn db(&mut self) -> &mut Connection {
        &mut self.tx
    }

    /// Adds an audit event; it stands or falls with the change.
    pub(crate) async fn audit(
        &mut self,
        action: &str,
        subject: &str,
        details: Value,
    ) -> Result<bms_wire::api::AuditEvent> {
        let noted = self.head_file.read().ok().flatten();
        let event = audit::append(&mut self.tx, action, subject, details).await?;
        // A file that contradicts the chain is evidence and must stay.
        self.head = match noted {
            Some(noted) if audit::holds(&mut self.tx, &noted).await? => {
                Some(Head { sequence: event.sequence, hash: event.hash.clone() })
            }
            _ => None,
        };
        Ok(event)
    }

    /// Makes the change durable.
    pub(crate) async fn commit(self) -> Result<()> {
        self.tx.commit().await.map_err(writing)?;
        let Some(head) = self.head else { return Ok(()) };
        let file = Arc::clone(&self.head_file);
        let written = tokio::task::spawn_blocking(move || file.advance(&head)).await;
        // The change is committed, whatever happens to the file; a file that lags behind is legal.
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the audit head file was not advanced"),
            Err(error) => tracing::warn!(%error, "the audit head file was not advanced"),
        }
        Ok(())
    }
}

/// Makes `dir` with its parents, durably, and returns it as an absolute path.
fn make_folder(dir: &Path) -> Result<PathBuf> {
    let is_new = !dir.exists();
    std::fs::create_dir_all(dir).map_err(|e| Error::io("make the folder", dir, e))?;
    let dir = dir.canonicalize().map_err(|e| Error::io("open the folder", dir, e))?;
    if !dir.is_dir() {
        return Err(Error::new(Code::Io, format!("`{}` is not a folder", dir.display())));
    }
    if let Some(parent) = dir.parent().filter(|_| is_new) {
        audit::sync_folder(parent)?;
    }
    Ok(dir)
}

/// This machine's name, empty when it has none.
fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}
