//! The unmodified MLflow client, against a server on SQLite and on PostgreSQL.

use std::path::Path;
use std::process::Command;

use crate::program::{Server, shared};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/mlflow_client.py");

/// The Python with the client, when there is one.
fn python() -> Option<std::ffi::OsString> {
    let python = std::env::var_os("BMS_MLFLOW");
    if python.is_none() {
        assert!(std::env::var_os("CI").is_none(), "BMS_MLFLOW must be set in CI");
        eprintln!("SKIPPED: no MLflow client was served, because BMS_MLFLOW is not set");
    }
    python
}

/// Runs the script against a server with fresh data.
fn serve(python: &std::ffi::OsStr, more: &[&str]) {
    let shared = shared();
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().to_str().unwrap();
    let arguments = [&["up", "--data", folder], more].concat();
    let server = Server::start(&shared.home(), &arguments);
    let output = Command::new(python)
        .args([Path::new(SCRIPT), Path::new(server.client.base()), &shared.at("fp32")])
        .env("BMS_SERVER_PID", server.pid().to_string())
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && printed.trim_end().ends_with("ok"), "{printed}\n{failed}");
    println!("{printed}");
    server.client.verify_audit().unwrap();
}

#[test]
fn the_mlflow_client_is_served_on_sqlite() {
    let Some(python) = python() else { return };
    serve(&python, &[]);
}

#[test]
fn the_mlflow_client_is_served_on_postgresql() {
    let Some(python) = python() else { return };
    let Ok(server) = std::env::var("BMS_POSTGRES") else {
        assert!(std::env::var_os("CI").is_none(), "BMS_POSTGRES must name a server in CI");
        eprintln!("SKIPPED: MLflow was not served from PostgreSQL, because BMS_POSTGRES is not set");
        return;
    };
    // A database of its own; the server's programs stand beside the server.
    let name = format!("mlflow_{}", std::process::id());
    let psql = |sql: &str| {
        let status = Command::new("psql").args([server.as_str(), "-q", "-c", sql]).status().unwrap();
        assert!(status.success(), "{sql}");
    };
    psql(&format!("CREATE DATABASE {name}"));
    let (address, query) = server.split_once('?').unwrap_or((&server, ""));
    let (base, _) = address.rsplit_once('/').unwrap();
    serve(&python, &["--database", &format!("{base}/{name}?{query}")]);
    psql(&format!("DROP DATABASE {name} WITH (FORCE)"));
}
