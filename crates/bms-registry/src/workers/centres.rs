//! Where workers reach the replicas of the centre: each says so again and again, so that workers learn of all of them from
//! any.

use bms_wire::{Result, limits};

use crate::Registry;
use crate::database::{reading, text, writing};

impl Registry {
    /// Notes that a replica is there for workers at this address.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn note_centre(&self, address: &str) -> Result<()> {
        let mut change = self.change().await?;
        let now = self.db.now_ms(change.db()).await?;
        sqlx::query(
            "INSERT INTO centres (address, seen_ms) VALUES ($1, $2)
             ON CONFLICT (address) DO UPDATE SET seen_ms = excluded.seen_ms",
        )
        .bind(address)
        .bind(now)
        .execute(change.db())
        .await
        .map_err(writing)?;
        sqlx::query("DELETE FROM centres WHERE seen_ms < $1")
            .bind(now - gone_ms())
            .execute(change.db())
            .await
            .map_err(writing)?;
        change.commit().await
    }

    /// Notes that no replica is there any more.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn forget_centre(&self, address: &str) -> Result<()> {
        let mut change = self.change().await?;
        sqlx::query("DELETE FROM centres WHERE address = $1")
            .bind(address)
            .execute(change.db())
            .await
            .map_err(writing)?;
        change.commit().await
    }

    /// Where replicas were lately, the one heard last first.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn centres(&self) -> Result<Vec<String>> {
        let mut tx = self.db.snapshot().await?;
        let now = self.db.now_ms(&mut tx).await?;
        let rows = sqlx::query(
            "SELECT address FROM centres WHERE seen_ms >= $1 ORDER BY seen_ms DESC, address LIMIT $2",
        )
        .bind(now - gone_ms())
        .bind(i64::try_from(limits::CENTRES_MAX).unwrap_or(i64::MAX))
        .fetch_all(&mut *tx)
        .await
        .map_err(reading)?;
        rows.iter().map(|row| text(row, "address")).collect()
    }
}

fn gone_ms() -> i64 {
    i64::try_from(limits::CENTRE_GONE_MS).unwrap_or(i64::MAX)
}
