//! Models that runs logged, before anybody registers them.

use bms_wire::{Code, Error, Result, limits};
use serde_json::json;

use super::{Page, check_pairs, check_storable, experiments, fresh_id, remove_tag};
use crate::Registry;
use crate::clock::now_ms;
use crate::database::{Connection, Row, count, reading, text, to_db, value, writing};
use crate::filter::{self, Kind};
use crate::statement::{Statement, not_searchable};

/// A model that a run logged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoggedModel {
    /// `m-` and 32 hex digits.
    pub id: String,
    /// The experiment it belongs to.
    pub experiment: u64,
    /// What its run called it.
    pub name: String,
    /// What the client said it is.
    pub model_type: String,
    /// The run that logged it.
    pub run: Option<String>,
    /// `PENDING`, `READY` or `UPLOAD_FAILED`, with a prefix as clients write it.
    pub status: String,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// Milliseconds since 1970.
    pub updated_ms: i64,
    /// Parameters, by key.
    pub params: Vec<(String, String)>,
    /// Tags, by key.
    pub tags: Vec<(String, String)>,
}

/// What a logged model can be.
const STATUSES: [&str; 3] = ["LOGGED_MODEL_PENDING", "LOGGED_MODEL_READY", "LOGGED_MODEL_UPLOAD_FAILED"];

impl Registry {
    /// Makes a logged model of its fields, all but id, status and times. Its files follow.
    ///
    /// # Errors
    /// [`Code::NotFound`] when there is no such experiment; [`Code::TooLarge`].
    pub async fn create_logged_model(&self, new: &LoggedModel) -> Result<LoggedModel> {
        check_pairs("tag", &new.tags)?;
        check_pairs("parameter", &new.params)?;
        let id = format!("m-{}", fresh_id());
        let name = if new.name.is_empty() { id.clone() } else { new.name.clone() };
        for text in [&name, &new.model_type] {
            check_storable("name", text)?;
            if limits::TITLE_BYTES_MAX < text.len() {
                let what = format!("a name has at most {} bytes", limits::TITLE_BYTES_MAX);
                return Err(Error::new(Code::TooLarge, what));
            }
        }
        let mut change = self.change().await?;
        experiments::active(change.db(), new.experiment).await?;
        if let Some(run) = &new.run {
            super::reading::read(change.db(), run).await?;
        }
        sqlx::query(
            "INSERT INTO logged_models (id, experiment, name, model_type, run, status, created_ms, updated_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $7)",
        )
        .bind(&id)
        .bind(to_db(new.experiment)?)
        .bind(&name)
        .bind(&new.model_type)
        .bind(&new.run)
        .bind(STATUSES[0])
        .bind(now_ms())
        .execute(change.db())
        .await
        .map_err(writing)?;
        set_facts(change.db(), &id, "tag", &new.tags).await?;
        set_facts(change.db(), &id, "param", &new.params).await?;
        change.audit("logged_model.created", &id, json!({ "name": name, "run": new.run })).await?;
        change.commit().await?;
        self.logged_model(&id).await
    }

    /// One logged model.
    ///
    /// # Errors
    /// [`Code::NotFound`].
    pub async fn logged_model(&self, id: &str) -> Result<LoggedModel> {
        let mut db = self.db.snapshot().await?;
        let mut model = read(&mut db, id).await?;
        fill(&mut db, &mut model).await?;
        Ok(model)
    }

    /// Says that all files of a logged model have come, or that they will not.
    ///
    /// # Errors
    /// [`Code::NotFound`]; [`Code::InvalidRequest`] for an unknown status.
    pub async fn finalize_logged_model(&self, id: &str, status: &str) -> Result<LoggedModel> {
        if !STATUSES.contains(&status) {
            let shown: String = status.chars().take(80).collect();
            let what = format!("`{shown}` is no status of a logged model");
            return Err(
                Error::new(Code::InvalidRequest, what).hint(format!("Use one of {}.", STATUSES.join(", ")))
            );
        }
        let mut change = self.change().await?;
        read(change.db(), id).await?;
        sqlx::query("UPDATE logged_models SET status = $2, updated_ms = $3 WHERE id = $1")
            .bind(id)
            .bind(status)
            .bind(now_ms())
            .execute(change.db())
            .await
            .map_err(writing)?;
        change.commit().await?;
        self.logged_model(id).await
    }

    /// Gives a logged model tags or parameters.
    ///
    /// # Errors
    /// [`Code::NotFound`], [`Code::InvalidRequest`], [`Code::TooLarge`].
    pub async fn describe_logged_model(
        &self,
        id: &str,
        tags: &[(String, String)],
        params: &[(String, String)],
    ) -> Result<LoggedModel> {
        check_pairs("tag", tags)?;
        check_pairs("parameter", params)?;
        let mut change = self.change().await?;
        read(change.db(), id).await?;
        set_facts(change.db(), id, "tag", tags).await?;
        set_facts(change.db(), id, "param", params).await?;
        change.commit().await?;
        self.logged_model(id).await
    }

    /// Takes a tag from a logged model.
    ///
    /// # Errors
    /// [`Code::NotFound`].
    pub async fn remove_logged_model_tag(&self, id: &str, key: &str) -> Result<()> {
        let mut change = self.change().await?;
        read(change.db(), id).await?;
        let mut statement = Statement::new("DELETE FROM logged_model_facts WHERE kind = 'tag' AND model = ");
        statement.bind(id).text(" AND key = ").bind(key);
        remove_tag(change.db(), &statement, "model", key).await?;
        change.commit().await
    }

    /// Deletes a logged model; versions registered from it stay.
    ///
    /// # Errors
    /// [`Code::NotFound`].
    pub async fn delete_logged_model(&self, id: &str, by: &str) -> Result<()> {
        let mut change = self.change().await?;
        read(change.db(), id).await?;
        sqlx::query("UPDATE logged_models SET deleted_ms = $2 WHERE id = $1")
            .bind(id)
            .bind(now_ms())
            .execute(change.db())
            .await
            .map_err(writing)?;
        change.audit("logged_model.deleted", id, json!({ "by": by })).await?;
        change.commit().await
    }

    /// Logged models that a filter holds of: by `name`, `model_id`, `source_run_id`, `status`, times, tags, params.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when the filter means nothing here.
    pub async fn search_logged_models(
        &self,
        experiments: &[u64],
        filter: &str,
        page: Page,
    ) -> Result<(Vec<LoggedModel>, Option<u64>)> {
        let mut statement = Statement::new("SELECT m.* FROM logged_models m WHERE m.deleted_ms IS NULL");
        if !experiments.is_empty() {
            let ids = experiments.iter().take(limits::SEARCH_RESULTS_MAX).map(|id| to_db(*id));
            statement.text(" AND m.experiment IN (").listed(ids.collect::<Result<Vec<i64>>>()?).text(")");
        }
        for condition in filter::parse(filter)? {
            statement.text(" AND ");
            let (key, test) = (condition.subject.key.as_str(), &condition.test);
            match (condition.subject.kind, key) {
                (Kind::Attribute, "name") => statement.test_text("m.name", test)?,
                (Kind::Attribute, "model_id") => statement.test_text("m.id", test)?,
                (Kind::Attribute, "model_type") => statement.test_text("m.model_type", test)?,
                (Kind::Attribute, "source_run_id") => statement.test_text("m.run", test)?,
                (Kind::Attribute, "status") => statement.test_text("m.status", test)?,
                (Kind::Attribute, "creation_timestamp" | "creation_time") => {
                    statement.test_number("m.created_ms", test)?
                }
                (Kind::Tag, _) => {
                    let of = "logged_model_facts t WHERE t.model = m.id AND t.kind = 'tag' AND t.key = ";
                    statement.test_owned(of, key, test, |s| s.test_text("t.value", test).map(drop))?
                }
                (Kind::Param, _) => {
                    let of = "logged_model_facts t WHERE t.model = m.id AND t.kind = 'param' AND t.key = ";
                    statement.test_owned(of, key, test, |s| s.test_text("t.value", test).map(drop))?
                }
                _ => return Err(not_searchable(&condition)),
            };
        }
        statement.text(" ORDER BY m.created_ms DESC, m.id");
        let mut db = self.db.snapshot().await?;
        let (rows, next) = page.fetch(&mut statement, &mut db).await?;
        let mut models = rows.iter().map(model_of).collect::<Result<Vec<_>>>()?;
        for model in &mut models {
            fill(&mut db, model).await?;
        }
        Ok((models, next))
    }
}

async fn set_facts(db: &mut Connection, id: &str, kind: &str, facts: &[(String, String)]) -> Result<()> {
    for (key, value) in facts {
        sqlx::query(
            "INSERT INTO logged_model_facts (model, kind, key, value) VALUES ($1, $2, $3, $4)
             ON CONFLICT (model, kind, key) DO UPDATE SET value = excluded.value",
        )
        .bind(id)
        .bind(kind)
        .bind(key)
        .bind(value)
        .execute(&mut *db)
        .await
        .map_err(writing)?;
    }
    let row = sqlx::query("SELECT COUNT(*) AS n FROM logged_model_facts WHERE model = $1")
        .bind(id)
        .fetch_one(db)
        .await
        .map_err(reading)?;
    if limits::RUN_KEYS_MAX < count(&row, "n")? {
        let what = format!("a model has at most {} tags and parameters", limits::RUN_KEYS_MAX);
        return Err(Error::new(Code::TooLarge, what));
    }
    Ok(())
}

async fn read(db: &mut Connection, id: &str) -> Result<LoggedModel> {
    let row = sqlx::query("SELECT * FROM logged_models WHERE id = $1 AND deleted_ms IS NULL")
        .bind(id)
        .fetch_optional(db)
        .await
        .map_err(reading)?;
    let shown: String = id.chars().take(80).collect();
    row.map_or_else(
        || Err(Error::new(Code::NotFound, format!("there is no logged model `{shown}`"))),
        |row| model_of(&row),
    )
}

fn model_of(row: &Row) -> Result<LoggedModel> {
    Ok(LoggedModel {
        id: text(row, "id")?,
        experiment: count(row, "experiment")?,
        name: text(row, "name")?,
        model_type: text(row, "model_type")?,
        run: value(row, "run")?,
        status: text(row, "status")?,
        created_ms: value(row, "created_ms")?,
        updated_ms: value(row, "updated_ms")?,
        params: Vec::new(),
        tags: Vec::new(),
    })
}

async fn fill(db: &mut Connection, model: &mut LoggedModel) -> Result<()> {
    let rows = sqlx::query("SELECT kind, key, value FROM logged_model_facts WHERE model = $1 ORDER BY key")
        .bind(&model.id)
        .fetch_all(db)
        .await
        .map_err(reading)?;
    for row in &rows {
        let fact = (text(row, "key")?, text(row, "value")?);
        match text(row, "kind")?.as_str() {
            "tag" => model.tags.push(fact),
            _ => model.params.push(fact),
        }
    }
    Ok(())
}
