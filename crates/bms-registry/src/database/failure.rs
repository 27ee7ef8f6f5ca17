//! Failures of the database as codes a caller can act on.

use std::io::ErrorKind;

use bms_wire::{Code, Error};
use sqlx::postgres::PgDatabaseError;

/// A database failure as an error: full disk, busy, unreachable, unreadable and the program's own faults apart.
pub(crate) fn failure(doing: &str, source: sqlx::Error) -> Error {
    let code = match &source {
        sqlx::Error::Database(e) if e.try_downcast_ref::<PgDatabaseError>().is_some() => {
            postgres_code(e.code().as_deref().unwrap_or_default())
        }
        sqlx::Error::Database(e) => sqlite_code(e.code().as_deref()),
        sqlx::Error::Io(e) if e.kind() == ErrorKind::StorageFull => Code::StorageFull,
        sqlx::Error::Io(e) if e.kind() == ErrorKind::PermissionDenied => Code::PermissionDenied,
        // SQLite reports its own: these are of the connection to a server.
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => Code::Unavailable,
        sqlx::Error::Configuration(_) => Code::InvalidRequest,
        sqlx::Error::Tls(_) => Code::Unavailable,
        _ => Code::Internal,
    };
    let error = Error::new(code, format!("failed to {doing}: {source}"));
    let error = match code {
        Code::StorageFull => error.hint("Free space on the registry's disk; nothing was changed."),
        Code::Unavailable => {
            error.hint("The registry's database is busy or cannot be reached; look whether the change was made, then try again.")
        }
        Code::InvalidRequest => error.hint("Give it as postgres://USER@HOST/DATABASE."),
        _ => error,
    };
    error.because(source)
}

/// The code of an SQLite result, <https://www.sqlite.org/rescode.html>. The low byte is the primary one.
pub(super) fn sqlite_code(code: Option<&str>) -> Code {
    match code.and_then(|c| c.parse::<u32>().ok()).map(|c| c & 0xff) {
        Some(5 | 6) => Code::Unavailable,       // BUSY, LOCKED
        Some(8 | 23) => Code::PermissionDenied, // READONLY, AUTH
        Some(10 | 11 | 14 | 26) => Code::Io,    // IOERR, CORRUPT, CANTOPEN, NOTADB
        Some(13) => Code::StorageFull,
        _ => Code::Internal,
    }
}

/// The code of an SQLSTATE, <https://www.postgresql.org/docs/current/errcodes-appendix.html>. The first two
/// characters are the class.
pub(super) fn postgres_code(state: &str) -> Code {
    match (state.get(..2).unwrap_or_default(), state) {
        // Disk full.
        (_, "53100") => Code::StorageFull,
        // Connection, resources, shutting down or starting; a lock not had in time, a deadlock, a conflict.
        ("08" | "53" | "57" | "40", _) | (_, "55P03" | "25P03") => Code::Unavailable,
        // Read-only: a standby, or a server told to be.
        (_, "25006") => Code::Unavailable,
        ("28", _) | (_, "42501") => Code::PermissionDenied,
        // No such database or schema.
        (_, "3D000" | "3F000") => Code::NotFound,
        // The system the server runs on, or its files.
        ("58" | "XX", _) => Code::Io,
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
