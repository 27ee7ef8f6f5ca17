//! Rollouts: how traffic goes over from one version to another, decided under a lease and written down step by step.

use bms_wire::api::{
    EvaluationGate, NewRollout, RolledBack, Rollout, RolloutOrder, RolloutShadow, RolloutSide, RolloutState,
    VersionKind,
};
use bms_wire::{Code, Error, Result};
use serde_json::{Value, json};

use crate::Registry;
use crate::aliases::{judge, not_servable, point};
use crate::database::{Connection, Row, count, reading, text, to_db, value, writing};
use crate::leases::Lease;
use crate::registry::Change;
use crate::versions::{alias_target, read_version};

mod counts;
mod plan;

pub use counts::{RolloutCount, SIDES};

/// What the holder of the lease decided about a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RolloutMove {
    /// The candidate takes the share of this step.
    Step(u64),
    /// The candidate takes over.
    Promote,
    /// Back to the stable version.
    RollBack,
}

/// Rollouts under way.
#[derive(Clone, Debug, Default)]
pub struct UnderWay {
    /// They.
    pub rollouts: Vec<Rollout>,
    /// Versions that were replaced and stay loaded for a while, by model.
    pub warm: Vec<(String, u64)>,
    /// The database's clock, milliseconds since 1970.
    pub now_ms: i64,
}

const COLUMNS: &str = "SELECT id, model, alias, stable, candidate, state, step, reason, asked, created_ms, \
                       step_ms, ended_ms, revision FROM rollouts";

impl Registry {
    /// Begins a rollout of a deployed model.
    ///
    /// # Errors
    /// [`Code::ModelNotFound`] when it is not deployed, [`Code::VersionNotFound`], [`Code::InvalidRequest`] for a plan
    /// that contradicts itself, [`Code::QualityRefused`] by the evaluation gate, [`Code::Conflict`] while another one is
    /// under way.
    pub async fn begin_rollout(&self, model: &str, new: &NewRollout, by: &str) -> Result<Rollout> {
        plan::check(&new.plan)?;
        let candidate = self.resolve(model, &new.candidate).await?.version;
        let mut change = self.change().await?;
        let (alias, stable) = deployed(change.db(), model).await?;
        if let Some(other) = under_way(change.db(), model).await? {
            return Err(refuse_meanwhile(&other));
        }
        if candidate == stable {
            let what = format!("version {candidate} of `{model}` is what `{alias}` serves already");
            return Err(Error::new(Code::InvalidRequest, what).hint("Name another version as the candidate."));
        }
        let version = read_version(change.db(), model, candidate).await?;
        if version.kind != VersionKind::Bundle {
            return Err(not_servable(model, candidate));
        }
        if let Some(gate) = &new.require {
            judge(change.db(), model, Some(stable), candidate, gate).await?;
        }
        let now = self.db.now_ms(change.db()).await?;
        let row = sqlx::query("SELECT COALESCE(MAX(id), 0) AS id FROM rollouts")
            .fetch_one(change.db())
            .await
            .map_err(reading)?;
        let id = count(&row, "id")? + 1;
        let asked = serde_json::to_string(new)
            .map_err(|e| Error::new(Code::Internal, "the plan of a rollout cannot be kept").because(e))?;
        sqlx::query(
            "INSERT INTO rollouts (id, model, alias, stable, candidate, state, step, reason, asked, created_ms,
                                   step_ms, warm_until_ms, revision)
             VALUES ($1, $2, $3, $4, $5, 'preparing', 0, 'the candidate is being loaded', $6, $7, $7, 0, 1)",
        )
        .bind(to_db(id)?)
        .bind(model)
        .bind(&alias)
        .bind(to_db(stable)?)
        .bind(to_db(candidate)?)
        .bind(asked)
        .bind(now)
        .execute(change.db())
        .await
        .map_err(writing)?;
        let details = json!({ "rollout": id, "stable": stable, "candidate": candidate, "by": by,
                              "steps": new.plan.steps, "automatic": new.plan.automatic });
        change.audit("rollout.begun", model, details).await?;
        let rollout = read(change.db(), model).await?;
        change.commit().await?;
        rollout.ok_or_else(|| no_rollout(model))
    }

    /// The last rollout of a model, with what was counted in its step.
    ///
    /// # Errors
    /// [`Code::NotFound`] when it had none.
    pub async fn rollout(&self, model: &str) -> Result<Rollout> {
        let mut tx = self.db.snapshot().await?;
        let mut rollout = read(&mut tx, model).await?.ok_or_else(|| no_rollout(model))?;
        let counted = counts::sum(&mut tx, rollout.id, rollout.step).await?;
        counts::show(&counted, &mut rollout);
        Ok(rollout)
    }

    /// The last rollout of every model, by name.
    pub async fn rollouts(&self) -> Result<Vec<Rollout>> {
        let mut tx = self.db.snapshot().await?;
        let sql =
            format!("{COLUMNS} WHERE id IN (SELECT MAX(id) FROM rollouts GROUP BY model) ORDER BY model");
        let rows = sqlx::query(&sql).fetch_all(&mut *tx).await.map_err(reading)?;
        let mut rollouts = rows.iter().map(of_row).collect::<Result<Vec<_>>>()?;
        for rollout in &mut rollouts {
            let counted = counts::sum(&mut tx, rollout.id, rollout.step).await?;
            counts::show(&counted, rollout);
        }
        Ok(rollouts)
    }

    /// The database's clock, milliseconds since 1970.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn database_now_ms(&self) -> Result<i64> {
        let mut tx = self.db.snapshot().await?;
        self.db.now_ms(&mut tx).await
    }

    /// What is under way, and what stays loaded for a while.
    pub async fn rollouts_under_way(&self) -> Result<UnderWay> {
        let mut tx = self.db.snapshot().await?;
        let now_ms = self.db.now_ms(&mut tx).await?;
        let sql = format!("{COLUMNS} WHERE ended_ms IS NULL ORDER BY model");
        let rows = sqlx::query(&sql).fetch_all(&mut *tx).await.map_err(reading)?;
        let rollouts = rows.iter().map(of_row).collect::<Result<Vec<_>>>()?;
        let rows = sqlx::query(
            "SELECT DISTINCT r.model AS model, r.stable AS stable FROM rollouts r
             JOIN deployments d ON d.model = r.model
             JOIN versions v ON v.model = r.model AND v.version = r.stable AND v.deleted_ms IS NULL
             WHERE $1 < r.warm_until_ms ORDER BY r.model, r.stable",
        )
        .bind(now_ms)
        .fetch_all(&mut *tx)
        .await
        .map_err(reading)?;
        let mut warm = Vec::with_capacity(rows.len());
        for row in &rows {
            warm.push((text(row, "model")?, count(row, "stable")?));
        }
        Ok(UnderWay { rollouts, warm, now_ms })
    }

    /// Writes down what the holder of `lease` decided about a rollout that it saw in `revision`, and why.
    ///
    /// # Errors
    /// [`Code::Conflict`] when the lease is over or the rollout was changed meanwhile; nothing is changed then.
    /// [`Code::QualityRefused`] when the evaluation gate refuses the promotion.
    pub async fn move_rollout(
        &self,
        lease: &Lease,
        seen: &Rollout,
        to: &RolloutMove,
        reason: &str,
    ) -> Result<()> {
        let mut change = self.change_under(lease).await?;
        let now = self.db.now_ms(change.db()).await?;
        let stands = under_way(change.db(), &seen.model).await?;
        let same = |r: &Rollout| r.id == seen.id && r.revision == seen.revision;
        let Some(rollout) = stands.filter(same) else {
            let what = format!("the rollout of `{}` was changed meanwhile", seen.model);
            return Err(Error::new(Code::Conflict, what).hint("Look at it again."));
        };
        let under = json!({ "lease": lease.name(), "token": lease.token() });
        match to {
            RolloutMove::Step(step) => {
                step_to(&mut change, &rollout, *step, reason, now).await?;
                let percent = rollout.plan.steps.get(*step as usize);
                let details = json!({ "rollout": rollout.id, "step": step, "percent": percent, "reason": reason,
                                      "under": under });
                change.audit("rollout.step", &rollout.model, details).await?;
            }
            RolloutMove::Promote => promote(&mut change, &rollout, reason, under, now).await?,
            RolloutMove::RollBack => {
                end(&mut change, &rollout, RolloutState::RolledBack, reason, now, now).await?;
                record_end(&mut change, &rollout, "rollout.rolled_back", reason, under).await?;
            }
        }
        change.commit().await
    }

    /// Does what somebody orders.
    ///
    /// # Errors
    /// [`Code::NotFound`] when none is under way, [`Code::Conflict`] when it does not stand so that this can be done.
    pub async fn order_rollout(&self, model: &str, order: RolloutOrder, by: &str) -> Result<Rollout> {
        let mut change = self.change().await?;
        let now = self.db.now_ms(change.db()).await?;
        let rollout = under_way(change.db(), model).await?.ok_or_else(|| no_rollout(model))?;
        let reason = format!("ordered by {by}");
        match (order, rollout.state) {
            (RolloutOrder::Pause, RolloutState::Running) => {
                set_state(&mut change, &rollout, RolloutState::Paused, &reason).await?;
                record_end(&mut change, &rollout, "rollout.paused", &reason, Value::Null).await?;
            }
            (RolloutOrder::Resume, RolloutState::Paused) => {
                set_state(&mut change, &rollout, RolloutState::Running, &reason).await?;
                record_end(&mut change, &rollout, "rollout.resumed", &reason, Value::Null).await?;
            }
            (RolloutOrder::Promote, _) => promote(&mut change, &rollout, &reason, Value::Null, now).await?,
            (RolloutOrder::Abort, _) => abort(&mut change, &rollout, &reason, now).await?,
            (order, state) => {
                let what = format!("the rollout of `{model}` is {}", state.as_str());
                let hint = format!("`{}` does not apply to it now.", order.as_str());
                return Err(Error::new(Code::Conflict, what).hint(hint));
            }
        }
        let rollout = read(change.db(), model).await?;
        change.commit().await?;
        rollout.ok_or_else(|| no_rollout(model))
    }

    /// Lets the version serve that did before: ends a rollout under way, else moves the deployment's alias back.
    ///
    /// # Errors
    /// [`Code::ModelNotFound`] when it is not deployed, [`Code::NotFound`] when nothing served before,
    /// [`Code::VersionNotFound`] when that was deleted.
    pub async fn roll_back(&self, model: &str, by: &str) -> Result<RolledBack> {
        let mut change = self.change().await?;
        let now = self.db.now_ms(change.db()).await?;
        let (alias, serves) = deployed(change.db(), model).await?;
        let reason = format!("rolled back by {by}");
        if let Some(rollout) = under_way(change.db(), model).await? {
            abort(&mut change, &rollout, &reason, now).await?;
            change.commit().await?;
            return Ok(RolledBack { model: model.to_owned(), version: serves, from: rollout.candidate });
        }
        let row = sqlx::query("SELECT previous FROM aliases WHERE model = $1 AND alias = $2")
            .bind(model)
            .bind(&alias)
            .fetch_one(change.db())
            .await
            .map_err(reading)?;
        let previous: Option<i64> = value(&row, "previous")?;
        let Some(previous) = previous.and_then(|previous| u64::try_from(previous).ok()) else {
            let what = format!("`{alias}` of `{model}` has always been version {serves}");
            return Err(Error::new(Code::NotFound, what).hint("Move the alias with `bms promote`."));
        };
        read_version(change.db(), model, previous).await?;
        point(&mut change, model, &alias, previous).await?;
        let details = json!({ "version": previous, "from": serves, "reason": reason });
        change.audit("deployment.rolled_back", model, details).await?;
        change.commit().await?;
        Ok(RolledBack { model: model.to_owned(), version: previous, from: serves })
    }
}

/// Ends what is under way for a model whose deployment ends.
pub(crate) async fn end_with_deployment(registry: &Registry, change: &mut Change, model: &str) -> Result<()> {
    let Some(rollout) = under_way(change.db(), model).await? else { return Ok(()) };
    let now = registry.db.now_ms(change.db()).await?;
    abort(change, &rollout, "the deployment was removed", now).await
}

/// Refuses what may not happen while a rollout of the alias is under way.
pub(crate) async fn refuse_during_rollout(db: &mut Connection, model: &str, alias: &str) -> Result<()> {
    match under_way(db, model).await? {
        Some(rollout) if rollout.alias == alias => Err(refuse_meanwhile(&rollout)),
        _ => Ok(()),
    }
}

/// Refuses that a deployment follows another alias than the one of a rollout under way.
pub(crate) async fn refuse_other_alias_during_rollout(
    db: &mut Connection,
    model: &str,
    alias: &str,
) -> Result<()> {
    match under_way(db, model).await? {
        Some(rollout) if rollout.alias != alias => Err(refuse_meanwhile(&rollout)),
        _ => Ok(()),
    }
}

/// Whether a version takes part in a rollout that is under way.
pub(crate) async fn is_candidate(db: &mut Connection, model: &str, version: u64) -> Result<bool> {
    Ok(under_way(db, model).await?.is_some_and(|rollout| rollout.candidate == version))
}

fn refuse_meanwhile(rollout: &Rollout) -> Error {
    let what = format!(
        "a rollout of `{}` from version {} to {} is under way",
        rollout.model, rollout.stable, rollout.candidate
    );
    Error::new(Code::Conflict, what).hint("Promote or abort it first: `bms rollout promote|abort MODEL`.")
}

fn no_rollout(model: &str) -> Error {
    Error::new(Code::NotFound, format!("no rollout of `{model}` is under way"))
        .hint("Begin one with `bms deploy MODEL --candidate VERSION`.")
}

async fn deployed(db: &mut Connection, model: &str) -> Result<(String, u64)> {
    let row = sqlx::query("SELECT alias FROM deployments WHERE model = $1")
        .bind(model)
        .fetch_optional(&mut *db)
        .await
        .map_err(reading)?;
    let Some(row) = row else {
        return Err(Error::new(Code::ModelNotFound, format!("model `{model}` is not deployed"))
            .hint("Deploy the version that works first: `bms deploy MODEL`."));
    };
    let alias = text(&row, "alias")?;
    let version = alias_target(db, model, &alias).await?;
    version.map(|version| (alias, version)).ok_or_else(|| no_rollout(model))
}

async fn read(db: &mut Connection, model: &str) -> Result<Option<Rollout>> {
    let sql = format!("{COLUMNS} WHERE model = $1 ORDER BY id DESC LIMIT 1");
    let row = sqlx::query(&sql).bind(model).fetch_optional(db).await.map_err(reading)?;
    row.as_ref().map(of_row).transpose()
}

async fn under_way(db: &mut Connection, model: &str) -> Result<Option<Rollout>> {
    Ok(read(db, model).await?.filter(|rollout| rollout.ended_ms.is_none()))
}

fn of_row(row: &Row) -> Result<Rollout> {
    let unreadable = |what: &str| Error::new(Code::Io, format!("the registry's database holds {what}"));
    let name = text(row, "state")?;
    let state = RolloutState::parse(&name)
        .ok_or_else(|| unreadable(&format!("`{name}` as the state of a rollout")))?;
    let asked: NewRollout = serde_json::from_str(&text(row, "asked")?)
        .map_err(|e| unreadable("a rollout whose plan cannot be read").because(e))?;
    let step = count(row, "step")?;
    let percent = match state {
        RolloutState::Running | RolloutState::Paused => {
            asked.plan.steps.get(step as usize).copied().unwrap_or_default()
        }
        RolloutState::Promoted => 100.0,
        RolloutState::Preparing | RolloutState::RolledBack | RolloutState::Aborted => 0.0,
    };
    Ok(Rollout {
        id: count(row, "id")?,
        model: text(row, "model")?,
        alias: text(row, "alias")?,
        stable: count(row, "stable")?,
        candidate: count(row, "candidate")?,
        state,
        step,
        percent,
        reason: text(row, "reason")?,
        plan: asked.plan,
        require: asked.require,
        created_ms: value(row, "created_ms")?,
        step_ms: value(row, "step_ms")?,
        ended_ms: value(row, "ended_ms")?,
        revision: count(row, "revision")?,
        stable_side: RolloutSide::default(),
        candidate_side: RolloutSide::default(),
        shadow: RolloutShadow::default(),
    })
}

async fn set_state(change: &mut Change, rollout: &Rollout, state: RolloutState, reason: &str) -> Result<()> {
    sqlx::query("UPDATE rollouts SET state = $2, reason = $3, revision = revision + 1 WHERE id = $1")
        .bind(to_db(rollout.id)?)
        .bind(state.as_str())
        .bind(reason)
        .execute(change.db())
        .await
        .map_err(writing)?;
    Ok(())
}

async fn step_to(change: &mut Change, rollout: &Rollout, step: u64, reason: &str, now: i64) -> Result<()> {
    sqlx::query(
        "UPDATE rollouts SET state = 'running', step = $2, step_ms = $3, reason = $4, revision = revision + 1
         WHERE id = $1",
    )
    .bind(to_db(rollout.id)?)
    .bind(to_db(step)?)
    .bind(now)
    .bind(reason)
    .execute(change.db())
    .await
    .map_err(writing)?;
    Ok(())
}

async fn end(
    change: &mut Change,
    rollout: &Rollout,
    state: RolloutState,
    reason: &str,
    now: i64,
    warm_until: i64,
) -> Result<()> {
    sqlx::query(
        "UPDATE rollouts SET state = $2, reason = $3, ended_ms = $4, warm_until_ms = $5, revision = revision + 1
         WHERE id = $1",
    )
    .bind(to_db(rollout.id)?)
    .bind(state.as_str())
    .bind(reason)
    .bind(now)
    .bind(warm_until)
    .execute(change.db())
    .await
    .map_err(writing)?;
    Ok(())
}

/// The rollout is over before its alias moves: that is refused while one is under way.
async fn promote(change: &mut Change, rollout: &Rollout, reason: &str, under: Value, now: i64) -> Result<()> {
    if let Some(gate) = &rollout.require {
        gate_of(change.db(), rollout, gate).await?;
    }
    let warm_ms = i64::try_from(rollout.plan.keep_warm_seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
    let warm_until = now.saturating_add(warm_ms);
    end(change, rollout, RolloutState::Promoted, reason, now, warm_until).await?;
    point(change, &rollout.model, &rollout.alias, rollout.candidate).await?;
    record_end(change, rollout, "rollout.promoted", reason, under).await
}

async fn gate_of(db: &mut Connection, rollout: &Rollout, gate: &EvaluationGate) -> Result<()> {
    judge(db, &rollout.model, Some(rollout.stable), rollout.candidate, gate).await
}

async fn abort(change: &mut Change, rollout: &Rollout, reason: &str, now: i64) -> Result<()> {
    end(change, rollout, RolloutState::Aborted, reason, now, now).await?;
    record_end(change, rollout, "rollout.aborted", reason, Value::Null).await
}

/// The event of a change of state, with what was counted in the step.
async fn record_end(
    change: &mut Change,
    rollout: &Rollout,
    action: &str,
    reason: &str,
    under: Value,
) -> Result<()> {
    let mut counted = rollout.clone();
    let sums = counts::sum(change.db(), rollout.id, rollout.step).await?;
    counts::show(&sums, &mut counted);
    let details = json!({
        "rollout": rollout.id, "stable": rollout.stable, "candidate": rollout.candidate,
        "step": rollout.step, "percent": rollout.percent, "reason": reason, "under": under,
        "stable_side": counted.stable_side, "candidate_side": counted.candidate_side,
        "shadow": counted.shadow,
    });
    change.audit(action, &rollout.model, details).await.map(drop)
}
