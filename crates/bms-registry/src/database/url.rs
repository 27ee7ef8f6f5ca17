//! The address of a PostgreSQL database. It may hold a password, which is never shown.

use std::fmt;
use std::str::FromStr;

use bms_wire::{Code, Error, Result};

/// A `postgres://` or `postgresql://` address, as libpq and sqlx take them.
///
/// ```
/// let url: bms_registry::DatabaseUrl = "postgres://bms:secret@127.0.0.1/bms?password=secret".parse()?;
/// assert_eq!(url.to_string(), "postgres://bms:***@127.0.0.1/bms?…");
/// assert!(!format!("{url:?}").contains("secret"));
/// # Ok::<(), bms_wire::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// The whole address, password included.
    pub(crate) fn revealed(&self) -> &str {
        &self.0
    }
}

impl FromStr for DatabaseUrl {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self> {
        if ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Ok(DatabaseUrl(url.to_owned()));
        }
        // What was given is not repeated: it may hold a password all the same.
        Err(Error::new(Code::InvalidRequest, "this is not the address of a PostgreSQL database")
            .hint("Give it as postgres://USER@HOST/DATABASE; without one the registry is an SQLite file."))
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The query may hold a password as well.
        let (address, query) = match self.0.split_once('?') {
            Some((address, _)) => (address, "?…"),
            None => (self.0.as_str(), ""),
        };
        let (scheme, rest) = address.split_once("://").unwrap_or(("postgres", address));
        match rest.rsplit_once('@') {
            Some((user, place)) => {
                let name = user.split(':').next().unwrap_or_default();
                let password = if user.contains(':') { ":***" } else { "" };
                write!(f, "{scheme}://{name}{password}@{place}{query}")
            }
            None => write!(f, "{scheme}://{rest}{query}"),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}
