//! Leases: what one process at a time may do, and how the others' late writes are refused.
//!
//! A lease has a token that grows with every holder. What is written under a lease is written in one transaction with
//! a look at the token ([`Registry::change_under`]), and there is one writer at a time: a holder that was paused for
//! longer than its lease and wakes up finds its token outdated, and changes nothing. Times are the database's.

use std::time::Duration;

use bms_wire::{Code, Error, Result, limits};

use crate::Registry;
use crate::database::{Connection, Database, Kind, count, reading, text, value, writing};
use crate::registry::Change;

/// The right to do what one process at a time may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    name: String,
    holder: String,
    token: u64,
    length_ms: i64,
}

impl Lease {
    /// What it is for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The fencing token: each holder's is larger than those before.
    pub fn token(&self) -> u64 {
        self.token
    }
}

/// A lease as it stands in the database.
struct Stands {
    holder: String,
    token: u64,
    expires_ms: i64,
    done_ms: i64,
}

impl Registry {
    /// Takes the lease `name` for `holder`, which names a process. `None` while another has it. Whoever takes it gets a
    /// new token, also when it is the same once more.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] for an empty or overlong name or holder, or a length out of its limits; storage errors.
    pub async fn acquire_lease(&self, name: &str, holder: &str, length: Duration) -> Result<Option<Lease>> {
        self.acquire(name, holder, length, None).await
    }

    /// As [`Registry::acquire_lease`], unless what it is for was brought to its end less than `every` ago
    /// ([`Registry::finish_lease`]).
    ///
    /// # Errors
    /// As there.
    pub async fn acquire_due_lease(
        &self,
        name: &str,
        holder: &str,
        length: Duration,
        every: Duration,
    ) -> Result<Option<Lease>> {
        self.acquire(name, holder, length, Some(every)).await
    }

    async fn acquire(
        &self,
        name: &str,
        holder: &str,
        length: Duration,
        every: Option<Duration>,
    ) -> Result<Option<Lease>> {
        let length_ms = check(name, holder, length)?;
        let is_free = |stands: &Stands, now: i64| {
            let due = every.is_none_or(|every| {
                let every = i64::try_from(every.as_millis()).unwrap_or(i64::MAX);
                stands.done_ms.saturating_add(every) <= now
            });
            due && (stands.expires_ms <= now || stands.holder == holder)
        };
        // Most who ask do not get it: they find out without holding up writers.
        let mut tx = self.db.snapshot().await?;
        let now = self.db.now_ms(&mut tx).await?;
        let stands = read(&mut tx, name).await?;
        drop(tx);
        if stands.is_some_and(|stands| !is_free(&stands, now)) {
            return Ok(None);
        }
        let mut change = self.change().await?;
        let now = self.db.now_ms(change.db()).await?;
        let stands = read(change.db(), name).await?;
        if stands.as_ref().is_some_and(|stands| !is_free(stands, now)) {
            return Ok(None);
        }
        let token = stands.map_or(0, |stands| stands.token) + 1;
        sqlx::query(
            "INSERT INTO leases (name, holder, token, expires_ms, done_ms) VALUES ($1, $2, 1, $3, 0)
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, token = leases.token + 1,
                                              expires_ms = excluded.expires_ms",
        )
        .bind(name)
        .bind(holder)
        .bind(now.saturating_add(length_ms))
        .execute(change.db())
        .await
        .map_err(writing)?;
        change.commit().await?;
        Ok(Some(Lease { name: name.to_owned(), holder: holder.to_owned(), token, length_ms }))
    }

    /// Makes the lease last its whole length from now on.
    ///
    /// # Errors
    /// [`Code::Conflict`] when it is over: another may have it.
    pub async fn renew_lease(&self, lease: &Lease) -> Result<()> {
        let mut change = self.change_under(lease).await?;
        let now = self.db.now_ms(change.db()).await?;
        set(&mut change, lease, now.saturating_add(lease.length_ms), None).await?;
        change.commit().await
    }

    /// Gives the lease back, so that another need not wait until it is over.
    ///
    /// # Errors
    /// [`Code::Conflict`] when it is over already.
    pub async fn release_lease(&self, lease: Lease) -> Result<()> {
        let mut change = self.change_under(&lease).await?;
        set(&mut change, &lease, 0, None).await?;
        change.commit().await
    }

    /// Gives the lease back and notes that what it is for was brought to its end.
    ///
    /// # Errors
    /// [`Code::Conflict`] when it is over already.
    pub async fn finish_lease(&self, lease: Lease) -> Result<()> {
        let mut change = self.change_under(&lease).await?;
        let now = self.db.now_ms(change.db()).await?;
        set(&mut change, &lease, 0, Some(now)).await?;
        change.commit().await
    }

    /// Starts a change that is refused unless the lease holds. While the change is open nobody else can take the lease:
    /// whoever does is a writer too.
    pub(crate) async fn change_under(&self, lease: &Lease) -> Result<Change> {
        let mut change = self.change().await?;
        let now = self.db.now_ms(change.db()).await?;
        let stands = read(change.db(), &lease.name).await?;
        let holds = stands.is_some_and(|stands| stands.token == lease.token && now < stands.expires_ms);
        match holds {
            true => Ok(change),
            false => Err(Error::new(
                Code::Conflict,
                format!("the lease `{}` (token {}) of `{}` is over", lease.name, lease.token, lease.holder),
            )
            .hint("Another process may have it by now; nothing was changed.")),
        }
    }

    /// Appends one event to the audit log, if the lease holds.
    ///
    /// # Errors
    /// [`Code::Conflict`] when it is over; otherwise as [`Registry::audit`].
    pub async fn audit_under(
        &self,
        lease: &Lease,
        action: &str,
        subject: &str,
        details: serde_json::Value,
    ) -> Result<bms_wire::api::AuditEvent> {
        let mut change = self.change_under(lease).await?;
        let event = change.audit(action, subject, details).await?;
        change.commit().await?;
        Ok(event)
    }
}

impl Database {
    /// Milliseconds since 1970 by the database's clock, also in the middle of a transaction.
    pub(crate) async fn now_ms(&self, db: &mut Connection) -> Result<i64> {
        let now = match self.kind {
            Kind::Sqlite => "SELECT CAST(ROUND(unixepoch('subsec') * 1000) AS INTEGER) AS now",
            Kind::Postgres => "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) AS now",
        };
        let row = sqlx::query(now).fetch_one(db).await.map_err(reading)?;
        value(&row, "now")
    }
}

fn check(name: &str, holder: &str, length: Duration) -> Result<i64> {
    for text in [name, holder] {
        if text.is_empty() || limits::LEASE_NAME_BYTES_MAX < text.len() {
            let most = limits::LEASE_NAME_BYTES_MAX;
            let what = format!("a lease and its holder have names of 1 to {most} bytes");
            return Err(Error::new(Code::InvalidRequest, what));
        }
    }
    let most = Duration::from_secs(limits::LEASE_SECONDS_MAX);
    if length.is_zero() || most < length {
        let what = format!("a lease lasts up to {} s", limits::LEASE_SECONDS_MAX);
        return Err(Error::new(Code::InvalidRequest, what));
    }
    Ok(i64::try_from(length.as_millis()).unwrap_or(i64::MAX).max(1))
}

async fn read(db: &mut Connection, name: &str) -> Result<Option<Stands>> {
    let row = sqlx::query("SELECT holder, token, expires_ms, done_ms FROM leases WHERE name = $1")
        .bind(name)
        .fetch_optional(db)
        .await
        .map_err(reading)?;
    let stands = |row| {
        Ok(Stands {
            holder: text(&row, "holder")?,
            token: count(&row, "token")?,
            expires_ms: value(&row, "expires_ms")?,
            done_ms: value(&row, "done_ms")?,
        })
    };
    row.map(stands).transpose()
}

async fn set(change: &mut Change, lease: &Lease, expires_ms: i64, done_ms: Option<i64>) -> Result<()> {
    sqlx::query("UPDATE leases SET expires_ms = $2, done_ms = COALESCE($3, done_ms) WHERE name = $1")
        .bind(&lease.name)
        .bind(expires_ms)
        .bind(done_ms)
        .execute(change.db())
        .await
        .map_err(writing)?;
    Ok(())
}
