//! The database: connecting, migrating, and its failures as codes a caller can act on.

use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use bms_wire::{Code, Error, Result};
use sqlx::migrate::{Migration, MigrationSource, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, Row, SqliteConnection, SqlitePool, sqlite::SqliteRow};

/// How long a write waits for one of another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a call waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);
/// Readers do not block each other or the writer in WAL mode.
const CONNECTIONS_MAX: u32 = 8;

/// The schema, oldest first. A migration that was released is never edited.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "registry", include_str!("../migrations/0001_registry.sql")),
    (2, "audit", include_str!("../migrations/0002_audit.sql")),
    (3, "edge", include_str!("../migrations/0003_edge.sql")),
];

/// [`MIGRATIONS`] as sqlx takes them. `migrate!` would pull in its procedural macros and a second
/// SQLite build for the host.
#[derive(Debug)]
struct Embedded;

type Resolved = std::result::Result<Vec<Migration>, sqlx::error::BoxDynError>;

impl MigrationSource<'static> for Embedded {
    fn resolve(self) -> Pin<Box<dyn Future<Output = Resolved> + Send + 'static>> {
        let migrations = MIGRATIONS.iter().map(|&(version, name, sql)| {
            Migration::new(version, name.into(), MigrationType::Simple, sql.into(), false)
        });
        Box::pin(std::future::ready(Ok(migrations.collect())))
    }
}

/// Opens the database at `path`, making or migrating it first.
///
/// `synchronous=FULL` with WAL: a commit is on disk before it is acknowledged.
pub(crate) async fn connect(path: &Path) -> Result<SqlitePool> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT);
    let pool = SqlitePoolOptions::new()
        .max_connections(CONNECTIONS_MAX)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .after_release(|connection, _| Box::pin(is_reusable(connection)))
        .connect_with(options)
        .await
        .map_err(|e| failure("open the registry's database", e))?;
    let migrator = Migrator::new(Embedded).await.map_err(|e| migration_failure(path, e))?;
    migrator.run(&pool).await.map_err(|e| migration_failure(path, e))?;
    Ok(pool)
}

/// Whether a connection that comes back may be used again. When the disk is full, SQLite may roll a
/// transaction back by itself; sqlx then goes on counting it as open and would fail every later one.
async fn is_reusable(connection: &mut SqliteConnection) -> sqlx::Result<bool> {
    // Until here, a rollback of a dropped transaction may still be under way.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

fn migration_failure(path: &Path, source: sqlx::migrate::MigrateError) -> Error {
    use sqlx::migrate::MigrateError as E;
    match source {
        E::Execute(e) | E::ExecuteMigration(e, _) => failure("migrate the registry's database", e),
        E::VersionMissing(_) | E::VersionMismatch(_) => Error::new(
            Code::Conflict,
            format!("failed to migrate `{}`: it was made by another version of the program", path.display()),
        )
        .hint("Open it with the program that made it, or a newer one.")
        .because(source),
        other => Error::new(Code::Internal, format!("failed to migrate `{}`: {other}", path.display()))
            .because(other),
    }
}

/// A database failure as an error: full disk, busy, unreadable and the program's own faults apart.
pub(crate) fn failure(doing: &str, source: sqlx::Error) -> Error {
    let code = match &source {
        sqlx::Error::Database(e) => sqlite_code(e.code().as_deref()),
        sqlx::Error::Io(e) if e.kind() == std::io::ErrorKind::StorageFull => Code::StorageFull,
        sqlx::Error::Io(_) => Code::Io,
        sqlx::Error::PoolTimedOut => Code::Unavailable,
        _ => Code::Internal,
    };
    let error = Error::new(code, format!("failed to {doing}: {source}"));
    let error = match code {
        Code::StorageFull => error.hint("Free space on the registry's disk; nothing was changed."),
        Code::Unavailable => error.hint("Another process holds the registry's database; try again."),
        _ => error,
    };
    error.because(source)
}

/// The code of an SQLite result, <https://www.sqlite.org/rescode.html>. The low byte is the primary one.
fn sqlite_code(code: Option<&str>) -> Code {
    match code.and_then(|c| c.parse::<u32>().ok()).map(|c| c & 0xff) {
        Some(5 | 6) => Code::Unavailable,       // BUSY, LOCKED
        Some(8 | 23) => Code::PermissionDenied, // READONLY, AUTH
        Some(10 | 11 | 14 | 26) => Code::Io,    // IOERR, CORRUPT, CANTOPEN, NOTADB
        Some(13) => Code::StorageFull,
        _ => Code::Internal,
    }
}

/// For `map_err`: a failure of reading.
pub(crate) fn reading(source: sqlx::Error) -> Error {
    failure("read the registry", source)
}

/// For `map_err`: a failure of writing.
pub(crate) fn writing(source: sqlx::Error) -> Error {
    failure("write the registry", source)
}

/// A count or size as the database stores it.
pub(crate) fn to_db(value: u64) -> Result<i64> {
    i64::try_from(value)
        .map_err(|_| Error::new(Code::TooLarge, format!("{value} is larger than the registry counts")))
}

/// The text in `column`.
pub(crate) fn text(row: &SqliteRow, column: &str) -> Result<String> {
    row.try_get(column).map_err(reading)
}

/// The count, size or number in `column`.
pub(crate) fn count(row: &SqliteRow, column: &str) -> Result<u64> {
    let value: i64 = row.try_get(column).map_err(reading)?;
    u64::try_from(value)
        .map_err(|_| Error::new(Code::Io, format!("the registry's database holds {value} as `{column}`")))
}

/// The value in `column`, of whatever type the caller wants.
pub(crate) fn value<'r, T>(row: &'r SqliteRow, column: &str) -> Result<T>
where
    T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    row.try_get(column).map_err(reading)
}

#[cfg(test)]
mod tests;
