//! Experiments.

use bms_wire::{Code, Error, Result, limits};
use serde_json::json;

use super::{Experiment, Page, View, check_pairs, check_storable, remove_tag};
use crate::Registry;
use crate::clock::now_ms;
use crate::database::{Connection, Row, count, reading, text, to_db, value, writing};
use crate::filter::{self, Condition, Kind};
use crate::statement::{Statement, not_searchable};

impl Registry {
    /// Makes an experiment and gives its number.
    ///
    /// # Errors
    /// [`Code::Conflict`] when another one has the name, also a deleted one; [`Code::InvalidRequest`],
    /// [`Code::TooLarge`].
    pub async fn create_experiment(&self, name: &str, tags: &[(String, String)], by: &str) -> Result<u64> {
        check_experiment_name(name)?;
        check_pairs("tag", tags)?;
        let mut change = self.change().await?;
        if let Some(other) = by_name(change.db(), name).await? {
            return Err(taken(&other));
        }
        let row = sqlx::query("SELECT COUNT(*) AS n, COALESCE(MAX(id), 0) + 1 AS next FROM experiments")
            .fetch_one(change.db())
            .await
            .map_err(reading)?;
        if limits::EXPERIMENTS_MAX <= count(&row, "n")? {
            let what = format!("the registry holds {} experiments already", limits::EXPERIMENTS_MAX);
            return Err(Error::new(Code::TooLarge, what));
        }
        let id = count(&row, "next")?;
        let now = now_ms();
        sqlx::query("INSERT INTO experiments (id, name, created_ms, updated_ms) VALUES ($1, $2, $3, $3)")
            .bind(to_db(id)?)
            .bind(name)
            .bind(now)
            .execute(change.db())
            .await
            .map_err(writing)?;
        for (key, value) in tags {
            set_tag(change.db(), id, key, value).await?;
        }
        change.audit("experiment.created", name, json!({ "id": id, "by": by })).await?;
        change.commit().await?;
        Ok(id)
    }

    /// One experiment, a deleted one too.
    ///
    /// # Errors
    /// [`Code::NotFound`].
    pub async fn experiment(&self, id: u64) -> Result<Experiment> {
        let mut db = self.db.snapshot().await?;
        let mut found = read(&mut db, id).await?;
        read_tags(&mut db, std::slice::from_mut(&mut found)).await?;
        Ok(found)
    }

    /// The experiment of this name, a deleted one too.
    ///
    /// # Errors
    /// [`Code::NotFound`].
    pub async fn experiment_named(&self, name: &str) -> Result<Experiment> {
        let mut db = self.db.snapshot().await?;
        let shown: String = name.chars().take(80).collect();
        let mut found = by_name(&mut db, name)
            .await?
            .ok_or_else(|| Error::new(Code::NotFound, format!("there is no experiment named `{shown}`")))?;
        read_tags(&mut db, std::slice::from_mut(&mut found)).await?;
        Ok(found)
    }

    /// Experiments that a filter holds of: by `name`, `creation_time`, `last_update_time` and tags.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when the filter or the order means nothing here.
    pub async fn search_experiments(
        &self,
        filter: &str,
        order: &[String],
        view: View,
        page: Page,
    ) -> Result<(Vec<Experiment>, Option<u64>)> {
        let mut statement = Statement::new("SELECT e.* FROM experiments e WHERE ");
        statement.text(view.condition("e.deleted_ms IS NULL", "e.deleted_ms IS NOT NULL"));
        for condition in filter::parse(filter)? {
            statement.text(" AND ");
            add_condition(&mut statement, &condition)?;
        }
        statement.text(" ORDER BY ");
        for order in order {
            let order = filter::parse_order(order)?;
            let column = match (order.subject.kind, column(&order.subject.key)) {
                (Kind::Attribute, Some((column, _))) => column,
                _ => {
                    return Err(Error::new(
                        Code::InvalidRequest,
                        "experiments are ordered by name, experiment_id, creation_time or last_update_time",
                    ));
                }
            };
            statement.text(column).text(if order.descending { " DESC, " } else { ", " });
        }
        statement.text("e.created_ms DESC, e.id DESC");
        let mut db = self.db.snapshot().await?;
        let (rows, next) = page.fetch(&mut statement, &mut db).await?;
        let mut found = rows.iter().map(experiment_of).collect::<Result<Vec<_>>>()?;
        read_tags(&mut db, &mut found).await?;
        Ok((found, next))
    }

    /// Gives an experiment another name.
    ///
    /// # Errors
    /// [`Code::NotFound`], [`Code::Conflict`] when the name is taken.
    pub async fn rename_experiment(&self, id: u64, name: &str, by: &str) -> Result<()> {
        check_experiment_name(name)?;
        let mut change = self.change().await?;
        let old = active(change.db(), id).await?;
        match by_name(change.db(), name).await? {
            Some(other) if other.id != id => return Err(taken(&other)),
            _ => {}
        }
        sqlx::query("UPDATE experiments SET name = $2, updated_ms = $3 WHERE id = $1")
            .bind(to_db(id)?)
            .bind(name)
            .bind(now_ms())
            .execute(change.db())
            .await
            .map_err(writing)?;
        change.audit("experiment.renamed", name, json!({ "id": id, "before": old.name, "by": by })).await?;
        change.commit().await
    }

    /// Deletes an experiment with its runs, or restores it with those that went along.
    ///
    /// # Errors
    /// [`Code::NotFound`]; [`Code::InvalidRequest`] for the one that always exists.
    pub async fn set_experiment_deleted(&self, id: u64, deleted: bool, by: &str) -> Result<()> {
        if id == 0 && deleted {
            return Err(Error::new(Code::InvalidRequest, "the default experiment cannot be deleted"));
        }
        let mut change = self.change().await?;
        let before = read(change.db(), id).await?;
        if before.deleted == deleted {
            return Ok(());
        }
        let now = now_ms();
        let (runs, experiment) = match deleted {
            true => (
                "UPDATE runs SET deleted_ms = $2 WHERE experiment = $1 AND deleted_ms IS NULL",
                "UPDATE experiments SET deleted_ms = $2, updated_ms = $2 WHERE id = $1",
            ),
            false => (
                "UPDATE runs SET deleted_ms = NULL WHERE experiment = $1
                 AND deleted_ms = (SELECT deleted_ms FROM experiments WHERE id = $1) AND $2 > 0",
                "UPDATE experiments SET deleted_ms = NULL, updated_ms = $2 WHERE id = $1",
            ),
        };
        for sql in [runs, experiment] {
            sqlx::query(sql).bind(to_db(id)?).bind(now).execute(change.db()).await.map_err(writing)?;
        }
        let action = if deleted { "experiment.deleted" } else { "experiment.restored" };
        change.audit(action, &before.name, json!({ "id": id, "by": by })).await?;
        change.commit().await
    }

    /// Gives an experiment a tag, or takes one away.
    ///
    /// # Errors
    /// [`Code::NotFound`] when there is no such experiment, or no such tag to take away.
    pub async fn tag_experiment(&self, id: u64, key: &str, value: Option<&str>) -> Result<()> {
        check_pairs("tag", &[(key.to_owned(), value.unwrap_or_default().to_owned())])?;
        let mut change = self.change().await?;
        active(change.db(), id).await?;
        match value {
            Some(value) => set_tag(change.db(), id, key, value).await?,
            None => {
                let mut statement = Statement::new("DELETE FROM experiment_tags WHERE experiment = ");
                statement.bind(to_db(id)?).text(" AND key = ").bind(key);
                remove_tag(change.db(), &statement, "experiment", key).await?;
            }
        }
        change.commit().await
    }
}

fn check_experiment_name(name: &str) -> Result<()> {
    if name.trim().is_empty() || limits::TITLE_BYTES_MAX < name.len() {
        let what = format!("an experiment's name has 1 to {} bytes", limits::TITLE_BYTES_MAX);
        return Err(Error::new(Code::InvalidRequest, what));
    }
    check_storable("name", name)
}

fn taken(other: &Experiment) -> Error {
    let state = if other.deleted { "deleted" } else { "active" };
    Error::new(Code::Conflict, format!("the {state} experiment {} is named `{}`", other.id, other.name))
        .hint("Take another name, or restore the experiment if it was deleted.")
}

async fn set_tag(db: &mut Connection, id: u64, key: &str, value: &str) -> Result<()> {
    sqlx::query(
        "INSERT INTO experiment_tags (experiment, key, value) VALUES ($1, $2, $3)
         ON CONFLICT (experiment, key) DO UPDATE SET value = excluded.value",
    )
    .bind(to_db(id)?)
    .bind(key)
    .bind(value)
    .execute(db)
    .await
    .map_err(writing)?;
    Ok(())
}

/// An experiment that is not deleted.
pub(super) async fn active(db: &mut Connection, id: u64) -> Result<Experiment> {
    let found = read(db, id).await?;
    match found.deleted {
        false => Ok(found),
        true => {
            Err(Error::new(Code::InvalidRequest, format!("experiment {id} is deleted"))
                .hint("Restore it first."))
        }
    }
}

async fn read(db: &mut Connection, id: u64) -> Result<Experiment> {
    let row = sqlx::query("SELECT * FROM experiments WHERE id = $1")
        .bind(to_db(id)?)
        .fetch_optional(db)
        .await
        .map_err(reading)?;
    row.map_or_else(
        || Err(Error::new(Code::NotFound, format!("there is no experiment {id}"))),
        |row| experiment_of(&row),
    )
}

async fn by_name(db: &mut Connection, name: &str) -> Result<Option<Experiment>> {
    let row = sqlx::query("SELECT * FROM experiments WHERE name = $1")
        .bind(name)
        .fetch_optional(db)
        .await
        .map_err(reading)?;
    row.map(|row| experiment_of(&row)).transpose()
}

fn experiment_of(row: &Row) -> Result<Experiment> {
    let deleted: Option<i64> = value(row, "deleted_ms")?;
    Ok(Experiment {
        id: count(row, "id")?,
        name: text(row, "name")?,
        created_ms: value(row, "created_ms")?,
        updated_ms: value(row, "updated_ms")?,
        deleted: deleted.is_some(),
        tags: Vec::new(),
    })
}

async fn read_tags(db: &mut Connection, experiments: &mut [Experiment]) -> Result<()> {
    for experiment in experiments {
        let rows = sqlx::query("SELECT key, value FROM experiment_tags WHERE experiment = $1 ORDER BY key")
            .bind(to_db(experiment.id)?)
            .fetch_all(&mut *db)
            .await
            .map_err(reading)?;
        for row in &rows {
            experiment.tags.push((text(row, "key")?, text(row, "value")?));
        }
    }
    Ok(())
}

/// The column of an attribute, and whether it holds numbers.
fn column(key: &str) -> Option<(&'static str, bool)> {
    match key {
        "name" => Some(("e.name", false)),
        "experiment_id" => Some(("e.id", true)),
        "creation_time" => Some(("e.created_ms", true)),
        "last_update_time" => Some(("e.updated_ms", true)),
        _ => None,
    }
}

fn add_condition(statement: &mut Statement, condition: &Condition) -> Result<()> {
    let (key, test) = (&condition.subject.key, &condition.test);
    match (condition.subject.kind, column(key)) {
        (Kind::Attribute, Some((column, true))) => statement.test_number(column, test)?,
        (Kind::Attribute, Some((column, false))) => statement.test_text(column, test)?,
        (Kind::Tag, _) => {
            let of = "experiment_tags t WHERE t.experiment = e.id AND t.key = ";
            statement.test_owned(of, key, test, |s| s.test_text("t.value", test).map(drop))?
        }
        _ => return Err(not_searchable(condition)),
    };
    Ok(())
}
