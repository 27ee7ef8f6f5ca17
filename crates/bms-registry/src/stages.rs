//! Stages, and who has to agree before a version enters one.
//!
//! Who asks and who agrees is what the requests say: they are not authenticated. Everything is in the audit log.

use bms_wire::api::{NewTransition, StageRule, Transition, TransitionState, VersionName};
use bms_wire::{Code, Error, Result, limits};
use serde_json::json;

use crate::Registry;
use crate::clock::now_ms;
use crate::database::{Connection, Row, count, reading, text, to_db, value, writing};
use crate::describe::{check_description, touch};
use crate::names::check_name;
use crate::registry::Change;
use crate::runs::check_storable;
use crate::versions::{exists, read_version};

/// Where versions go that others replace.
const ARCHIVED: &str = "archived";
/// Transitions in one answer.
const ANSWER_MAX: i64 = 1000;

impl Registry {
    /// Asks for a version to enter a stage. It does at once when nobody has to agree.
    ///
    /// # Errors
    /// [`Code::Conflict`] when it is there already or another transition of the version is pending;
    /// [`Code::InvalidRequest`], [`Code::ModelNotFound`], [`Code::VersionNotFound`].
    pub async fn request_transition(
        &self,
        of: &VersionName,
        new: &NewTransition,
        by: &str,
    ) -> Result<Transition> {
        check_name("stage", &new.stage)?;
        check_description(&new.comment)?;
        check_person(by)?;
        let mut change = self.change().await?;
        let from = read_version(change.db(), &of.model, of.version).await?.stage;
        if from == new.stage {
            let what = format!("version {} of `{}` is in `{from}` already", of.version, of.model);
            return Err(Error::new(Code::Conflict, what));
        }
        if let Some(pending) = pending(change.db(), of).await? {
            let what = format!("transition {pending} of version {} of `{}` is pending", of.version, of.model);
            return Err(Error::new(Code::Conflict, what).hint("Approve or reject it first."));
        }
        let row = sqlx::query("SELECT COALESCE(MAX(id), 0) + 1 AS next FROM transitions")
            .fetch_one(change.db())
            .await
            .map_err(reading)?;
        let id = count(&row, "next")?;
        sqlx::query(
            "INSERT INTO transitions (id, model, version, from_stage, to_stage, state, requested_by, comment,
                                      requested_ms, archive_others)
             VALUES ($1, $2, $3, $4, $5, 'pending', $6, $7, $8, $9)",
        )
        .bind(to_db(id)?)
        .bind(&of.model)
        .bind(to_db(of.version)?)
        .bind(&from)
        .bind(&new.stage)
        .bind(by)
        .bind(&new.comment)
        .bind(now_ms())
        .bind(i64::from(new.archive_others))
        .execute(change.db())
        .await
        .map_err(writing)?;
        let needed = approvals_needed(change.db(), &of.model, &new.stage).await?;
        let details = json!({
            "transition": id, "from": from, "to": new.stage, "by": by, "approvals_needed": needed,
        });
        change.audit("transition.requested", &subject(of), details).await?;
        if needed == 0 {
            enter(&mut change, id).await?;
        }
        let transition = read(change.db(), id).await?;
        change.commit().await?;
        Ok(transition)
    }

    /// Agrees to a transition. With the last approval needed the version enters its stage. To agree twice is to agree
    /// once.
    ///
    /// # Errors
    /// [`Code::PermissionDenied`] when it is the one who asked; [`Code::Conflict`] when it is decided, or the version
    /// went elsewhere meanwhile; [`Code::NotFound`].
    pub async fn approve_transition(&self, id: u64, comment: &str, by: &str) -> Result<Transition> {
        check_description(comment)?;
        check_person(by)?;
        let mut change = self.change().await?;
        let transition = read(change.db(), id).await?;
        must_be_pending(&transition)?;
        if transition.requested_by == by {
            return Err(Error::new(Code::PermissionDenied, format!("`{by}` asked for transition {id}"))
                .hint("Somebody else has to agree to it."));
        }
        let of = VersionName { model: transition.model.clone(), version: transition.version };
        if read_version(change.db(), &of.model, of.version).await?.stage != transition.from {
            decide(&mut change, id, "outdated").await?;
            change.audit("transition.outdated", &subject(&of), json!({ "transition": id })).await?;
            change.commit().await?;
            let what = format!("the version is no longer in `{}`", transition.from);
            return Err(Error::new(Code::Conflict, what).hint("Ask for the transition anew."));
        }
        sqlx::query(
            "INSERT INTO approvals (transition, person, comment, at_ms) VALUES ($1, $2, $3, $4)
             ON CONFLICT (transition, person) DO NOTHING",
        )
        .bind(to_db(id)?)
        .bind(by)
        .bind(comment)
        .bind(now_ms())
        .execute(change.db())
        .await
        .map_err(writing)?;
        change.audit("transition.approved", &subject(&of), json!({ "transition": id, "by": by })).await?;
        let now = read(change.db(), id).await?;
        if now.approvals_needed <= now.approved_by.len() as u64 {
            enter(&mut change, id).await?;
        }
        let transition = read(change.db(), id).await?;
        change.commit().await?;
        Ok(transition)
    }

    /// Refuses a transition.
    ///
    /// # Errors
    /// [`Code::Conflict`] when it is decided already; [`Code::NotFound`].
    pub async fn reject_transition(&self, id: u64, comment: &str, by: &str) -> Result<Transition> {
        check_description(comment)?;
        check_person(by)?;
        let mut change = self.change().await?;
        let transition = read(change.db(), id).await?;
        must_be_pending(&transition)?;
        decide(&mut change, id, "rejected").await?;
        let of = VersionName { model: transition.model, version: transition.version };
        let comment: String = comment.chars().take(500).collect();
        let details = json!({ "transition": id, "by": by, "comment": comment });
        change.audit("transition.rejected", &subject(&of), details).await?;
        let transition = read(change.db(), id).await?;
        change.commit().await?;
        Ok(transition)
    }

    /// One transition.
    ///
    /// # Errors
    /// [`Code::NotFound`].
    pub async fn transition(&self, id: u64) -> Result<Transition> {
        read(&mut *self.db.snapshot().await?, id).await
    }

    /// Transitions, latest first, at most 1000: of one model or all, only pending ones or all.
    pub async fn transitions(&self, model: Option<&str>, pending: bool) -> Result<Vec<Transition>> {
        let mut db = self.db.snapshot().await?;
        let rows = sqlx::query(
            "SELECT id FROM transitions WHERE ($1 IS NULL OR model = $1) AND ($2 = 0 OR state = 'pending')
             ORDER BY id DESC LIMIT $3",
        )
        .bind(model)
        .bind(i64::from(pending))
        .bind(ANSWER_MAX)
        .fetch_all(&mut *db)
        .await
        .map_err(reading)?;
        let mut transitions = Vec::with_capacity(rows.len());
        for row in &rows {
            transitions.push(read(&mut db, count(row, "id")?).await?);
        }
        Ok(transitions)
    }

    /// Says how many people have to agree before a version enters a stage; with 0, nobody.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`], [`Code::ModelNotFound`].
    pub async fn set_stage_rule(&self, rule: &StageRule, by: &str) -> Result<()> {
        check_name("stage", &rule.stage)?;
        if limits::STAGE_APPROVALS_MAX < rule.approvals {
            let what = format!("at most {} people can be asked to agree", limits::STAGE_APPROVALS_MAX);
            return Err(Error::new(Code::InvalidRequest, what));
        }
        let mut change = self.change().await?;
        if let Some(model) = &rule.model {
            exists(change.db(), model).await?;
        }
        sqlx::query(
            "INSERT INTO stage_rules (model, stage, approvals) VALUES ($1, $2, $3)
             ON CONFLICT (model, stage) DO UPDATE SET approvals = excluded.approvals",
        )
        .bind(rule.model.as_deref().unwrap_or_default())
        .bind(&rule.stage)
        .bind(to_db(rule.approvals)?)
        .execute(change.db())
        .await
        .map_err(writing)?;
        let details = json!({ "stage": rule.stage, "approvals": rule.approvals, "by": by });
        change.audit("stage_rule.set", rule.model.as_deref().unwrap_or("*"), details).await?;
        change.commit().await
    }

    /// The rules about stages, those for all models first.
    pub async fn stage_rules(&self) -> Result<Vec<StageRule>> {
        let rows = sqlx::query("SELECT * FROM stage_rules ORDER BY model, stage")
            .fetch_all(&self.db.pool)
            .await
            .map_err(reading)?;
        let rule = |row: &Row| {
            let model = text(row, "model")?;
            Ok(StageRule {
                model: Some(model).filter(|model| !model.is_empty()),
                stage: text(row, "stage")?,
                approvals: count(row, "approvals")?,
            })
        };
        rows.iter().map(rule).collect()
    }
}

/// Checks what a request says of who makes it.
pub(crate) fn check_person(by: &str) -> Result<()> {
    if by.trim().is_empty() || limits::TITLE_BYTES_MAX < by.len() {
        return Err(Error::new(Code::InvalidRequest, "it is not said who does this")
            .hint("Name a person: `--by NAME` on the command line, the header `x-bms-person` otherwise."));
    }
    check_storable("name", by)
}

fn subject(of: &VersionName) -> String {
    format!("{}@{}", of.model, of.version)
}

fn must_be_pending(transition: &Transition) -> Result<()> {
    match transition.state {
        TransitionState::Pending => Ok(()),
        _ => Err(Error::new(Code::Conflict, format!("transition {} is decided already", transition.id))),
    }
}

/// Puts a version into the stage of a transition, with the event that says so.
async fn enter(change: &mut Change, id: u64) -> Result<()> {
    let row = sqlx::query("SELECT archive_others FROM transitions WHERE id = $1")
        .bind(to_db(id)?)
        .fetch_one(change.db())
        .await
        .map_err(reading)?;
    let archive_others = count(&row, "archive_others")? == 1;
    let transition = read(change.db(), id).await?;
    let (model, version) = (&transition.model, transition.version);
    if archive_others {
        let rows = sqlx::query(
            "SELECT version FROM versions
             WHERE model = $1 AND stage = $2 AND version <> $3 AND deleted_ms IS NULL ORDER BY version",
        )
        .bind(model)
        .bind(&transition.to)
        .bind(to_db(version)?)
        .fetch_all(change.db())
        .await
        .map_err(reading)?;
        for row in &rows {
            let other = count(row, "version")?;
            set_stage(change, model, other, ARCHIVED).await?;
            let details = json!({ "from": transition.to, "to": ARCHIVED, "transition": id });
            change.audit("stage.changed", &format!("{model}@{other}"), details).await?;
        }
    }
    set_stage(change, model, version, &transition.to).await?;
    decide(change, id, "done").await?;
    let details = json!({
        "from": transition.from, "to": transition.to, "transition": id,
        "requested_by": transition.requested_by, "approved_by": transition.approved_by,
    });
    change.audit("stage.changed", &format!("{model}@{version}"), details).await?;
    Ok(())
}

async fn set_stage(change: &mut Change, model: &str, version: u64, stage: &str) -> Result<()> {
    sqlx::query("UPDATE versions SET stage = $3 WHERE model = $1 AND version = $2")
        .bind(model)
        .bind(to_db(version)?)
        .bind(stage)
        .execute(change.db())
        .await
        .map_err(writing)?;
    touch(change.db(), model, version).await
}

async fn decide(change: &mut Change, id: u64, state: &str) -> Result<()> {
    sqlx::query("UPDATE transitions SET state = $2, decided_ms = $3 WHERE id = $1")
        .bind(to_db(id)?)
        .bind(state)
        .bind(now_ms())
        .execute(change.db())
        .await
        .map_err(writing)?;
    Ok(())
}

async fn pending(db: &mut Connection, of: &VersionName) -> Result<Option<u64>> {
    let row =
        sqlx::query("SELECT id FROM transitions WHERE model = $1 AND version = $2 AND state = 'pending'")
            .bind(&of.model)
            .bind(to_db(of.version)?)
            .fetch_optional(db)
            .await
            .map_err(reading)?;
    row.map(|row| count(&row, "id")).transpose()
}

/// The model's own rule, else that for all, else nobody has to agree.
async fn approvals_needed(db: &mut Connection, model: &str, stage: &str) -> Result<u64> {
    let row = sqlx::query(
        "SELECT approvals FROM stage_rules WHERE stage = $2 AND (model = $1 OR model = '') ORDER BY model DESC LIMIT 1",
    )
    .bind(model)
    .bind(stage)
    .fetch_optional(db)
    .await
    .map_err(reading)?;
    row.map_or(Ok(0), |row| count(&row, "approvals"))
}

async fn read(db: &mut Connection, id: u64) -> Result<Transition> {
    let row = sqlx::query("SELECT * FROM transitions WHERE id = $1")
        .bind(to_db(id)?)
        .fetch_optional(&mut *db)
        .await
        .map_err(reading)?
        .ok_or_else(|| Error::new(Code::NotFound, format!("there is no transition {id}")))?;
    let rows = sqlx::query("SELECT person FROM approvals WHERE transition = $1 ORDER BY at_ms, person")
        .bind(to_db(id)?)
        .fetch_all(&mut *db)
        .await
        .map_err(reading)?;
    let (model, to) = (text(&row, "model")?, text(&row, "to_stage")?);
    Ok(Transition {
        id,
        version: count(&row, "version")?,
        from: text(&row, "from_stage")?,
        state: match text(&row, "state")?.as_str() {
            "done" => TransitionState::Done,
            "rejected" => TransitionState::Rejected,
            "outdated" => TransitionState::Outdated,
            _ => TransitionState::Pending,
        },
        requested_by: text(&row, "requested_by")?,
        comment: text(&row, "comment")?,
        requested_ms: value(&row, "requested_ms")?,
        decided_ms: value(&row, "decided_ms")?,
        approved_by: rows.iter().map(|row| text(row, "person")).collect::<Result<_>>()?,
        approvals_needed: approvals_needed(db, &model, &to).await?,
        model,
        to,
    })
}
