//! Beginning, changing and ending runs.

use bms_wire::{Code, Error, Result, limits};
use serde_json::json;

use super::{
    NewRun, Run, STATUSES, check_pairs, check_storable, experiments, fresh_id, reading::read, remove_tag,
};
use crate::Registry;
use crate::clock::now_ms;
use crate::database::{Connection, count, reading, to_db, writing};
use crate::registry::Change;
use crate::statement::Statement;

/// The tag in which clients keep a run's name, too.
const NAME_TAG: &str = "mlflow.runName";

impl Registry {
    /// Begins a run.
    ///
    /// # Errors
    /// [`Code::NotFound`] when there is no such experiment; [`Code::InvalidRequest`], [`Code::TooLarge`].
    pub async fn create_run(&self, new: &NewRun) -> Result<Run> {
        check_pairs("tag", &new.tags)?;
        check_title("name", &new.name)?;
        check_title("user", &new.person)?;
        let named = new.tags.iter().find(|(key, _)| key == NAME_TAG).map(|(_, value)| value.clone());
        let mut change = self.change().await?;
        experiments::active(change.db(), new.experiment).await?;
        let row = sqlx::query("SELECT COUNT(*) AS n FROM runs WHERE experiment = $1")
            .bind(to_db(new.experiment)?)
            .fetch_one(change.db())
            .await
            .map_err(reading)?;
        let runs = count(&row, "n")?;
        if limits::RUNS_MAX <= runs {
            let what = format!("the experiment has {} runs already", limits::RUNS_MAX);
            return Err(Error::new(Code::TooLarge, what).hint("Go on in another experiment."));
        }
        let id = fresh_id();
        let name = match (new.name.is_empty(), named) {
            (false, _) => new.name.clone(),
            (true, Some(named)) => named,
            (true, None) => format!("run-{}", runs + 1),
        };
        sqlx::query(
            "INSERT INTO runs (id, experiment, name, person, status, start_ms, created_ms)
             VALUES ($1, $2, $3, $4, 'RUNNING', $5, $6)",
        )
        .bind(&id)
        .bind(to_db(new.experiment)?)
        .bind(&name)
        .bind(&new.person)
        .bind(new.start_ms)
        .bind(now_ms())
        .execute(change.db())
        .await
        .map_err(writing)?;
        for (key, value) in new.tags.iter().filter(|(key, _)| key != NAME_TAG) {
            set_tag(change.db(), &id, key, value).await?;
        }
        set_tag(change.db(), &id, NAME_TAG, &name).await?;
        let details = json!({ "experiment": new.experiment, "name": name, "by": new.person });
        change.audit("run.created", &id, details).await?;
        change.commit().await?;
        self.run(&id).await
    }

    /// Changes a run's status, end or name.
    ///
    /// # Errors
    /// [`Code::NotFound`]; [`Code::InvalidRequest`] for an unknown status.
    pub async fn update_run(
        &self,
        id: &str,
        status: Option<&str>,
        end_ms: Option<i64>,
        name: Option<&str>,
    ) -> Result<Run> {
        if let Some(status) = status.filter(|status| !STATUSES.contains(status)) {
            let what = format!("`{status}` is no status of a run");
            return Err(
                Error::new(Code::InvalidRequest, what).hint(format!("Use one of {}.", STATUSES.join(", ")))
            );
        }
        let name = name.filter(|name| !name.is_empty());
        check_title("name", name.unwrap_or_default())?;
        let mut change = self.change().await?;
        let before = active(change.db(), id).await?;
        sqlx::query(
            "UPDATE runs SET status = COALESCE($2, status), end_ms = COALESCE($3, end_ms), name = COALESCE($4, name)
             WHERE id = $1",
        )
        .bind(id)
        .bind(status)
        .bind(end_ms)
        .bind(name)
        .execute(change.db())
        .await
        .map_err(writing)?;
        if let Some(name) = name {
            set_tag(change.db(), id, NAME_TAG, name).await?;
        }
        if let Some(status) = status.filter(|status| before.status != *status) {
            change.audit("run.changed", id, json!({ "status": status, "before": before.status })).await?;
        }
        change.commit().await?;
        self.run(id).await
    }

    /// Deletes a run, or restores it. What was logged of it stays.
    ///
    /// # Errors
    /// [`Code::NotFound`].
    pub async fn set_run_deleted(&self, id: &str, deleted: bool, by: &str) -> Result<()> {
        let mut change = self.change().await?;
        let before = read(change.db(), id).await?;
        if before.deleted == deleted {
            return Ok(());
        }
        if !deleted {
            experiments::active(change.db(), before.experiment).await?;
        }
        sqlx::query("UPDATE runs SET deleted_ms = $2 WHERE id = $1")
            .bind(id)
            .bind(deleted.then(now_ms))
            .execute(change.db())
            .await
            .map_err(writing)?;
        let action = if deleted { "run.deleted" } else { "run.restored" };
        change.audit(action, id, json!({ "experiment": before.experiment, "by": by })).await?;
        change.commit().await
    }

    /// Takes a tag from a run.
    ///
    /// # Errors
    /// [`Code::NotFound`] when there is no such run or tag.
    pub async fn remove_run_tag(&self, id: &str, key: &str) -> Result<()> {
        let mut change = self.change().await?;
        active(change.db(), id).await?;
        let mut statement = Statement::new("DELETE FROM run_tags WHERE run = ");
        statement.bind(id).text(" AND key = ").bind(key);
        remove_tag(change.db(), &statement, "run", key).await?;
        change.commit().await
    }
}

/// A run that is not deleted.
pub(super) async fn active(db: &mut Connection, id: &str) -> Result<Run> {
    let run = read(db, id).await?;
    match run.deleted {
        false => Ok(run),
        true => {
            Err(Error::new(Code::InvalidRequest, format!("run `{id}` is deleted")).hint("Restore it first."))
        }
    }
}

/// Writes a tag, and the name along with the tag that stands for it.
pub(super) async fn set_tag(db: &mut Connection, run: &str, key: &str, value: &str) -> Result<()> {
    sqlx::query(
        "INSERT INTO run_tags (run, key, value) VALUES ($1, $2, $3)
         ON CONFLICT (run, key) DO UPDATE SET value = excluded.value",
    )
    .bind(run)
    .bind(key)
    .bind(value)
    .execute(&mut *db)
    .await
    .map_err(writing)?;
    if key == NAME_TAG {
        sqlx::query("UPDATE runs SET name = $2 WHERE id = $1")
            .bind(run)
            .bind(value)
            .execute(db)
            .await
            .map_err(writing)?;
    }
    Ok(())
}

fn check_title(what: &str, title: &str) -> Result<()> {
    if limits::TITLE_BYTES_MAX < title.len() {
        let what = format!("a {what} of a run has at most {} bytes", limits::TITLE_BYTES_MAX);
        return Err(Error::new(Code::TooLarge, what));
    }
    check_storable(what, title)
}

/// That a run exists and takes what is logged, inside a change.
pub(super) async fn writable(change: &mut Change, run: &str) -> Result<()> {
    active(change.db(), run).await.map(drop)
}
