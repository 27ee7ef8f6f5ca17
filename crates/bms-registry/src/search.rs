//! Searching models and versions with the filter language of [`crate::filter`].

use bms_wire::api::{Model, Version};
use bms_wire::{Code, Error, Result};

use crate::database::{count, text};
use crate::filter::{self, Condition, Kind, Operator, Test};
use crate::statement::{Statement, not_searchable};
use crate::versions::{read_models, read_version};
use crate::{Page, Registry, View};

/// MLflow's client adds `!= 'true'` for this tag to every search of models and versions, and means what has no such tag, too.
const PROMPT_TAG: &str = "mlflow.prompt.is_prompt";

impl Registry {
    /// Models that a filter holds of, with their versions, and where the next page begins. A filter speaks of `name`,
    /// `description`, `creation_timestamp`, `last_updated_timestamp` and tags.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when the filter or the order means nothing here.
    pub async fn search_models(
        &self,
        filter: &str,
        order: &[String],
        page: Page,
    ) -> Result<(Vec<Model>, Option<u64>)> {
        let mut statement = Statement::new("SELECT m.name FROM models m WHERE m.deleted_ms IS NULL");
        for condition in filter::parse(filter)? {
            statement.text(" AND (");
            add_model_condition(&mut statement, &condition)?;
            statement.text(")");
        }
        statement.text(" ORDER BY ");
        for order in order {
            let order = filter::parse_order(order)?;
            let column = match (order.subject.kind, model_column(&order.subject.key)) {
                (Kind::Attribute, Some((column, _))) => column,
                _ => return Err(not_ordered("models", "name, creation_timestamp or last_updated_timestamp")),
            };
            statement.text(column).text(if order.descending { " DESC, " } else { ", " });
        }
        statement.text("m.name");
        let mut db = self.db.snapshot().await?;
        let (rows, next) = page.fetch(&mut statement, &mut db).await?;
        let mut models = Vec::with_capacity(rows.len());
        for row in &rows {
            models.extend(read_models(&mut db, Some(&text(row, "name")?), View::Active).await?);
        }
        Ok((models, next))
    }

    /// Versions that a filter holds of, their files left out, and where the next page begins. A filter speaks of
    /// `name` (the model's), `version_number`, `run_id`, `source_path`, `stage`, `task`, `signer`, `digest`, the times
    /// and tags.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when the filter or the order means nothing here.
    pub async fn search_versions(
        &self,
        filter: &str,
        order: &[String],
        page: Page,
    ) -> Result<(Vec<Version>, Option<u64>)> {
        let mut statement =
            Statement::new("SELECT v.model, v.version FROM versions v WHERE v.deleted_ms IS NULL");
        for condition in filter::parse(filter)? {
            statement.text(" AND (");
            add_version_condition(&mut statement, &condition)?;
            statement.text(")");
        }
        statement.text(" ORDER BY ");
        for order in order {
            let order = filter::parse_order(order)?;
            let column = match (order.subject.kind, version_column(&order.subject.key)) {
                (Kind::Attribute, Some((column, _))) => column,
                _ => {
                    return Err(not_ordered(
                        "versions",
                        "name, version_number, creation_timestamp and the like",
                    ));
                }
            };
            statement.text(column).text(if order.descending { " DESC, " } else { ", " });
        }
        statement.text("v.created_ms DESC, v.model, v.version DESC");
        let mut db = self.db.snapshot().await?;
        let (rows, next) = page.fetch(&mut statement, &mut db).await?;
        let mut versions = Vec::with_capacity(rows.len());
        for row in &rows {
            let version = read_version(&mut db, &text(row, "model")?, count(row, "version")?).await?;
            versions.push(Version { files: Vec::new(), ..version });
        }
        Ok((versions, next))
    }
}

fn asks_for_no_prompt(condition: &Condition) -> bool {
    condition.subject.key == PROMPT_TAG && matches!(condition.test, Test::Compare(Operator::Ne, _))
}

fn not_ordered(what: &str, by: &str) -> Error {
    Error::new(Code::InvalidRequest, format!("{what} are ordered by {by}"))
}

/// The column of a model's attribute, and whether it holds numbers.
fn model_column(key: &str) -> Option<(&'static str, bool)> {
    match key {
        "name" => Some(("m.name", false)),
        "description" => Some(("m.description", false)),
        "creation_timestamp" | "creation_time" | "timestamp" => Some(("m.created_ms", true)),
        "last_updated_timestamp" | "last_update_time" => Some(("COALESCE(m.updated_ms, m.created_ms)", true)),
        _ => None,
    }
}

fn add_model_condition(statement: &mut Statement, condition: &Condition) -> Result<()> {
    let (key, test) = (&condition.subject.key, &condition.test);
    match (condition.subject.kind, model_column(key)) {
        (Kind::Attribute, Some((column, true))) => statement.test_number(column, test)?,
        (Kind::Attribute, Some((column, false))) => statement.test_text(column, test)?,
        (Kind::Tag, _) => {
            let of = "model_tags t WHERE t.model = m.name AND t.key = ";
            if asks_for_no_prompt(condition) {
                statement.test_owned(of, key, &Test::Null { negated: false }, |_| Ok(()))?.text(" OR ");
            }
            statement.test_owned(of, key, test, |s| s.test_text("t.value", test).map(drop))?
        }
        _ => return Err(not_searchable(condition)),
    };
    Ok(())
}

/// The column of a version's attribute, and whether it holds numbers.
fn version_column(key: &str) -> Option<(&'static str, bool)> {
    match key {
        "name" | "model" => Some(("v.model", false)),
        "run_id" | "run" => Some(("v.run", false)),
        "source_path" | "source" => Some(("v.source", false)),
        "stage" | "current_stage" => Some(("v.stage", false)),
        "task" => Some(("v.task", false)),
        "signer" => Some(("v.signer", false)),
        "digest" => Some(("v.digest", false)),
        "description" => Some(("v.description", false)),
        "version_number" | "version" => Some(("v.version", true)),
        "size_bytes" => Some(("v.size_bytes", true)),
        "creation_timestamp" | "creation_time" => Some(("v.created_ms", true)),
        "last_updated_timestamp" | "last_update_time" => Some(("COALESCE(v.updated_ms, v.created_ms)", true)),
        _ => None,
    }
}

fn add_version_condition(statement: &mut Statement, condition: &Condition) -> Result<()> {
    let (key, test) = (&condition.subject.key, &condition.test);
    match (condition.subject.kind, version_column(key)) {
        (Kind::Attribute, Some((column, true))) => statement.test_number(column, test)?,
        (Kind::Attribute, Some((column, false))) => statement.test_text(column, test)?,
        (Kind::Tag, _) => {
            let of = "version_tags t WHERE t.model = v.model AND t.version = v.version AND t.key = ";
            if asks_for_no_prompt(condition) {
                statement.test_owned(of, key, &Test::Null { negated: false }, |_| Ok(()))?.text(" OR ");
            }
            statement.test_owned(of, key, test, |s| s.test_text("t.value", test).map(drop))?
        }
        _ => return Err(not_searchable(condition)),
    };
    Ok(())
}
