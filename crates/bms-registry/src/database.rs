//! The database, SQLite or PostgreSQL: connecting, migrating, and its failures as codes a caller can act on.
//!
//! Both are reached through sqlx's `Any` driver: one set of queries, of which each has to mean the same on both.
//! That leaves out little: numbers are 64 bits wide, booleans are stored as 0 and 1, parameters are `$n`, and a
//! sum is cast. The schema is written once, in SQLite's words, and put into PostgreSQL's by [`dialect`].

use std::path::Path;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Once;
use std::time::Duration;

use bms_wire::{Code, Error, Result};
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::{Migration, MigrationSource, MigrationType, Migrator};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Any, AnyPool, ConnectOptions, Connection as _, Executor, Row as _, Transaction};

mod dialect;
mod failure;
mod url;

pub(crate) use failure::{failure, reading, writing};
pub use url::DatabaseUrl;

/// A connection, also one inside a transaction.
pub(crate) type Connection = sqlx::AnyConnection;
/// A row of an answer.
pub(crate) type Row = sqlx::any::AnyRow;

/// How long a call waits for a free connection; meanwhile a lost server is dialled again.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(15);
/// Readers do not block each other or the writer.
const CONNECTIONS_MAX: u32 = 8;

/// What every connection to SQLite is told. `LIKE` minds case, as PostgreSQL's does. `synchronous=FULL` with WAL: a commit is on disk before it is
/// acknowledged. A write waits ten seconds for one of another process.
const SQLITE_SESSION: &str = "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; \
                              PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
                              PRAGMA case_sensitive_like = ON";

/// What every connection to PostgreSQL is told, whatever the server's defaults: commits are on disk before they are
/// acknowledged, a write waits ten seconds for another one, and a writer that stopped half-way is ended.
const POSTGRES_SESSION: &str = "SET synchronous_commit = on; SET lock_timeout = '10s'; \
                                SET idle_in_transaction_session_timeout = '60s'; \
                                SET default_transaction_isolation = 'read committed'; \
                                SET client_min_messages = 'warning'";

/// PostgreSQL's stand-in for SQLite's write lock, one for each schema. The first number is arbitrary, and ours.
const POSTGRES_WRITE_LOCK: &str = "SELECT pg_advisory_xact_lock(1651340146, hashtext(current_schema()))";

/// The schema, oldest first. A migration that was released is never edited.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "registry", include_str!("../migrations/0001_registry.sql")),
    (2, "audit", include_str!("../migrations/0002_audit.sql")),
    (3, "edge", include_str!("../migrations/0003_edge.sql")),
    (20, "lifecycle", include_str!("../migrations/0020_lifecycle.sql")),
    (21, "runs", include_str!("../migrations/0021_runs.sql")),
    (30, "leases", include_str!("../migrations/0030_leases.sql")),
    (31, "rollouts", include_str!("../migrations/0031_rollouts.sql")),
    (34, "engines", include_str!("../migrations/0034_engines.sql")),
    (40, "keys", include_str!("../migrations/0040_keys.sql")),
    (42, "workers", include_str!("../migrations/0042_workers.sql")),
    (44, "scale", include_str!("../migrations/0044_scale.sql")),
    (48, "centres", include_str!("../migrations/0048_centres.sql")),
    (50, "key quotas", include_str!("../migrations/0050_key_quotas.sql")),
    (51, "needs", include_str!("../migrations/0051_needs.sql")),
];

/// Whose SQL is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

/// The connections to one database.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    pub(crate) pool: AnyPool,
    pub(crate) kind: Kind,
}

impl Database {
    /// Opens the SQLite database at `path`, making or migrating it first.
    pub(crate) async fn open_file(path: &Path) -> Result<Database> {
        let url = SqliteConnectOptions::new().filename(path).create_if_missing(true).to_url_lossy();
        Database::open(url.as_str(), Kind::Sqlite, &format!("`{}`", path.display())).await
    }

    /// Opens a PostgreSQL database, migrating it first.
    pub(crate) async fn open_url(url: &DatabaseUrl) -> Result<Database> {
        Database::open(url.revealed(), Kind::Postgres, &format!("`{url}`")).await
    }

    async fn open(url: &str, kind: Kind, shown: &str) -> Result<Database> {
        install_drivers();
        let options = AnyConnectOptions::from_str(url)
            .map_err(|e| failure("understand the address of the registry's database", e))?;
        let session = match kind {
            Kind::Sqlite => SQLITE_SESSION,
            Kind::Postgres => POSTGRES_SESSION,
        };
        let pool = AnyPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .after_connect(move |connection, _| {
                Box::pin(async move { connection.execute(session).await.map(drop) })
            })
            .after_release(|connection, _| Box::pin(is_reusable(connection)))
            .connect_with(options)
            .await
            .map_err(|e| failure(&format!("open the registry's database {shown}"), e))?;
        let migrator = Migrator::new(Embedded(kind)).await.map_err(|e| migration_failure(shown, e))?;
        migrator.run(&pool).await.map_err(|e| migration_failure(shown, e))?;
        Ok(Database { pool, kind })
    }

    /// A transaction that sees one moment in all its queries, and writes nothing.
    pub(crate) async fn snapshot(&self) -> Result<Transaction<'static, Any>> {
        let begin = match self.kind {
            Kind::Sqlite => "BEGIN",
            Kind::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        self.pool.begin_with(begin).await.map_err(reading)
    }

    /// A transaction that holds the write lock: there is one writer at a time, in all processes and on all machines,
    /// and what it reads cannot be outdated when it writes.
    pub(crate) async fn writer(&self) -> Result<Transaction<'static, Any>> {
        match self.kind {
            Kind::Sqlite => self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(writing),
            Kind::Postgres => {
                let mut tx = self.pool.begin().await.map_err(writing)?;
                tx.execute(POSTGRES_WRITE_LOCK).await.map_err(writing)?;
                Ok(tx)
            }
        }
    }
}

fn install_drivers() {
    static ONCE: Once = Once::new();
    ONCE.call_once(sqlx::any::install_default_drivers);
}

/// [`MIGRATIONS`] as sqlx takes them. `migrate!` would pull in its procedural macros and a second
/// SQLite build for the host.
#[derive(Debug)]
struct Embedded(Kind);

type Resolved = std::result::Result<Vec<Migration>, sqlx::error::BoxDynError>;

impl MigrationSource<'static> for Embedded {
    fn resolve(self) -> Pin<Box<dyn Future<Output = Resolved> + Send + 'static>> {
        let migrations = MIGRATIONS.iter().map(|&(version, name, sql)| {
            let written = Migration::new(version, name.into(), MigrationType::Simple, sql.into(), false);
            match self.0 {
                Kind::Sqlite => written,
                // The checksum stays that of what was written: how it is put may improve.
                Kind::Postgres => Migration { sql: dialect::to_postgres(sql).into(), ..written },
            }
        });
        Box::pin(std::future::ready(Ok(migrations.collect())))
    }
}

/// Whether a connection that comes back may be used again. When the disk is full, SQLite may roll a
/// transaction back by itself; sqlx then goes on counting it as open and would fail every later one.
async fn is_reusable(connection: &mut Connection) -> sqlx::Result<bool> {
    // Until here, a rollback of a dropped transaction may still be under way.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

fn migration_failure(shown: &str, source: sqlx::migrate::MigrateError) -> Error {
    use sqlx::migrate::MigrateError as E;
    match source {
        E::Execute(e) | E::ExecuteMigration(e, _) => failure("migrate the registry's database", e),
        E::VersionMissing(_) | E::VersionMismatch(_) => Error::new(
            Code::Conflict,
            format!("failed to migrate {shown}: it was made by another version of the program"),
        )
        .hint("Open it with the program that made it, or a newer one.")
        .because(source),
        other => Error::new(Code::Internal, format!("failed to migrate {shown}: {other}")).because(other),
    }
}

/// A count or size as the database stores it.
pub(crate) fn to_db(value: u64) -> Result<i64> {
    i64::try_from(value)
        .map_err(|_| Error::new(Code::TooLarge, format!("{value} is larger than the registry counts")))
}

/// The text in `column`.
pub(crate) fn text(row: &Row, column: &str) -> Result<String> {
    row.try_get(column).map_err(reading)
}

/// The count, size or number in `column`.
pub(crate) fn count(row: &Row, column: &str) -> Result<u64> {
    let value: i64 = row.try_get(column).map_err(reading)?;
    u64::try_from(value)
        .map_err(|_| Error::new(Code::Io, format!("the registry's database holds {value} as `{column}`")))
}

/// The value in `column`, of whatever type the caller wants.
pub(crate) fn value<'r, T>(row: &'r Row, column: &str) -> Result<T>
where
    T: sqlx::Decode<'r, Any> + sqlx::Type<Any>,
{
    row.try_get(column).map_err(reading)
}

#[cfg(test)]
mod tests;
