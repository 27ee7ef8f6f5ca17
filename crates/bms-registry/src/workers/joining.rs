//! How a machine becomes a worker: a token is made, kept as a digest, and used up.

use bms_wire::api::NewJoinToken;
use bms_wire::{Code, Error, Result, limits};
use serde_json::json;

use super::{check_labels, uses_left, worker};
use crate::Registry;
use crate::database::{count, reading, text, to_db, writing};
use crate::names::{check_digest, check_name};

impl Registry {
    /// Notes whose certificates count, in base64, the first time; later it has to be the same.
    ///
    /// # Errors
    /// [`Code::Conflict`] when another authority's is noted.
    pub async fn anchor_authority(&self, certificate: &str) -> Result<()> {
        let mut change = self.change().await?;
        let row = sqlx::query("SELECT certificate FROM worker_authority")
            .fetch_optional(change.db())
            .await
            .map_err(reading)?;
        if let Some(row) = row {
            if text(&row, "certificate")? == certificate {
                return Ok(());
            }
            return Err(Error::new(Code::Conflict, "another authority signs the workers' certificates here")
                .hint("All replicas need the same authority: copy the folder `nodes-ca` of the first one's home."));
        }
        sqlx::query("INSERT INTO worker_authority (id, certificate) VALUES (1, $1)")
            .bind(certificate)
            .execute(change.db())
            .await
            .map_err(writing)?;
        change.audit("worker.authority", "workers", json!({ "certificate": certificate })).await?;
        change.commit().await
    }

    /// Notes a token by the digest of its secret. Returns when it ends.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] for uses, a time or labels out of their limits; [`Code::TooLarge`] when there are too many.
    pub async fn create_join_token(&self, digest: &str, new: &NewJoinToken, by: &str) -> Result<i64> {
        check_digest(digest)?;
        check_labels(&new.labels)?;
        let (uses, seconds) = (limits::JOIN_TOKEN_USES_MAX, limits::JOIN_TOKEN_SECONDS_MAX);
        if !(1..=uses).contains(&new.uses) || !(1..=seconds).contains(&new.seconds) {
            let what = format!("a join token is for 1 to {uses} workers and 1 to {seconds} s");
            return Err(Error::new(Code::InvalidRequest, what));
        }
        let mut change = self.change().await?;
        let now = self.db.now_ms(change.db()).await?;
        sqlx::query("DELETE FROM join_tokens WHERE expires_ms <= $1 OR uses = 0")
            .bind(now)
            .execute(change.db())
            .await
            .map_err(writing)?;
        let row = sqlx::query("SELECT COUNT(*) AS tokens FROM join_tokens").fetch_one(change.db()).await;
        if limits::JOIN_TOKENS_MAX <= count(&row.map_err(reading)?, "tokens")? {
            let what = format!("{} join tokens are good already", limits::JOIN_TOKENS_MAX);
            return Err(Error::new(Code::TooLarge, what).hint("Wait until some are used or end."));
        }
        let expires_ms = now.saturating_add(to_db(new.seconds)?.saturating_mul(1000));
        sqlx::query("INSERT INTO join_tokens (digest, uses, expires_ms, labels) VALUES ($1, $2, $3, $4)")
            .bind(digest)
            .bind(to_db(new.uses)?)
            .bind(expires_ms)
            .bind(json!(new.labels).to_string())
            .execute(change.db())
            .await
            .map_err(writing)?;
        let details = json!({ "by": by, "uses": new.uses, "expires_ms": expires_ms, "labels": new.labels });
        change.audit("worker.token", &digest[..12], details).await?;
        change.commit().await?;
        Ok(expires_ms)
    }

    /// Uses a token, by the digest of its secret, to let in a worker with this name and key. The same key again is let
    /// in without another use, so that an answer that was lost costs nothing.
    ///
    /// # Errors
    /// [`Code::PermissionDenied`] for a token that is unknown, used up or over; [`Code::Conflict`] when the name is taken.
    pub async fn enrol_worker(&self, token: &str, name: &str, key_id: &str) -> Result<()> {
        check_name("worker name", name)?;
        check_digest(key_id)?;
        let mut change = self.change().await?;
        let now = self.db.now_ms(change.db()).await?;
        let known = sqlx::query("SELECT * FROM workers WHERE name = $1 OR key_id = $2")
            .bind(name)
            .bind(key_id)
            .fetch_all(change.db())
            .await
            .map_err(reading)?;
        for row in &known {
            let (same_name, same_key) = (text(row, "name")? == name, text(row, "key_id")? == key_id);
            let state = text(row, "state")?;
            if same_name && same_key && state != "revoked" {
                return Ok(());
            }
            let is_free = state == "left" || worker(row, now)?.state == bms_wire::api::WorkerState::Gone;
            if state == "revoked" || same_key || !is_free {
                return Err(Error::new(Code::Conflict, format!("the name `{name}` or this key is taken"))
                    .hint("Choose another name with --name, and an empty --data folder."));
            }
        }
        let row = sqlx::query("SELECT * FROM join_tokens WHERE digest = $1")
            .bind(token)
            .fetch_optional(change.db())
            .await
            .map_err(reading)?;
        let (Some(row), 1..) = (&row, uses_left(row.as_ref(), now)?) else {
            return Err(Error::new(Code::PermissionDenied, "the join token is unknown, used up or over")
                .hint("Make another with `bms node token create`."));
        };
        let row = sqlx::query("SELECT COUNT(*) AS workers FROM workers")
            .fetch_one(change.db())
            .await
            .map(|n| (n, row));
        let (counted, row) = row.map_err(reading)?;
        if limits::WORKERS_MAX <= count(&counted, "workers")? {
            let what = format!("the registry knows {} workers already", limits::WORKERS_MAX);
            return Err(Error::new(Code::TooLarge, what));
        }
        let labels = text(row, "labels")?;
        sqlx::query("UPDATE join_tokens SET uses = uses - 1 WHERE digest = $1")
            .bind(token)
            .execute(change.db())
            .await
            .map_err(writing)?;
        sqlx::query(
            "INSERT INTO workers (name, key_id, labels, report, state, joined_ms, seen_ms)
             VALUES ($1, $2, $3, '', 'joined', $4, 0)
             ON CONFLICT (name) DO UPDATE SET key_id = excluded.key_id, labels = excluded.labels, report = '',
                                              state = 'joined', joined_ms = excluded.joined_ms, seen_ms = 0",
        )
        .bind(name)
        .bind(key_id)
        .bind(labels)
        .bind(now)
        .execute(change.db())
        .await
        .map_err(writing)?;
        change.audit("worker.joined", name, json!({ "key": key_id, "token": &token[..12] })).await?;
        change.commit().await
    }
}
