use super::failure::{postgres_code, sqlite_code};
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
    let pool = Database::open_file(&dir.path().join("full.sqlite")).await.unwrap().pool;
    let mut db = pool.acquire().await.unwrap();
    sqlx::query("PRAGMA max_page_count = 1").execute(&mut *db).await.unwrap();
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
    let pool = Database::open_file(&dir.path().join("spoilt.sqlite")).await.unwrap().pool;
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
    let pool = Database::open_file(&path).await.unwrap().pool;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (999, 'from the future', TRUE, x'00', 0)",
    )
    .execute(&pool)
    .await
    .unwrap();
    pool.close().await;
    assert_eq!(Database::open_file(&path).await.unwrap_err().code(), Code::Conflict);
}

#[tokio::test]
async fn commits_are_flushed() {
    let dir = tempfile::tempdir().unwrap();
    let pool = Database::open_file(&dir.path().join("new.sqlite")).await.unwrap().pool;
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&pool).await.unwrap();
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&pool).await.unwrap();
    let foreign_keys: i64 = sqlx::query_scalar("PRAGMA foreign_keys").fetch_one(&pool).await.unwrap();
    assert_eq!((mode.as_str(), synchronous, foreign_keys), ("wal", 2, 1));
}

#[test]
fn states_of_postgresql_become_codes() {
    for (state, want) in [
        ("53100", Code::StorageFull),
        ("53300", Code::Unavailable), // too many connections
        ("57P01", Code::Unavailable), // shut down
        ("57P03", Code::Unavailable), // starting up
        ("55P03", Code::Unavailable), // lock timeout
        ("40001", Code::Unavailable), // serialization failure
        ("28P01", Code::PermissionDenied),
        ("42501", Code::PermissionDenied),
        ("3D000", Code::NotFound),
        ("XX001", Code::Io),       // data corrupted
        ("42601", Code::Internal), // our own wrong SQL
        ("", Code::Internal),
    ] {
        assert_eq!(postgres_code(state), want, "{state}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_unavailable() {
    // Nobody listens on the port of a socket that was closed.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url: DatabaseUrl = format!("postgres://bms:hunter2@127.0.0.1:{port}/bms").parse().unwrap();
    let options = AnyConnectOptions::from_str(url.revealed()).unwrap();
    install_drivers();
    let refused = AnyPoolOptions::new()
        .acquire_timeout(Duration::from_millis(300))
        .connect_with(options)
        .await
        .map_err(|e| failure("open", e))
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
}

#[test]
fn passwords_are_not_shown() {
    for url in [
        "postgres://u:hunter2@h/d",
        "postgresql://u:hunt:er2@h/d?password=hunter2",
        "postgres:///d?password=hunter2",
    ] {
        let url: DatabaseUrl = url.parse().unwrap();
        assert!(!format!("{url} {url:?}").contains("er2"), "{url}");
    }
    let other = "mysql://u:hunter2@h/d".parse::<DatabaseUrl>().unwrap_err();
    assert!(!format!("{other:?}").contains("hunter2"));
}
