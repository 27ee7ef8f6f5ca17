//! The audit log: a chain of events, each hashed over the one before.
//!
//! An event's hash is BLAKE3 over its canonical JSON (keys sorted, no spaces), which holds the hash of
//! the event before it. Editing, dropping, inserting or reordering events breaks the chain at that
//! place. Cutting off its end does not, so the end is kept twice more: in the table `audit_head` and in
//! the file `audit.head` outside the database. Signed with a key that lies elsewhere ([`Registry::anchor_audit`]), that
//! file cannot be written by who can rewrite both; what is left is to put back an older state of both as a whole, and
//! against that there are exports ([`AuditChain`]), kept somewhere else.

use bms_wire::api::AuditEvent;
use bms_wire::{Code, Error, Result};
use serde_json::Value;

use crate::Registry;
use crate::clock::now_ms;
use crate::database::{Connection, Row, count, reading, text, to_db, value, writing};

mod canonical;
mod chain;
mod head;

pub use chain::AuditChain;
pub(crate) use head::{Head, HeadFile, sync_folder};

/// Bytes of one event's details.
const DETAILS_BYTES_MAX: usize = 64 << 10;
/// Characters of an action or subject.
const SUBJECT_CHARS_MAX: usize = 1024;
/// The event that says that the chain's end is signed from then on.
const ANCHORED: &str = "audit.anchored";
/// Events in one answer.
const EVENTS_MAX: u32 = 1000;
/// What the first event gives as the hash before it.
const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

impl Registry {
    /// Events after the one numbered `after`, oldest first, at most `limit` (and at most 1000).
    pub async fn audit_events(&self, after: u64, limit: u32) -> Result<Vec<AuditEvent>> {
        let mut db = self.db.pool.acquire().await.map_err(reading)?;
        let rows = page(&mut db, after, limit).await?;
        rows.iter().map(|stored| stored.event()).collect()
    }

    /// The last `limit` events (at most 1000), newest first.
    pub async fn audit_latest(&self, limit: u32) -> Result<Vec<AuditEvent>> {
        let rows = sqlx::query("SELECT * FROM audit_events ORDER BY sequence DESC LIMIT $1")
            .bind(i64::from(limit.min(EVENTS_MAX)))
            .fetch_all(&self.db.pool)
            .await
            .map_err(reading)?;
        rows.iter().map(|row| Stored::from_row(row)?.event()).collect()
    }

    /// Has the end of the chain signed from now on with `key`, which should lie neither in the registry's folder nor in
    /// its database. The first time that becomes an event, for each folder of those that share a database; from then on
    /// an unsigned end in this folder is a forged one.
    ///
    /// # Errors
    /// Storage errors; [`Code::Conflict`] when there is a key already.
    pub async fn anchor_audit(&self, key: bms_bundle::SigningKey) -> Result<()> {
        let key_id = key.key_id().to_owned();
        let unsigned = self.head_file.set_key(key)?;
        let place = self.head_file.place();
        let mut db = self.db.pool.acquire().await.map_err(reading)?;
        let anchorings = sqlx::query("SELECT * FROM audit_events WHERE action = $1 AND subject = $2")
            .bind(ANCHORED)
            .bind(&key_id)
            .fetch_all(&mut *db)
            .await
            .map_err(reading)?;
        let mut anchored = false;
        for row in &anchorings {
            // One that names no place is of a time when there was one.
            let event = Stored::from_row(row)?.event()?;
            anchored |= event.details.get("place").is_none_or(|known| *known == place);
        }
        let end = match (!anchored, unsigned) {
            (true, Some(noted)) if holds(&mut db, &noted).await? => Some(noted),
            // A file that contradicts the chain, or was signed once and is not now, is evidence and stays.
            _ => None,
        };
        drop(db);
        if let Some(end) = end {
            self.head_file.sign_first(&end)?;
            self.audit(ANCHORED, &key_id, serde_json::json!({ "place": place })).await?;
        }
        Ok(())
    }

    /// The signed end of the chain, for an export.
    ///
    /// # Errors
    /// [`Code::NotFound`] when it is not signed; [`Code::Tampered`] when it contradicts the chain.
    pub async fn audit_head(&self) -> Result<String> {
        let mut db = self.db.pool.acquire().await.map_err(reading)?;
        let end = head(&mut db).await?;
        let noted = self.head_file.read()?.unwrap_or_else(|| Head { sequence: 0, hash: NO_HASH.to_owned() });
        if !holds(&mut db, &noted).await? {
            return Err(tampered(format!("the audit log does not hold event {} as noted", noted.sequence)));
        }
        // What the file notes may lag behind; what is exported ends where the chain does now.
        self.head_file.signed(&end)?.ok_or_else(|| {
            Error::new(Code::NotFound, "this server has no key to sign the audit log with")
                .hint("`bms up` gives it one.")
        })
    }

    /// Follows the whole chain and returns its length. Reads every event: not for every request.
    ///
    /// # Errors
    /// [`Code::Tampered`] naming the first event that was edited, dropped, inserted or reordered, or
    /// saying that the chain's end is missing.
    pub async fn audit_verify(&self) -> Result<u64> {
        // The file first: it may lag behind the chain, but never be ahead of it.
        let noted = self.head_file.read()?;
        // One transaction, so that all pages and the head are of one moment.
        let mut tx = self.db.snapshot().await?;
        let end = head(&mut tx).await?;
        let mut last = Head { sequence: 0, hash: NO_HASH.to_owned() };
        let mut noted_found = noted.as_ref().is_some_and(|noted| *noted == last);
        loop {
            let events = page(&mut tx, last.sequence, EVENTS_MAX).await?;
            if events.is_empty() {
                break;
            }
            for event in events {
                event.follows(&last)?;
                last = Head { sequence: event.sequence, hash: event.hash };
                noted_found |= noted.as_ref().is_some_and(|noted| *noted == last);
            }
        }
        if last != end {
            return Err(tampered(format!(
                "the audit log ends at event {}, not at event {} as its head says",
                last.sequence, end.sequence
            )));
        }
        match noted {
            Some(_) if noted_found => Ok(last.sequence),
            Some(noted) => Err(tampered(format!(
                "the audit log does not hold event {} as `audit.head` noted it",
                noted.sequence
            ))),
            None => Err(tampered("the file `audit.head` is missing".to_owned())),
        }
    }
}

/// The end of the chain as the database notes it; sequence 0 for an empty chain.
pub(crate) async fn head(db: &mut Connection) -> Result<Head> {
    let row = sqlx::query("SELECT sequence, hash FROM audit_head WHERE id = 1")
        .fetch_optional(db)
        .await
        .map_err(reading)?;
    match row {
        Some(row) => Ok(Head { sequence: count(&row, "sequence")?, hash: text(&row, "hash")? }),
        None => Ok(Head { sequence: 0, hash: NO_HASH.to_owned() }),
    }
}

/// Whether the chain went through `noted`.
pub(crate) async fn holds(db: &mut Connection, noted: &Head) -> Result<bool> {
    if noted.sequence == 0 {
        return Ok(noted.hash == NO_HASH);
    }
    let row = sqlx::query("SELECT hash FROM audit_events WHERE sequence = $1")
        .bind(to_db(noted.sequence)?)
        .fetch_optional(db)
        .await
        .map_err(reading)?;
    row.map_or(Ok(false), |row| Ok(text(&row, "hash")? == noted.hash))
}

/// Whether one of these actions was recorded with exactly these details.
pub(crate) async fn happened(db: &mut Connection, actions: &[&str; 2], details: &Value) -> Result<bool> {
    let found = sqlx::query("SELECT 1 FROM audit_events WHERE action IN ($1, $2) AND details = $3 LIMIT 1")
        .bind(actions[0])
        .bind(actions[1])
        .bind(canonical::json(details))
        .fetch_optional(db)
        .await
        .map_err(reading)?;
    Ok(found.is_some())
}

/// Appends an event inside a transaction that holds the write lock.
pub(crate) async fn append(
    db: &mut Connection,
    action: &str,
    subject: &str,
    details: Value,
) -> Result<AuditEvent> {
    let text = canonical::json(&details);
    if text.len() > DETAILS_BYTES_MAX || action.len().max(subject.len()) > SUBJECT_CHARS_MAX {
        return Err(Error::new(
            Code::TooLarge,
            format!(
                "an audit event holds at most {DETAILS_BYTES_MAX} bytes of details and {SUBJECT_CHARS_MAX} of subject"
            ),
        ));
    }
    let before = head(db).await?;
    let mut stored = Stored {
        sequence: before.sequence + 1,
        at_ms: now_ms(),
        action: action.to_owned(),
        subject: subject.to_owned(),
        details: text,
        previous: before.hash,
        hash: String::new(),
    };
    stored.hash = stored.expected_hash();
    stored.insert(db).await?;
    // The details as they read from now on, with keys in canonical order.
    stored.event()
}

/// An event as the database holds it.
struct Stored {
    sequence: u64,
    at_ms: i64,
    action: String,
    subject: String,
    /// Canonical JSON, exactly as hashed.
    details: String,
    previous: String,
    hash: String,
}

impl Stored {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Stored {
            sequence: count(row, "sequence")?,
            at_ms: value(row, "at_ms")?,
            action: text(row, "action")?,
            subject: text(row, "subject")?,
            details: text(row, "details")?,
            previous: text(row, "previous")?,
            hash: text(row, "hash")?,
        })
    }

    async fn insert(&self, db: &mut Connection) -> Result<()> {
        let sequence = to_db(self.sequence)?;
        sqlx::query(
            "INSERT INTO audit_events (sequence, at_ms, action, subject, details, previous, hash)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(sequence)
        .bind(self.at_ms)
        .bind(&self.action)
        .bind(&self.subject)
        .bind(&self.details)
        .bind(&self.previous)
        .bind(&self.hash)
        .execute(&mut *db)
        .await
        .map_err(writing)?;
        sqlx::query(
            "INSERT INTO audit_head (id, sequence, hash) VALUES (1, $1, $2)
             ON CONFLICT (id) DO UPDATE SET sequence = excluded.sequence, hash = excluded.hash",
        )
        .bind(sequence)
        .bind(&self.hash)
        .execute(db)
        .await
        .map_err(writing)?;
        Ok(())
    }

    /// BLAKE3 over the canonical JSON of everything but the hash itself.
    fn expected_hash(&self) -> String {
        let quoted = |s: &str| Value::from(s).to_string();
        let json = format!(
            r#"{{"action":{},"at_ms":{},"details":{},"previous":{},"sequence":{},"subject":{}}}"#,
            quoted(&self.action),
            self.at_ms,
            self.details,
            quoted(&self.previous),
            self.sequence,
            quoted(&self.subject)
        );
        blake3::hash(json.as_bytes()).to_hex().to_string()
    }

    /// Checks that this event is whole and the next one after `last`.
    fn follows(&self, last: &Head) -> Result<()> {
        if self.sequence != last.sequence + 1 {
            return Err(tampered(format!("audit event {} is missing", last.sequence + 1)));
        }
        if self.hash != self.expected_hash() {
            return Err(tampered(format!("audit event {} was changed", self.sequence)));
        }
        if self.previous != last.hash {
            return Err(tampered(format!("audit event {} does not follow the one before it", self.sequence)));
        }
        Ok(())
    }

    fn event(&self) -> Result<AuditEvent> {
        let details = serde_json::from_str(&self.details)
            .map_err(|_| tampered(format!("the details of audit event {} are not JSON", self.sequence)))?;
        Ok(AuditEvent {
            sequence: self.sequence,
            at_ms: self.at_ms,
            action: self.action.clone(),
            subject: self.subject.clone(),
            details,
            previous: self.previous.clone(),
            hash: self.hash.clone(),
        })
    }
}

async fn page(db: &mut Connection, after: u64, limit: u32) -> Result<Vec<Stored>> {
    let rows = sqlx::query("SELECT * FROM audit_events WHERE sequence > $1 ORDER BY sequence LIMIT $2")
        .bind(to_db(after)?)
        .bind(i64::from(limit.min(EVENTS_MAX)))
        .fetch_all(db)
        .await
        .map_err(reading)?;
    rows.iter().map(Stored::from_row).collect()
}

fn tampered(message: String) -> Error {
    Error::new(Code::Tampered, message)
        .hint("Compare with a backup; move `audit.head` away only when you know what happened.")
}
