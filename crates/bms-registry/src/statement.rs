//! SQL statements put together from pieces: the program's own text, and values from outside, which are only ever bound.

use bms_wire::Result;
use sqlx::Any;
use sqlx::any::AnyArguments;
use sqlx::query::Query;

use crate::database::{Connection, Row, reading, writing};
use crate::filter::{Condition, Operator, Test, Value};
use bms_wire::{Code, Error};

/// A value to bind.
#[derive(Clone, Debug)]
pub(crate) enum Bound {
    Text(String),
    Whole(i64),
    /// Absent for NaN, which SQLite does not store.
    Real(Option<f64>),
}

impl From<&str> for Bound {
    fn from(text: &str) -> Self {
        Bound::Text(text.to_owned())
    }
}

impl From<String> for Bound {
    fn from(text: String) -> Self {
        Bound::Text(text)
    }
}

impl From<i64> for Bound {
    fn from(number: i64) -> Self {
        Bound::Whole(number)
    }
}

impl From<f64> for Bound {
    fn from(number: f64) -> Self {
        Bound::Real(Some(number).filter(|number| !number.is_nan()))
    }
}

/// A statement that grows.
#[derive(Debug, Default)]
pub(crate) struct Statement {
    sql: String,
    values: Vec<Bound>,
}

impl Statement {
    pub(crate) fn new(sql: &'static str) -> Self {
        Statement { sql: sql.to_owned(), values: Vec::new() }
    }

    /// Adds text of the program's own: that it is `'static` keeps text from outside away.
    pub(crate) fn text(&mut self, sql: &'static str) -> &mut Self {
        self.sql.push_str(sql);
        self
    }

    /// Adds a value.
    pub(crate) fn bind(&mut self, value: impl Into<Bound>) -> &mut Self {
        self.values.push(value.into());
        self.sql.push_str(&format!("${}", self.values.len()));
        self
    }

    /// Adds rows of values: `(…), (…)`.
    pub(crate) fn rows(&mut self, rows: impl IntoIterator<Item = Vec<Bound>>) -> &mut Self {
        for (place, row) in rows.into_iter().enumerate() {
            self.text(if place == 0 { "(" } else { ", (" });
            self.listed(row);
            self.text(")");
        }
        self
    }

    /// Adds values, separated by commas.
    pub(crate) fn listed<T: Into<Bound>>(&mut self, values: impl IntoIterator<Item = T>) -> &mut Self {
        for (place, value) in values.into_iter().enumerate() {
            if place != 0 {
                self.text(", ");
            }
            self.bind(value);
        }
        self
    }

    /// Adds ` column OP value` as a test of text asks for it.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when text cannot be tested so.
    pub(crate) fn test_text(&mut self, column: &'static str, test: &Test) -> Result<&mut Self> {
        match test {
            Test::Null { negated } => {
                self.text(column).text(if *negated { " IS NOT NULL" } else { " IS NULL" })
            }
            Test::In { negated, values } => {
                self.text(column).text(if *negated { " NOT IN (" } else { " IN (" });
                self.listed(values.iter().map(String::as_str)).text(")")
            }
            Test::Compare(operator, Value::Text(value)) => match operator {
                Operator::Eq => self.text(column).text(" = ").bind(value.as_str()),
                Operator::Ne => self.text(column).text(" <> ").bind(value.as_str()),
                // The one escape character is taken out of use: both databases then read a pattern alike.
                Operator::Like => {
                    self.text(column).text(" LIKE ").bind(value.replace('\\', r"\\")).text(r" ESCAPE '\'")
                }
                Operator::Ilike => {
                    let pattern = value.replace('\\', r"\\").to_ascii_lowercase();
                    self.text("LOWER(").text(column).text(") LIKE ").bind(pattern).text(r" ESCAPE '\'")
                }
                _ => {
                    return Err(Error::new(
                        Code::InvalidRequest,
                        "text is compared with =, !=, LIKE, ILIKE or IN",
                    ));
                }
            },
            Test::Compare(_, Value::Number(number)) => {
                return Err(Error::new(Code::InvalidRequest, format!("{number} is compared with text"))
                    .hint("Put the value in quotes."));
            }
        };
        Ok(self)
    }

    /// Adds ` column OP number` as a test of a number asks for it.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when a number cannot be tested so.
    pub(crate) fn test_number(&mut self, column: &'static str, test: &Test) -> Result<&mut Self> {
        let (operator, number) = match test {
            Test::Null { negated } => {
                return Ok(self.text(column).text(if *negated { " IS NOT NULL" } else { " IS NULL" }));
            }
            Test::Compare(operator, Value::Number(number)) => (operator, *number),
            _ => {
                return Err(Error::new(Code::InvalidRequest, "a number is compared with a number")
                    .hint("Write it without quotes."));
            }
        };
        let sign = match operator {
            Operator::Eq => " = ",
            Operator::Ne => " <> ",
            Operator::Lt => " < ",
            Operator::Le => " <= ",
            Operator::Gt => " > ",
            Operator::Ge => " >= ",
            Operator::Like | Operator::Ilike => {
                return Err(Error::new(Code::InvalidRequest, "a number is not like a pattern"));
            }
        };
        Ok(self.text(column).text(sign).bind(number))
    }

    /// Adds ` EXISTS (SELECT 1 FROM {of} {column} OP …)`: `of` names table and owner, and ends where a key comes.
    /// For an absent key it is what says so, not a column of it.
    pub(crate) fn test_owned(
        &mut self,
        of: &'static str,
        key: &str,
        test: &Test,
        column: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<&mut Self> {
        self.text(match test {
            Test::Null { negated: false } => "NOT EXISTS (SELECT 1 FROM ",
            _ => "EXISTS (SELECT 1 FROM ",
        });
        self.text(of).bind(key);
        if !matches!(test, Test::Null { .. }) {
            self.text(" AND ");
            column(self)?;
        }
        Ok(self.text(")"))
    }

    fn query(&self) -> Query<'_, Any, AnyArguments<'_>> {
        // Statements of many shapes would push those of few out of the connection's memory.
        let mut query = sqlx::query(&self.sql).persistent(false);
        for value in &self.values {
            query = match value {
                Bound::Text(text) => query.bind(text.as_str()),
                Bound::Whole(number) => query.bind(*number),
                Bound::Real(number) => query.bind(*number),
            };
        }
        query
    }

    /// Runs it for its rows.
    pub(crate) async fn fetch(&self, db: &mut Connection) -> Result<Vec<Row>> {
        self.query().fetch_all(db).await.map_err(reading)
    }

    /// Runs it and says how many rows it changed.
    pub(crate) async fn execute(&self, db: &mut Connection) -> Result<u64> {
        Ok(self.query().execute(db).await.map_err(writing)?.rows_affected())
    }
}

/// The refusal of a condition about something that cannot be searched by here.
pub(crate) fn not_searchable(condition: &Condition) -> Error {
    let subject = &condition.subject;
    let key: String = subject.key.chars().take(80).collect();
    Error::new(Code::InvalidRequest, format!("`{key}` ({:?}) cannot be searched by here", subject.kind))
}
