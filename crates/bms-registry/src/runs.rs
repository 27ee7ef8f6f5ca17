//! Experiments and their runs: what a training program says of itself while it works, in the terms of MLflow.

use std::time::{SystemTime, UNIX_EPOCH};

use bms_wire::{Code, Error, Result, limits};

use crate::database::{Connection, Row, count, text, value};
use crate::statement::Statement;

mod experiments;
mod links;
mod log;
mod logged;
mod reading;
mod search;
mod writing;

pub use logged::LoggedModel;
pub use search::{Page, RunSearch, View};

/// Runs that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Experiment {
    /// Its number; 0 is the one that always exists.
    pub id: u64,
    /// Its name, unique among all.
    pub name: String,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// Milliseconds since 1970 of the last change of name or state.
    pub updated_ms: i64,
    /// Whether it was deleted, and can be restored.
    pub deleted: bool,
    /// Its tags, by key.
    pub tags: Vec<(String, String)>,
}

/// One run of a program.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// 32 hex digits.
    pub id: String,
    /// The experiment it belongs to.
    pub experiment: u64,
    /// What people call it.
    pub name: String,
    /// Who said they started it; nobody has verified that.
    pub person: String,
    /// One of [`STATUSES`].
    pub status: String,
    /// Milliseconds since 1970, by the client's clock.
    pub start_ms: i64,
    /// Milliseconds since 1970, by the client's clock.
    pub end_ms: Option<i64>,
    /// Whether it was deleted, and can be restored.
    pub deleted: bool,
    /// The last value of each metric, by key.
    pub metrics: Vec<Metric>,
    /// Parameters, by key.
    pub params: Vec<(String, String)>,
    /// Tags, by key.
    pub tags: Vec<(String, String)>,
    /// Data sets and models that went in or came out.
    pub links: Vec<RunLink>,
}

/// One value of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Its name.
    pub key: String,
    /// The value, perhaps infinite or NaN.
    pub value: f64,
    /// Milliseconds since 1970, by the client's clock.
    pub at_ms: i64,
    /// The step of training it belongs to.
    pub step: i64,
}

/// What went into a run or came out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunLink {
    /// `data`, `model-in` or `model-out`.
    pub kind: String,
    /// Of a data set its name and digest, of a model its id.
    pub id: String,
    /// What the client said of it, as JSON.
    pub details: serde_json::Value,
}

/// A run that begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewRun {
    /// The experiment.
    pub experiment: u64,
    /// What people call it; one is made up when it is empty.
    pub name: String,
    /// Who says they start it.
    pub person: String,
    /// Milliseconds since 1970, by the client's clock.
    pub start_ms: i64,
    /// Tags.
    pub tags: Vec<(String, String)>,
}

/// What a run logs at once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Values of metrics.
    pub metrics: Vec<Metric>,
    /// Parameters; one that has another value already is refused.
    pub params: Vec<(String, String)>,
    /// Tags; later ones replace earlier ones.
    pub tags: Vec<(String, String)>,
}

/// What a run can be doing.
pub const STATUSES: [&str; 5] = ["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"];

impl Metric {
    fn from_row(row: &Row) -> Result<Metric> {
        let bits: i64 = value(row, "bits")?;
        Ok(Metric {
            key: text(row, "key")?,
            value: f64::from_bits(bits.cast_unsigned()),
            at_ms: value(row, "at_ms")?,
            step: value(row, "step")?,
        })
    }

    /// The value as the database keeps it. All NaNs are one.
    fn bits(&self) -> i64 {
        let value = if self.value.is_nan() { f64::NAN } else { self.value };
        value.to_bits().cast_signed()
    }
}

/// A run as its row says; what belongs to it is read apart.
fn run_of(row: &Row) -> Result<Run> {
    let deleted: Option<i64> = value(row, "deleted_ms")?;
    Ok(Run {
        id: text(row, "id")?,
        experiment: count(row, "experiment")?,
        name: text(row, "name")?,
        person: text(row, "person")?,
        status: text(row, "status")?,
        start_ms: value(row, "start_ms")?,
        end_ms: value(row, "end_ms")?,
        deleted: deleted.is_some(),
        metrics: Vec::new(),
        params: Vec::new(),
        tags: Vec::new(),
        links: Vec::new(),
    })
}

/// Runs the statement that takes the tag `key` from something.
///
/// # Errors
/// [`Code::NotFound`] when there is no such tag.
async fn remove_tag(db: &mut Connection, statement: &Statement, of: &str, key: &str) -> Result<()> {
    if statement.execute(db).await? == 0 {
        let shown: String = key.chars().take(80).collect();
        return Err(Error::new(Code::NotFound, format!("the {of} has no tag `{shown}`")));
    }
    Ok(())
}

/// An id that no other run or logged model has: 32 hex digits of what only this call knows.
fn fresh_id() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static CALLS: AtomicU64 = AtomicU64::new(0);
    // The keys of a hash map's hasher are drawn by the system, anew for each thread and counted on for each map.
    let drawn = std::hash::BuildHasher::hash_one(&std::collections::hash_map::RandomState::new(), 0_u64);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let seed = format!("{drawn} {nanos} {} {}", std::process::id(), CALLS.fetch_add(1, Ordering::Relaxed));
    blake3::hash(seed.as_bytes()).to_hex()[..32].to_owned()
}

/// Checks keys and values before any of them is stored.
pub(crate) fn check_pairs(what: &str, pairs: &[(String, String)]) -> Result<()> {
    for (key, value) in pairs {
        check_key(what, key)?;
        if limits::TAG_VALUE_BYTES_MAX < value.len() {
            return Err(Error::new(
                Code::TooLarge,
                format!("the {what} `{key}` has more than {} bytes", limits::TAG_VALUE_BYTES_MAX),
            ));
        }
        check_storable(what, value)?;
    }
    Ok(())
}

/// Checks the key of a tag, parameter or metric.
pub(crate) fn check_key(what: &str, key: &str) -> Result<()> {
    if key.is_empty() || limits::TAG_KEY_BYTES_MAX < key.len() {
        let shown: String = key.chars().take(80).collect();
        return Err(Error::new(
            Code::InvalidRequest,
            format!("`{shown}` is no name of a {what}: it has 1 to {} bytes", limits::TAG_KEY_BYTES_MAX),
        ));
    }
    check_storable(what, key)
}

/// PostgreSQL's text holds no NUL, and so no text does here.
pub(crate) fn check_storable(what: &str, text: &str) -> Result<()> {
    match text.contains('\0') {
        true => Err(Error::new(Code::InvalidRequest, format!("a {what} holds a NUL character"))),
        false => Ok(()),
    }
}

fn no_run(id: &str) -> Error {
    let shown: String = id.chars().take(80).collect();
    Error::new(Code::NotFound, format!("there is no run `{shown}`"))
}
