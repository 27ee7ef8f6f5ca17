//! Which slot is where, as the leader has decided under its lease.

use bms_wire::Result;

use crate::database::{Row, count, reading, text, to_db, value, writing};
use crate::{Lease, Registry};

/// A slot in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Names this slot in this place; another place is another name.
    pub id: String,
    /// Model name.
    pub model: String,
    /// Version.
    pub version: u64,
    /// Which of the version's slots.
    pub number: u64,
    /// The worker it is on; the centre itself when absent.
    pub worker: Option<String>,
    /// Bytes of memory it is reckoned with.
    pub memory_bytes: u64,
    /// Processors that were asked for it; it counts as one when none were.
    pub cores: Option<u64>,
    /// Another takes over.
    pub leaving: bool,
    /// Why it is there, when that needs saying.
    pub why: String,
    /// Milliseconds since 1970 of its last change, by the database's clock.
    pub made_ms: i64,
}

/// Changes to what is placed where; all of them at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placing {
    /// Placed from now on.
    pub add: Vec<Placed>,
    /// Others take over from these, by name.
    pub leave: Vec<String>,
    /// What is said by now of those that stay, by name.
    pub say: Vec<(String, String)>,
    /// Not there any more, by name.
    pub remove: Vec<String>,
}

impl Placing {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.leave.is_empty() && self.say.is_empty() && self.remove.is_empty()
    }
}

impl Registry {
    /// Every slot in its place, and what time it is for the database.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn placements(&self) -> Result<(Vec<Placed>, i64)> {
        let mut tx = self.db.snapshot().await?;
        let now = self.db.now_ms(&mut tx).await?;
        let rows = sqlx::query(
            "SELECT p.id, p.model, p.version, p.number, p.worker, p.memory_bytes, p.leaving, p.why, p.made_ms, c.cores
             FROM placements p LEFT JOIN placement_cores c ON c.id = p.id
             ORDER BY p.model, p.version, p.number, p.id",
        )
        .fetch_all(&mut *tx)
        .await
        .map_err(reading)?;
        Ok((rows.iter().map(placed).collect::<Result<_>>()?, now))
    }

    /// Changes what is placed where, if the lease holds.
    ///
    /// # Errors
    /// [`bms_wire::Code::Conflict`] when the lease is over; storage errors.
    pub async fn place(&self, lease: &Lease, placing: &Placing) -> Result<()> {
        let mut change = self.change_under(lease).await?;
        let now = self.db.now_ms(change.db()).await?;
        for placed in &placing.add {
            sqlx::query(
                "INSERT INTO placements (id, model, version, number, worker, memory_bytes, leaving, why, made_ms)
                 VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $8)",
            )
            .bind(&placed.id)
            .bind(&placed.model)
            .bind(to_db(placed.version)?)
            .bind(to_db(placed.number)?)
            .bind(placed.worker.as_deref())
            .bind(to_db(placed.memory_bytes)?)
            .bind(&placed.why)
            .bind(now)
            .execute(change.db())
            .await
            .map_err(writing)?;
            if let Some(cores) = placed.cores {
                sqlx::query("INSERT INTO placement_cores (id, cores) VALUES ($1, $2)")
                    .bind(&placed.id)
                    .bind(to_db(cores)?)
                    .execute(change.db())
                    .await
                    .map_err(writing)?;
            }
        }
        for (id, why) in &placing.say {
            sqlx::query("UPDATE placements SET why = $2 WHERE id = $1")
                .bind(id)
                .bind(why)
                .execute(change.db())
                .await
                .map_err(writing)?;
        }
        for id in &placing.leave {
            sqlx::query("UPDATE placements SET leaving = 1, made_ms = $2 WHERE id = $1")
                .bind(id)
                .bind(now)
                .execute(change.db())
                .await
                .map_err(writing)?;
        }
        for id in &placing.remove {
            sqlx::query("DELETE FROM placements WHERE id = $1")
                .bind(id)
                .execute(change.db())
                .await
                .map_err(writing)?;
        }
        change.commit().await
    }
}

fn placed(row: &Row) -> Result<Placed> {
    let cores: Option<i64> = value(row, "cores")?;
    Ok(Placed {
        id: text(row, "id")?,
        model: text(row, "model")?,
        version: count(row, "version")?,
        number: count(row, "number")?,
        worker: value(row, "worker")?,
        memory_bytes: count(row, "memory_bytes")?,
        cores: cores.and_then(|cores| u64::try_from(cores).ok()),
        leaving: count(row, "leaving")? != 0,
        why: text(row, "why")?,
        made_ms: value(row, "made_ms")?,
    })
}
