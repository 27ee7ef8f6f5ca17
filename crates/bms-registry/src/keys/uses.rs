//! What keys used, counted by every process and summed through the database.
//!
//! Each process writes what it has counted on a day so far, not what was added: writing it twice counts it once. A process that
//! starts again takes another name.
//!
//! Beside it stands up to what it may count before it writes again. Whoever writes reads what the others hold in the same
//! transaction, and there is one writer at a time: what is held by all together can be kept within a quota.

use std::collections::{BTreeMap, HashMap};

use bms_bundle::month_around;
use bms_wire::Result;
use bms_wire::api::KeyUsage;

use super::DAYS_KEPT;
use crate::Registry;
use crate::database::{Connection, Row, count, reading, text, to_db, writing};

/// Milliseconds of a day.
const DAY_MS: i64 = 24 * 3600 * 1000;
/// For how long a process counts as one that serves after it was heard.
const REPLICA_MS: i64 = 15_000;

/// Something of each key, by the key's identifier, and of each model it has limits for; the model is empty for all together.
pub type ByKey<T> = HashMap<String, HashMap<String, T>>;

/// How much of something was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// So much.
    pub used: u64,
    /// Up to so much may be used before it is written again. When it is less than `used` nothing is held.
    pub held: u64,
}

/// What one process counted for a key on a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUse {
    /// The key's identifier.
    pub key: String,
    /// The model; empty for all together.
    pub model: String,
    /// Days since 1970, in UTC.
    pub day: i64,
    /// Requests to models.
    pub requests: Spent,
    /// Tokens of prompts and answers.
    pub tokens: Spent,
}

/// What other processes counted for a key on a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OthersUse {
    /// Requests to models. Held is no less than used, and nothing more by processes that were not heard for a while.
    pub requests: Spent,
    /// Tokens of prompts and answers, alike.
    pub tokens: Spent,
    /// Processes that counted, of those that were heard a short while ago.
    pub counting: u64,
}

/// What all processes but one counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyUses {
    /// The day, in days since 1970 of UTC: the database's clock says which.
    pub day: i64,
    /// What was counted on that day.
    pub others: ByKey<OthersUse>,
    /// Processes that were heard a short while ago, the asking one among them; at least 1.
    pub replicas: u64,
}

impl Registry {
    /// What all processes but this one counted today. Where the clock says that it is before the day `not_before`, of that
    /// day: days do not come back when a clock is set back.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn key_uses(&self, replica: &str, not_before: i64) -> Result<KeyUses> {
        let mut tx = self.db.snapshot().await?;
        let now = self.db.now_ms(&mut tx).await?;
        others(&mut tx, replica, now, not_before).await
    }

    /// As [`Registry::key_uses`], and writes down what this process has counted and what it holds, as `tell` says when it hears
    /// what others do, and that it is there. No other process writes meanwhile.
    ///
    /// # Errors
    /// Storage errors; nothing is lost then, since the next time all of it is written again.
    pub async fn exchange_key_uses(
        &self,
        replica: &str,
        not_before: i64,
        tell: impl FnOnce(&KeyUses) -> Vec<KeyUse> + Send,
    ) -> Result<KeyUses> {
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
        let heard = others(change.db(), replica, now, not_before).await?;
        for used in tell(&heard) {
            write(change.db(), replica, &used).await?;
        }
        change.commit().await?;
        Ok(heard)
    }

    /// Requests and tokens that all processes, this one among them, counted in the month of this day and before it.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn key_uses_earlier(&self, day: i64) -> Result<ByKey<(u64, u64)>> {
        let rows = sqlx::query(
            "SELECT key_id, model, CAST(SUM(requests) AS BIGINT) AS requests, CAST(SUM(tokens) AS BIGINT) AS tokens
             FROM api_key_counts WHERE day >= $1 AND day < $2 GROUP BY key_id, model",
        )
        .bind(month_around(day).start)
        .bind(day)
        .fetch_all(&self.db.pool)
        .await
        .map_err(reading)?;
        by_key(&rows, |row| Ok((count(row, "requests")?, count(row, "tokens")?)))
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
        for forget in
            ["DELETE FROM api_key_uses WHERE day < $1", "DELETE FROM api_key_model_uses WHERE day < $1"]
        {
            sqlx::query(forget).bind(now / DAY_MS - DAYS_KEPT).execute(change.db()).await.map_err(writing)?;
        }
        change.commit().await
    }
}

/// What keys used today and in this month, by the database's clock.
pub(super) async fn usage(
    db: &mut Connection,
    now: i64,
) -> Result<HashMap<String, BTreeMap<String, KeyUsage>>> {
    let today = now / DAY_MS;
    let rows = sqlx::query(
        "SELECT key_id, model,
                CAST(SUM(CASE WHEN day = $1 THEN requests ELSE 0 END) AS BIGINT) AS requests_today,
                CAST(SUM(CASE WHEN day = $1 THEN tokens ELSE 0 END) AS BIGINT) AS tokens_today,
                CAST(SUM(requests) AS BIGINT) AS requests, CAST(SUM(tokens) AS BIGINT) AS tokens
         FROM api_key_counts WHERE day >= $2 AND day <= $1 GROUP BY key_id, model",
    )
    .bind(today)
    .bind(month_around(today).start)
    .fetch_all(db)
    .await
    .map_err(reading)?;
    let mut usage = HashMap::<_, BTreeMap<_, _>>::new();
    for row in &rows {
        let used = KeyUsage {
            requests_today: count(row, "requests_today")?,
            tokens_today: count(row, "tokens_today")?,
            requests_this_month: count(row, "requests")?,
            tokens_this_month: count(row, "tokens")?,
        };
        usage.entry(text(row, "key_id")?).or_default().insert(text(row, "model")?, used);
    }
    Ok(usage)
}

async fn others(db: &mut Connection, replica: &str, now: i64, not_before: i64) -> Result<KeyUses> {
    let day = (now / DAY_MS).max(not_before);
    let heard_since = now - REPLICA_MS;
    let rows = sqlx::query(
        "SELECT c.key_id, c.model, COUNT(r.replica) AS counting,
                CAST(SUM(c.requests) AS BIGINT) AS requests, CAST(SUM(c.tokens) AS BIGINT) AS tokens,
                CAST(SUM(CASE WHEN r.replica IS NOT NULL AND c.requests_held > c.requests
                              THEN c.requests_held ELSE c.requests END) AS BIGINT) AS requests_held,
                CAST(SUM(CASE WHEN r.replica IS NOT NULL AND c.tokens_held > c.tokens
                              THEN c.tokens_held ELSE c.tokens END) AS BIGINT) AS tokens_held
         FROM api_key_counts c LEFT JOIN api_key_replicas r ON r.replica = c.replica AND r.seen_ms > $3
         WHERE c.day = $1 AND c.replica <> $2 GROUP BY c.key_id, c.model",
    )
    .bind(day)
    .bind(replica)
    .bind(heard_since)
    .fetch_all(&mut *db)
    .await
    .map_err(reading)?;
    let others = by_key(&rows, |row| {
        Ok(OthersUse {
            requests: Spent { used: count(row, "requests")?, held: count(row, "requests_held")? },
            tokens: Spent { used: count(row, "tokens")?, held: count(row, "tokens_held")? },
            counting: count(row, "counting")?,
        })
    })?;
    let row =
        sqlx::query("SELECT COUNT(*) AS replicas FROM api_key_replicas WHERE replica <> $1 AND seen_ms > $2")
            .bind(replica)
            .bind(heard_since)
            .fetch_one(db)
            .await
            .map_err(reading)?;
    Ok(KeyUses { day, others, replicas: count(&row, "replicas")? + 1 })
}

async fn write(db: &mut Connection, replica: &str, used: &KeyUse) -> Result<()> {
    let query = match used.model.is_empty() {
        true => {
            "INSERT INTO api_key_uses (day, key_id, replica, requests, tokens, requests_held, tokens_held)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (day, key_id, replica)
             DO UPDATE SET requests = excluded.requests, tokens = excluded.tokens,
                           requests_held = excluded.requests_held, tokens_held = excluded.tokens_held"
        }
        false => {
            "INSERT INTO api_key_model_uses (day, key_id, replica, requests, tokens, requests_held, tokens_held, model)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             ON CONFLICT (day, key_id, model, replica)
             DO UPDATE SET requests = excluded.requests, tokens = excluded.tokens,
                           requests_held = excluded.requests_held, tokens_held = excluded.tokens_held"
        }
    };
    let query = sqlx::query(query)
        .bind(used.day)
        .bind(&used.key)
        .bind(replica)
        .bind(to_db(used.requests.used)?)
        .bind(to_db(used.tokens.used)?)
        .bind(to_db(used.requests.held)?)
        .bind(to_db(used.tokens.held)?);
    let query = if used.model.is_empty() { query } else { query.bind(&used.model) };
    query.execute(db).await.map(drop).map_err(writing)
}

fn by_key<T>(rows: &[Row], read: impl Fn(&Row) -> Result<T>) -> Result<ByKey<T>> {
    let mut all = ByKey::with_capacity(rows.len());
    for row in rows {
        all.entry(text(row, "key_id")?).or_default().insert(text(row, "model")?, read(row)?);
    }
    Ok(all)
}
