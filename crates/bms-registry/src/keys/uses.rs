//! What keys used, counted by every process and summed through the database.
//!
//! Each process writes what it has counted on a day so far, not what was added: writing it twice counts it once. A process that
//! starts again takes another name.

use std::collections::HashMap;

use bms_wire::{Code, Error, Result};

use super::DAYS_KEPT;
use crate::Registry;
use crate::database::{count, reading, text, to_db, value, writing};

/// Milliseconds of a day.
pub(super) const DAY_MS: i64 = 24 * 3600 * 1000;
/// For how long a process counts as one that serves after it was heard.
const REPLICA_MS: i64 = 15_000;

/// What one process counted for a key on a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUse {
    /// The key's identifier.
    pub key: String,
    /// Days since 1970, in UTC.
    pub day: i64,
    /// Requests to models.
    pub requests: u64,
    /// Tokens of prompts and answers.
    pub tokens: u64,
}

/// What all processes but one counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyUses {
    /// The day by the database's clock, in days since 1970 of UTC.
    pub day: i64,
    /// Requests and tokens of that day, by key.
    pub others: HashMap<String, (u64, u64)>,
    /// Processes that were heard a short while ago, the asking one among them; at least 1.
    pub replicas: u64,
}

impl Registry {
    /// Writes down what this process has counted, and that it is there.
    ///
    /// # Errors
    /// Storage errors; nothing is lost then, since the next time all of it is written again.
    pub async fn flush_key_uses(&self, replica: &str, uses: &[KeyUse]) -> Result<()> {
        let mut change = self.change().await?;
        let now = self.db.now_ms(change.db()).await?;
        sqlx::query(
            "INSERT INTO api_key_replicas (replica, seen_ms) VALUES ($1, $2)
             ON CONFLICT (replica) DO UPDATE SET seen_ms = excluded.seen_ms",
        )
        .bind(replica)
        .bind(now)
        .execute(change.db())
        .await
        .map_err(writing)?;
        for used in uses {
            sqlx::query(
                "INSERT INTO api_key_uses (day, key_id, replica, requests, tokens) VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (day, key_id, replica)
                 DO UPDATE SET requests = excluded.requests, tokens = excluded.tokens",
            )
            .bind(used.day)
            .bind(&used.key)
            .bind(replica)
            .bind(to_db(used.requests)?)
            .bind(to_db(used.tokens)?)
            .execute(change.db())
            .await
            .map_err(writing)?;
        }
        change.commit().await
    }

    /// Says that this process serves no more, and forgets what is too old.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn leave_key_uses(&self, replica: &str) -> Result<()> {
        let mut change = self.change().await?;
        let now = self.db.now_ms(change.db()).await?;
        sqlx::query("DELETE FROM api_key_replicas WHERE replica = $1 OR seen_ms < $2")
            .bind(replica)
            .bind(now - DAY_MS)
            .execute(change.db())
            .await
            .map_err(writing)?;
        sqlx::query("DELETE FROM api_key_uses WHERE day < $1")
            .bind(now / DAY_MS - DAYS_KEPT)
            .execute(change.db())
            .await
            .map_err(writing)?;
        change.commit().await
    }

    /// What all processes but this one counted today.
    pub async fn key_uses(&self, replica: &str) -> Result<KeyUses> {
        let mut tx = self.db.snapshot().await?;
        let now = self.db.now_ms(&mut tx).await?;
        let day = now / DAY_MS;
        let rows = sqlx::query(
            "SELECT key_id, CAST(SUM(requests) AS BIGINT) AS requests, CAST(SUM(tokens) AS BIGINT) AS tokens
             FROM api_key_uses WHERE day = $1 AND replica <> $2 GROUP BY key_id",
        )
        .bind(day)
        .bind(replica)
        .fetch_all(&mut *tx)
        .await
        .map_err(reading)?;
        let mut others = HashMap::with_capacity(rows.len());
        for row in &rows {
            others.insert(text(row, "key_id")?, (count(row, "requests")?, count(row, "tokens")?));
        }
        let row = sqlx::query(
            "SELECT COUNT(*) AS replicas FROM api_key_replicas WHERE replica <> $1 AND seen_ms > $2",
        )
        .bind(replica)
        .bind(now - REPLICA_MS)
        .fetch_one(&mut *tx)
        .await
        .map_err(reading)?;
        let replicas: i64 = value(&row, "replicas")?;
        let replicas = u64::try_from(replicas)
            .map_err(|_| Error::new(Code::Io, "the registry's database holds a negative count"))?;
        Ok(KeyUses { day, others, replicas: replicas + 1 })
    }
}
