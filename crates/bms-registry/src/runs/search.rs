//! Searching runs, and answers in pages.

use bms_wire::{Code, Error, Result, limits};

use super::{Run, run_of};
use crate::Registry;
use crate::database::{Connection, Row, to_db};
use crate::filter::{self, Condition, Kind, Order};
use crate::statement::{Statement, not_searchable};

/// Whether deleted things are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// Only what is not deleted.
    #[default]
    Active,
    /// Only what is deleted.
    Deleted,
    /// Both.
    All,
}

impl View {
    /// The condition for it.
    pub(crate) fn condition(self, active: &'static str, deleted: &'static str) -> &'static str {
        match self {
            View::Active => active,
            View::Deleted => deleted,
            View::All => "1 = 1",
        }
    }
}

/// Which part of an answer is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// How many come before it.
    pub offset: u64,
    /// How many at most, and never more than the answer's limit.
    pub size: usize,
}

impl Page {
    /// The rows of the page in a statement that lacks only its limit, and where the next page begins.
    pub(crate) async fn fetch(
        self,
        statement: &mut Statement,
        db: &mut Connection,
    ) -> Result<(Vec<Row>, Option<u64>)> {
        self.fetch_up_to(limits::SEARCH_RESULTS_MAX, statement, db).await
    }

    /// As [`Page::fetch`], for answers of another size.
    pub(crate) async fn fetch_up_to(
        self,
        most: usize,
        statement: &mut Statement,
        db: &mut Connection,
    ) -> Result<(Vec<Row>, Option<u64>)> {
        let size = self.size.clamp(1, most);
        statement.text(" LIMIT ").bind(to_db(size as u64 + 1)?);
        statement.text(" OFFSET ").bind(to_db(self.offset)?);
        let mut rows = statement.fetch(db).await?;
        let next = (size < rows.len()).then_some(self.offset + size as u64);
        rows.truncate(size);
        Ok((rows, next))
    }
}

/// Which runs are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunSearch {
    /// Of these experiments.
    pub experiments: Vec<u64>,
    /// That this holds of, see [`crate::filter`].
    pub filter: String,
    /// In this order; then latest first.
    pub order: Vec<String>,
    /// Deleted or not.
    pub view: View,
    /// Which part.
    pub page: Page,
}

impl Registry {
    /// Runs that a filter holds of, with what was logged of them, and where the next page begins.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when the filter or the order means nothing here.
    pub async fn search_runs(&self, search: &RunSearch) -> Result<(Vec<Run>, Option<u64>)> {
        if search.experiments.is_empty() {
            return Ok((Vec::new(), None));
        }
        if limits::SEARCH_RESULTS_MAX < search.experiments.len() {
            let what = format!("a search covers at most {} experiments", limits::SEARCH_RESULTS_MAX);
            return Err(Error::new(Code::TooLarge, what));
        }
        let mut statement = Statement::new("SELECT r.* FROM runs r WHERE r.experiment IN (");
        let experiments = search.experiments.iter().map(|id| to_db(*id)).collect::<Result<Vec<i64>>>()?;
        statement.listed(experiments).text(") AND ");
        statement.text(search.view.condition("r.deleted_ms IS NULL", "r.deleted_ms IS NOT NULL"));
        for condition in filter::parse(&search.filter)? {
            statement.text(" AND ");
            add_condition(&mut statement, &condition)?;
        }
        statement.text(" ORDER BY ");
        if limits::FILTER_CONDITIONS_MAX < search.order.len() {
            return Err(Error::new(Code::TooLarge, "an answer is ordered by a few things only"));
        }
        for order in &search.order {
            add_order(&mut statement, &filter::parse_order(order)?)?;
        }
        statement.text("r.start_ms DESC, r.id");
        let mut db = self.db.snapshot().await?;
        let (rows, next) = search.page.fetch(&mut statement, &mut db).await?;
        let mut runs = rows.iter().map(run_of).collect::<Result<Vec<_>>>()?;
        super::reading::fill(&mut db, &mut runs).await?;
        Ok((runs, next))
    }
}

/// The column of an attribute, and whether it holds numbers.
fn column(key: &str) -> Option<(&'static str, bool)> {
    match key {
        "run_id" => Some(("r.id", false)),
        "run_name" | "run name" | "Run name" | "name" => Some(("r.name", false)),
        "status" => Some(("r.status", false)),
        "user_id" => Some(("r.person", false)),
        "start_time" | "created" | "Created" => Some(("r.start_ms", true)),
        "end_time" => Some(("r.end_ms", true)),
        _ => None,
    }
}

fn add_condition(statement: &mut Statement, condition: &Condition) -> Result<()> {
    let (key, test) = (&condition.subject.key, &condition.test);
    match (condition.subject.kind, column(key)) {
        (Kind::Attribute, Some((column, true))) => statement.test_number(column, test)?,
        (Kind::Attribute, Some((column, false))) => statement.test_text(column, test)?,
        (Kind::Attribute, None) => return Err(not_searchable(condition)),
        (Kind::Metric, _) => {
            let of = "run_latest m WHERE m.run = r.id AND m.key = ";
            statement.test_owned(of, key, test, |s| s.test_number("m.value", test).map(drop))?
        }
        (Kind::Param, _) => {
            let of = "run_params p WHERE p.run = r.id AND p.key = ";
            statement.test_owned(of, key, test, |s| s.test_text("p.value", test).map(drop))?
        }
        (Kind::Tag, _) => {
            let of = "run_tags t WHERE t.run = r.id AND t.key = ";
            statement.test_owned(of, key, test, |s| s.test_text("t.value", test).map(drop))?
        }
    };
    Ok(())
}

/// Runs without the value come last, whichever way it goes.
fn add_order(statement: &mut Statement, order: &Order) -> Result<()> {
    let direction = if order.descending { " DESC, " } else { ", " };
    let table = match order.subject.kind {
        Kind::Attribute => {
            let Some((column, _)) = column(&order.subject.key) else {
                let key: String = order.subject.key.chars().take(80).collect();
                return Err(Error::new(Code::InvalidRequest, format!("runs cannot be ordered by `{key}`")));
            };
            statement.text("(").text(column).text(" IS NULL), ").text(column).text(direction);
            return Ok(());
        }
        Kind::Metric => "(SELECT o.value FROM run_latest o WHERE o.run = r.id AND o.key = ",
        Kind::Param => "(SELECT o.value FROM run_params o WHERE o.run = r.id AND o.key = ",
        Kind::Tag => "(SELECT o.value FROM run_tags o WHERE o.run = r.id AND o.key = ",
    };
    let key = order.subject.key.as_str();
    statement.text("(").text(table).bind(key).text(") IS NULL), ");
    statement.text(table).bind(key).text(")").text(direction);
    Ok(())
}
