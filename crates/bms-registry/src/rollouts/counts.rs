//! What replicas count in the steps of rollouts, summed through the database.
//!
//! Each replica writes what it has counted so far, not what was added: writing it twice counts it once. A replica that
//! starts again takes another name.

use std::collections::BTreeMap;

use bms_wire::api::{Rollout, RolloutShadow, RolloutSide};
use bms_wire::{Code, Error, Result};

use crate::Registry;
use crate::database::{Connection, count, reading, text, to_db, writing};

/// The names of the sides: the stable version, the candidate, and copies sent to the candidate.
pub const SIDES: [&str; 3] = ["stable", "candidate", "shadow"];

/// Steps per doubling of the latency: neighbours differ by 9 %.
const STEPS_PER_OCTAVE: f64 = 8.0;

/// What was counted on one side of a rollout's step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RolloutCount {
    /// The rollout's number.
    pub rollout: u64,
    /// The step.
    pub step: u64,
    /// Index into [`SIDES`].
    pub side: usize,
    /// Requests answered; of copies, those compared.
    pub requests: u64,
    /// Those answered with an error; of copies, those that did not agree.
    pub errors: u64,
    /// Copies that were not sent.
    pub dropped: u64,
    /// Requests without an error, by step of their latency.
    pub latency: BTreeMap<u32, u64>,
}

impl RolloutCount {
    /// The step a latency falls into: `floor(8 * log2(microseconds))`.
    pub fn latency_step(seconds: f64) -> u32 {
        ((seconds * 1e6).max(1.0).log2() * STEPS_PER_OCTAVE) as u32
    }

    /// Milliseconds that the request of this rank took at most, counted from the fastest, which is 1.
    pub fn ranked_ms(&self, rank: u64) -> Option<f64> {
        let mut seen = 0;
        let step = self.latency.iter().find(|(_, count)| {
            seen += **count;
            rank <= seen
        });
        step.map(|(step, _)| (f64::from(step + 1) / STEPS_PER_OCTAVE).exp2() / 1e3)
    }

    /// Requests whose latency was noted.
    pub fn timed(&self) -> u64 {
        self.latency.values().sum()
    }

    /// The upper edge of the step in which the share `q` of them is reached, milliseconds; 0 without any.
    pub fn percentile_ms(&self, q: f64) -> f64 {
        self.ranked_ms((q * self.timed() as f64).ceil().max(1.0) as u64).unwrap_or_default()
    }

    fn add(&mut self, other: &RolloutCount) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.dropped += other.dropped;
        for (step, count) in &other.latency {
            *self.latency.entry(*step).or_default() += count;
        }
    }
}

impl Registry {
    /// Writes down what this replica has counted so far.
    ///
    /// # Errors
    /// Storage errors; nothing is lost then, since the next time all of it is written again.
    pub async fn flush_counts(&self, replica: &str, counts: &[RolloutCount]) -> Result<()> {
        let mut change = self.change().await?;
        for counted in counts {
            let side = SIDES.get(counted.side).copied().ok_or_else(|| {
                Error::new(Code::Internal, format!("a rollout has no side {}", counted.side))
            })?;
            let latency: Vec<String> =
                counted.latency.iter().map(|(step, n)| format!("{step}:{n}")).collect();
            sqlx::query(
                "INSERT INTO rollout_counts (rollout, step, replica, side, requests, errors, dropped, latency)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
                 ON CONFLICT (rollout, step, replica, side) DO UPDATE SET requests = excluded.requests,
                     errors = excluded.errors, dropped = excluded.dropped, latency = excluded.latency",
            )
            .bind(to_db(counted.rollout)?)
            .bind(to_db(counted.step)?)
            .bind(replica)
            .bind(side)
            .bind(to_db(counted.requests)?)
            .bind(to_db(counted.errors)?)
            .bind(to_db(counted.dropped)?)
            .bind(latency.join(" "))
            .execute(change.db())
            .await
            .map_err(writing)?;
        }
        change.commit().await
    }

    /// What all replicas counted in a step, by side.
    pub async fn counted(&self, rollout: u64, step: u64) -> Result<[RolloutCount; 3]> {
        let mut tx = self.db.snapshot().await?;
        sum(&mut tx, rollout, step).await
    }
}

pub(super) async fn sum(db: &mut Connection, rollout: u64, step: u64) -> Result<[RolloutCount; 3]> {
    let rows = sqlx::query(
        "SELECT side, requests, errors, dropped, latency FROM rollout_counts WHERE rollout = $1 AND step = $2",
    )
    .bind(to_db(rollout)?)
    .bind(to_db(step)?)
    .fetch_all(db)
    .await
    .map_err(reading)?;
    let mut sums: [RolloutCount; 3] =
        std::array::from_fn(|side| RolloutCount { rollout, step, side, ..RolloutCount::default() });
    for row in &rows {
        let name = text(row, "side")?;
        let Some(side) = SIDES.iter().position(|side| *side == name) else { continue };
        let latency = text(row, "latency")?;
        let pairs = latency.split_ascii_whitespace().filter_map(|pair| pair.split_once(':'));
        let latency = pairs.filter_map(|(step, n)| Some((step.parse().ok()?, n.parse().ok()?))).collect();
        sums[side].add(&RolloutCount {
            requests: count(row, "requests")?,
            errors: count(row, "errors")?,
            dropped: count(row, "dropped")?,
            latency,
            ..RolloutCount::default()
        });
    }
    Ok(sums)
}

/// Puts what was counted into the rollout as it is shown.
pub(super) fn show([stable, candidate, shadow]: &[RolloutCount; 3], rollout: &mut Rollout) {
    let side = |counted: &RolloutCount| RolloutSide {
        requests: counted.requests,
        errors: counted.errors,
        p95_ms: counted.percentile_ms(0.95),
        p99_ms: counted.percentile_ms(0.99),
    };
    rollout.stable_side = side(stable);
    rollout.candidate_side = side(candidate);
    rollout.shadow = RolloutShadow {
        compared: shadow.requests,
        agreed: shadow.requests.saturating_sub(shadow.errors),
        dropped: shadow.dropped,
    };
}
