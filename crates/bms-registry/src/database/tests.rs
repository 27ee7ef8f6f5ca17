use super::*;

#[track_caller]
fn check(sqlite: &str, want: Code) {
    assert_eq!(sqlite_code(Some(sqlite)), want, "{sqlite}");
}

#[test]
fn results_of_sqlite_become_codes() {
    check("13", Code::StorageFull);
    check("5", Code::Unavailable);
    check("517", Code::Unavailable); // BUSY_SNAPSHOT
    check("778", Code::Io); // IOERR_WRITE
    check("11", Code::Io);
    check("8", Code::PermissionDenied);
    check("2067", Code::Internal); // CONSTRAINT_UNIQUE
    assert_eq!(sqlite_code(None), Code::Internal);
}

#[tokio::test]
async fn a_full_database_is_a_full_disk() {
    let dir = tempfile::tempdir().unwrap();
    let pool = connect(&dir.path().join("full.sqlite")).await.unwrap();
    let mut db = pool.acquire().await.unwrap();
    sqlx::query("PRAGMA max_page_count = 60").execute(&mut *db).await.unwrap();
    let mut last = Ok(());
    for n in 0..1000 {
        let insert = sqlx::query("INSERT INTO models (name, created_ms) VALUES ($1, 0)");
        last = insert.bind(format!("{n:0100}")).execute(&mut *db).await.map(drop);
        if last.is_err() {
            break;
        }
    }
    assert_eq!(writing(last.unwrap_err()).code(), Code::StorageFull);
}

#[tokio::test]
async fn a_transaction_that_sqlite_ended_by_itself_spoils_no_later_one() {
    let dir = tempfile::tempdir().unwrap();
    let pool = connect(&dir.path().join("spoilt.sqlite")).await.unwrap();
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    // What SQLite does of its own accord when the disk is full: see <https://www.sqlite.org/lang_transaction.html>.
    sqlx::query("ROLLBACK").execute(&mut *tx).await.unwrap();
    drop(tx);
    // All of them at once, so that the spoilt one would be among them.
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        connections.push(pool.acquire().await.unwrap());
    }
    assert!(connections.iter().all(|connection| !connection.is_in_transaction()));
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("newer.sqlite");
    let pool = connect(&path).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (999, 'from the future', TRUE, x'00', 0)",
    )
    .execute(&pool)
    .await
    .unwrap();
    pool.close().await;
    assert_eq!(connect(&path).await.unwrap_err().code(), Code::Conflict);
}

#[tokio::test]
async fn commits_are_flushed() {
    let dir = tempfile::tempdir().unwrap();
    let pool = connect(&dir.path().join("new.sqlite")).await.unwrap();
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&pool).await.unwrap();
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&pool).await.unwrap();
    let foreign_keys: i64 = sqlx::query_scalar("PRAGMA foreign_keys").fetch_one(&pool).await.unwrap();
    assert_eq!((mode.as_str(), synchronous, foreign_keys), ("wal", 2, 1));
}
