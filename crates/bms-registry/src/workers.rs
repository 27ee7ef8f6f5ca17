//! Workers: who may be one, how each stands, and which slots are placed where.

mod centres;
mod joining;
mod placed;

use bms_wire::api::{Worker, WorkerReport, WorkerState};
use bms_wire::{Code, Error, Result, limits};
use serde_json::json;

use crate::Registry;
use crate::database::{Connection, Row, count, reading, text, value, writing};
use crate::names::check_name;
use crate::registry::Change;

pub use placed::{Placed, Placing};

/// Characters of an address.
const ADDRESS_CHARS_MAX: usize = 300;
/// Characters kept of a slot's problem.
const PROBLEM_CHARS_MAX: usize = 500;

impl Registry {
    /// Every worker, by name.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn workers(&self) -> Result<Vec<Worker>> {
        let mut tx = self.db.snapshot().await?;
        let now = self.db.now_ms(&mut tx).await?;
        let rows = sqlx::query("SELECT * FROM workers ORDER BY name").fetch_all(&mut *tx).await;
        rows.map_err(reading)?.iter().map(|row| worker(row, now)).collect()
    }

    /// The worker with this key.
    ///
    /// # Errors
    /// [`Code::PermissionDenied`] when there is none, or it was revoked.
    pub async fn worker_with_key(&self, key_id: &str) -> Result<String> {
        let row = sqlx::query("SELECT name, state FROM workers WHERE key_id = $1")
            .bind(key_id)
            .fetch_optional(&self.db.pool)
            .await
            .map_err(reading)?;
        let Some(row) = row else {
            return Err(Error::new(Code::PermissionDenied, "no worker with this key has joined")
                .hint("Join with a token of `bms node token create`."));
        };
        match text(&row, "state")?.as_str() {
            "revoked" => Err(revoked(&text(&row, "name")?)),
            _ => text(&row, "name"),
        }
    }

    /// Takes a heartbeat. Whether the worker shall leave.
    ///
    /// # Errors
    /// [`Code::PermissionDenied`] when it is unknown or revoked, [`Code::InvalidRequest`] for a report out of its limits.
    pub async fn report_worker(&self, name: &str, report: &WorkerReport) -> Result<bool> {
        check_report(report)?;
        let mut change = self.change().await?;
        let state = state_of(change.db(), name).await?;
        let state = match state.as_str() {
            "revoked" => return Err(revoked(name)),
            "left" => {
                change.audit("worker.returned", name, json!({ "address": report.address })).await?;
                "joined"
            }
            other => other,
        };
        let mut report = report.clone();
        let problems = report.slots.iter_mut().filter_map(|slot| slot.problem.as_mut());
        for problem in problems.chain(report.refused.iter_mut().map(|refusal| &mut refusal.why)) {
            *problem = problem.chars().take(PROBLEM_CHARS_MAX).collect();
        }
        let said = serde_json::to_string(&report)
            .map_err(|e| Error::new(Code::Internal, "a report is not written").because(e))?;
        let now = self.db.now_ms(change.db()).await?;
        sqlx::query("UPDATE workers SET report = $2, state = $3, seen_ms = $4 WHERE name = $1")
            .bind(name)
            .bind(said)
            .bind(state)
            .bind(now)
            .execute(change.db())
            .await
            .map_err(writing)?;
        let leaves = state == "draining";
        change.commit().await?;
        Ok(leaves)
    }

    /// Has the worker's slots placed elsewhere, after which it leaves.
    ///
    /// # Errors
    /// [`Code::NotFound`]; [`Code::Conflict`] when it has left, or was revoked.
    pub async fn drain_worker(&self, name: &str, by: &str) -> Result<Worker> {
        let mut change = self.change().await?;
        match state_of(change.db(), name).await?.as_str() {
            "joined" => {
                set_state(&mut change, name, "draining").await?;
                change.audit("worker.draining", name, json!({ "by": by })).await?;
            }
            "draining" => {}
            other => {
                return Err(Error::new(Code::Conflict, format!("the worker `{name}` is {other}"))
                    .hint("Only one that has joined can be drained."));
            }
        }
        self.changed_worker(change, name).await
    }

    /// Takes back that the worker shall leave: it takes slots again, if it has not left yet.
    ///
    /// # Errors
    /// [`Code::NotFound`]; [`Code::Conflict`] when it has left, leaves by itself, or was revoked.
    pub async fn resume_worker(&self, name: &str, by: &str) -> Result<Worker> {
        let mut change = self.change().await?;
        match state_of(change.db(), name).await?.as_str() {
            "joined" | "draining" if self.row(&mut change, name).await?.report.draining => {
                let what = format!(
                    "the worker `{name}` leaves by itself: it was told to where it runs, or its time ends"
                );
                return Err(Error::new(Code::Conflict, what)
                    .hint("Once it has left, start it again on its machine, with `bms node join`."));
            }
            "draining" => {
                set_state(&mut change, name, "joined").await?;
                change.audit("worker.resumed", name, json!({ "by": by })).await?;
            }
            "joined" => {}
            "left" => {
                return Err(Error::new(Code::Conflict, format!("the worker `{name}` has left"))
                    .hint("Start it again on its machine, with `bms node join`: that is all it needs."));
            }
            other => return Err(Error::new(Code::Conflict, format!("the worker `{name}` is {other}"))),
        }
        self.changed_worker(change, name).await
    }

    /// Takes no more from the worker, whose key and certificates are worth nothing from now on.
    ///
    /// # Errors
    /// [`Code::NotFound`].
    pub async fn revoke_worker(&self, name: &str, by: &str) -> Result<Worker> {
        let mut change = self.change().await?;
        if state_of(change.db(), name).await? != "revoked" {
            set_state(&mut change, name, "revoked").await?;
            change.audit("worker.revoked", name, json!({ "by": by })).await?;
        }
        self.changed_worker(change, name).await
    }

    /// Notes that the worker has left, because it was told so by [`Registry::drain_worker`] or of its own.
    ///
    /// # Errors
    /// [`Code::PermissionDenied`] when it was revoked; [`Code::Conflict`] when it was told to stay meanwhile.
    pub async fn leave_worker(&self, name: &str, was_told: bool) -> Result<()> {
        let mut change = self.change().await?;
        match state_of(change.db(), name).await?.as_str() {
            "revoked" => return Err(revoked(name)),
            "joined" if was_told => {
                return Err(Error::new(Code::Conflict, format!("the worker `{name}` shall stay")));
            }
            _ => {}
        }
        set_state(&mut change, name, "left").await?;
        change.audit("worker.left", name, json!({})).await?;
        change.commit().await
    }

    /// Notes that the worker cannot be reached. It counts as gone until it is heard again.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn suspect_worker(&self, name: &str) -> Result<()> {
        let mut change = self.change().await?;
        sqlx::query("UPDATE workers SET seen_ms = 0 WHERE name = $1")
            .bind(name)
            .execute(change.db())
            .await
            .map_err(writing)?;
        change.commit().await
    }

    async fn changed_worker(&self, mut change: Change, name: &str) -> Result<Worker> {
        let worker = self.row(&mut change, name).await?;
        change.commit().await?;
        Ok(worker)
    }

    async fn row(&self, change: &mut Change, name: &str) -> Result<Worker> {
        let now = self.db.now_ms(change.db()).await?;
        let row = sqlx::query("SELECT * FROM workers WHERE name = $1")
            .bind(name)
            .fetch_one(change.db())
            .await
            .map_err(reading)?;
        worker(&row, now)
    }
}

async fn state_of(db: &mut Connection, name: &str) -> Result<String> {
    let row = sqlx::query("SELECT state FROM workers WHERE name = $1")
        .bind(name)
        .fetch_optional(db)
        .await
        .map_err(reading)?;
    let row = row.ok_or_else(|| {
        Error::new(Code::NotFound, format!("no worker `{name}` has joined"))
            .hint("`bms node list` shows those that have.")
    })?;
    text(&row, "state")
}

async fn set_state(change: &mut Change, name: &str, state: &str) -> Result<()> {
    sqlx::query("UPDATE workers SET state = $2 WHERE name = $1")
        .bind(name)
        .bind(state)
        .execute(change.db())
        .await
        .map_err(writing)?;
    Ok(())
}

fn revoked(name: &str) -> Error {
    Error::new(Code::PermissionDenied, format!("the worker `{name}` was revoked"))
        .hint("Join under another name, with a fresh token and an empty --data folder.")
}

fn worker(row: &Row, now: i64) -> Result<Worker> {
    let said = text(row, "report")?;
    let mut report: WorkerReport = match said.is_empty() {
        true => WorkerReport {
            address: String::new(),
            memory_bytes: 0,
            memory_free_bytes: 0,
            cores: 0,
            labels: Default::default(),
            until_ms: None,
            draining: false,
            slots: Vec::new(),
            refused: Vec::new(),
        },
        false => serde_json::from_str(&said)
            .map_err(|e| Error::new(Code::Io, "the registry's database holds a broken report").because(e))?,
    };
    // What the token says goes before what the worker says of itself.
    let labels: std::collections::BTreeMap<String, String> =
        serde_json::from_str(&text(row, "labels")?).unwrap_or_default();
    report.labels.extend(labels);
    let silent_ms = now.saturating_sub(value(row, "seen_ms")?).max(0);
    let is_gone = i64::try_from(limits::WORKER_GONE_MS).unwrap_or(i64::MAX) < silent_ms;
    let state = match text(row, "state")?.as_str() {
        "revoked" => WorkerState::Revoked,
        "left" => WorkerState::Left,
        _ if is_gone || said.is_empty() => WorkerState::Gone,
        "draining" => WorkerState::Draining,
        _ if report.draining => WorkerState::Draining,
        _ => WorkerState::Ready,
    };
    Ok(Worker { name: text(row, "name")?, state, joined_ms: value(row, "joined_ms")?, silent_ms, report })
}

fn check_report(report: &WorkerReport) -> Result<()> {
    let refusal = |what: &str| Err(Error::new(Code::InvalidRequest, format!("the worker's {what}")));
    let port = report.address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    if ADDRESS_CHARS_MAX < report.address.len() || port.is_none_or(|port| port == 0) {
        return refusal("address is not HOST:PORT");
    }
    if limits::WORKER_SLOTS_MAX < report.slots.len() {
        return refusal("report has too many slots");
    }
    if limits::WORKER_REFUSALS_MAX < report.refused.len() {
        return refusal("report has too many refusals");
    }
    let numbers = [report.memory_bytes, report.memory_free_bytes, report.cores];
    if numbers.into_iter().any(|number| i64::try_from(number).is_err()) {
        return refusal("capacity is out of its limits");
    }
    check_labels(&report.labels)
}

fn check_labels(labels: &std::collections::BTreeMap<String, String>) -> Result<()> {
    if limits::WORKER_LABELS_MAX < labels.len() {
        let what = format!("more than {} labels", limits::WORKER_LABELS_MAX);
        return Err(Error::new(Code::InvalidRequest, what));
    }
    labels.iter().try_for_each(|(name, value)| {
        check_name("label", name)?;
        check_name("value of a label", value)
    })
}

/// A token's uses and time left.
fn uses_left(row: Option<&Row>, now: i64) -> Result<u64> {
    let Some(row) = row else { return Ok(0) };
    let expires: i64 = value(row, "expires_ms")?;
    match now < expires {
        true => count(row, "uses"),
        false => Ok(0),
    }
}
