//! The same tests on both databases: SQLite as they are, and all of them once more on PostgreSQL.
//!
//! `BMS_POSTGRES` names a real server; `cargo xtask services` starts one. Every registry of a test gets a schema of its
//! own there, named after its folder.

use std::path::Path;
use std::process::Command;

use bms_registry::{DatabaseUrl, Registry};
use sqlx::{AnyConnection, Connection};

/// Set for the tests that run on PostgreSQL.
const ON: &str = "BMS_REGISTRY_TEST_ON_POSTGRES";

/// Whether this process tests PostgreSQL.
pub(crate) fn on_postgres() -> bool {
    std::env::var_os(ON).is_some()
}

/// The server's address.
fn server() -> Option<String> {
    std::env::var("BMS_POSTGRES").ok().filter(|url| !url.is_empty())
}

/// Opens the registry of a folder on the database under test.
pub(crate) async fn open(dir: &Path) -> bms_wire::Result<Registry> {
    if !on_postgres() {
        return Registry::open(dir).await;
    }
    let mut admin = connect(&server().unwrap()).await;
    let create = format!("CREATE SCHEMA IF NOT EXISTS {}", schema(dir));
    // Two tests that make one schema at once are one that has it.
    let _ = sqlx::raw_sql(&create).execute(&mut admin).await;
    let url: DatabaseUrl = address(dir).parse().unwrap();
    Registry::open_with(dir, None, Some(&url)).await
}

/// Executes statements behind the registry's back.
pub(crate) async fn edit(dir: &Path, sql: &str) {
    let url = match on_postgres() {
        true => address(dir),
        false => format!("sqlite://{}", dir.join("registry.sqlite").display()),
    };
    sqlx::raw_sql(sql).execute(&mut connect(&url).await).await.unwrap();
}

/// Removes everything from the database, as if there had never been one.
pub(crate) async fn begin_anew(dir: &Path) {
    if on_postgres() {
        edit(dir, &format!("DROP SCHEMA {} CASCADE", schema(dir))).await;
        return;
    }
    for file in ["registry.sqlite", "registry.sqlite-wal", "registry.sqlite-shm"] {
        std::fs::remove_file(dir.join(file)).ok();
    }
}

pub(crate) async fn connect(url: &str) -> AnyConnection {
    sqlx::any::install_default_drivers();
    AnyConnection::connect(url).await.unwrap()
}

pub(crate) fn address(dir: &Path) -> String {
    let server = server().unwrap();
    let mark = if server.contains('?') { '&' } else { '?' };
    format!("{server}{mark}options=-csearch_path%3D{0}&application_name={0}", schema(dir))
}

fn schema(dir: &Path) -> String {
    format!("test_{}", &blake3::hash(dir.as_os_str().as_encoded_bytes()).to_hex()[..24])
}

#[test]
fn all_tests_pass_on_postgresql() {
    if on_postgres() {
        return;
    }
    if server().is_none() {
        assert!(std::env::var_os("CI").is_none(), "BMS_POSTGRES must name a server in CI");
        eprintln!(
            "SKIPPED: nothing was tested on PostgreSQL, because BMS_POSTGRES is not set; `cargo xtask services` starts one"
        );
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--test-threads=4", "--color=never"])
        .env(ON, "1")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "on PostgreSQL:\n{printed}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // An empty run would pass as well.
    let passed = printed
        .lines()
        .find_map(|line| line.strip_prefix("test result: ok. ")?.split(' ').next()?.parse::<usize>().ok());
    assert!(passed.is_some_and(|passed| 40 < passed), "{printed}");
    println!("on PostgreSQL: {} tests passed", passed.unwrap_or_default());
}
