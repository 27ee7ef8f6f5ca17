//! A stand-in for a slot's process: this test program, started again with [`VARIABLE`] set.
//!
//! It speaks a slot's protocol without a model, and does what the request's body says:
//! `{"sleep_ms": 5}`, `{"spin_ms": 5}` (computes), `{"wait_for": "file"}`, `{"hang_once": "file"}` (never answers the first who
//! makes the file), `{"exit": true}`, `{"status": 503}`. Its answer names its process and the version asked.

use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Path;
use axum::routing::{get, post};
use bms_server::{LanguageLaunch, Place};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::stand_in_language;

/// The variable that makes this program a slot; its value is what it does: `serve` as described above, `language` as
/// well, and says that it holds a language model, `crash` at once, `trespass` confined and then crash, or `real` for the slot that is part of the library.
pub(crate) const VARIABLE: &str = "BMS_STAND_IN";
/// A bundle with this file is refused.
pub(crate) const REFUSED_FILE: &str = "refuse.txt";
/// One with this file answers every request with an error.
pub(crate) const FAILING_FILE: &str = "fail.txt";
/// One with this file takes [`SLOW`] longer.
pub(crate) const SLOW_FILE: &str = "slow.txt";
/// See there.
const SLOW: Duration = Duration::from_millis(80);

/// The arguments that make this program run [`slot`] alone. What follows the dashes are filters to the test
/// harness, which match nothing else, and options to the stand-in.
pub(crate) const ARGS: [&str; 4] = ["stand_in::slot", "--exact", "--nocapture", "--"];

#[test]
fn slot() {
    match std::env::var(VARIABLE).as_deref() {
        Ok("serve") => serve(None),
        Ok("language") => serve(Some("text-generation")),
        Ok("real") => real(),
        Ok("trespass") => trespass(),
        Ok(_) => std::process::exit(3),
        // Run as a test: that it was not asked to be a slot is all there is to see.
        Err(_) => assert!(option("--socket").is_none()),
    }
}

fn option(name: &str) -> Option<PathBuf> {
    let mut args = std::env::args().skip_while(|arg| arg != name);
    args.nth(1).map(PathBuf::from)
}

fn real() {
    let number = |name: &str| option(name).map(|n| n.to_str().unwrap().parse().unwrap());
    let place = match (option("--bundle"), option("--bare")) {
        (Some(folder), _) => Place::Bundle(folder),
        (None, path) => {
            let name = option("--name").unwrap().to_str().unwrap().to_owned();
            Place::Bare { path: path.unwrap(), name }
        }
    };
    let options = bms_server::slot::Options {
        place,
        socket: option("--socket").unwrap(),
        policy: option("--policy").unwrap(),
        sealed: std::env::args().any(|arg| arg == "--sealed"),
        runtime: bms_nn::onnx::RuntimeChoice::parse(option("--runtime").unwrap().to_str().unwrap()).unwrap(),
        threads: number("--threads"),
        watched: std::env::args().any(|arg| arg == "--watched"),
        language: LanguageLaunch { context: number("--context"), ..LanguageLaunch::default() },
    };
    let code = bms_server::slot::run(options).map_or_else(|e| e.code().exit(), |()| 0);
    std::process::exit(code.into());
}

/// What a hostile model does that got hold of its slot: it is denied, and the server hears of it.
fn trespass() {
    let stdin = std::io::stdin();
    let confinement = bms_sandbox::Confinement::new(64);
    bms_sandbox::enter(&confinement, Some(std::os::fd::AsFd::as_fd(&stdin))).unwrap();
    let denied = |error: std::io::Error| error.kind() == std::io::ErrorKind::PermissionDenied;
    assert!(denied(std::fs::read("/etc/passwd").unwrap_err()));
    assert!(denied(std::fs::read("/etc/passwd").unwrap_err()));
    assert!(denied(std::net::TcpStream::connect("127.0.0.1:9").unwrap_err()));
    assert!(denied(std::process::Command::new("/bin/true").status().unwrap_err()));
    std::process::exit(3);
}

fn serve(task: Option<&str>) {
    std::thread::spawn(|| {
        std::io::stdin().read_to_end(&mut Vec::new()).ok();
        std::process::exit(0);
    });
    assert!(option("--policy").unwrap().is_file());
    if option("--bundle").unwrap().join(REFUSED_FILE).exists() {
        println!("{}", json!({ "refused": { "error": "the bytes differ", "code": "tampered" } }));
        std::process::exit(21);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::UnixListener::bind(option("--socket").unwrap()).unwrap();
        println!(
            "{}",
            json!({ "ready": true, "model": "m", "digest": "d", "runtime": "stand-in", "task": task })
        );
        let model = "/v2/models/{model}/versions/{version}";
        let router = Router::new()
            .route("/v2/health/live", get(async || "{}"))
            .route(
                model,
                get(async |Path((name, version)): Path<(String, u64)>| {
                    axum::Json(json!({ "name": name, "versions": [version.to_string()] }))
                }),
            )
            .route(&format!("{model}/infer"), post(infer))
            .merge(stand_in_language::routes())
            .layer(axum::extract::DefaultBodyLimit::disable());
        axum::serve(listener, router).await.unwrap();
    });
}

#[derive(Deserialize, Default)]
struct Asked {
    #[serde(default)]
    sleep_ms: u64,
    #[serde(default)]
    spin_ms: u64,
    wait_for: Option<PathBuf>,
    hang_once: Option<PathBuf>,
    #[serde(default)]
    exit: bool,
    status: Option<u16>,
}

pub(crate) async fn infer(
    Path((_, version)): Path<(String, u64)>,
    body: bytes::Bytes,
) -> (StatusCode, axum::Json<Value>) {
    let asked: Asked = serde_json::from_slice(&body).unwrap_or_default();
    let bundle = option("--bundle").unwrap_or_default();
    if bundle.join(FAILING_FILE).exists() {
        return (StatusCode::INTERNAL_SERVER_ERROR, axum::Json(json!({ "error": "as it is told" })));
    }
    if bundle.join(SLOW_FILE).exists() {
        tokio::time::sleep(SLOW).await;
    }
    if asked.exit {
        std::process::exit(1);
    }
    if asked.hang_once.is_some_and(|file| std::fs::File::create_new(file).is_ok()) {
        std::future::pending::<()>().await;
    }
    while asked.wait_for.as_ref().is_some_and(|file| !file.exists()) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(asked.sleep_ms)).await;
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(asked.spin_ms) {
        std::hint::spin_loop();
    }
    let status = StatusCode::from_u16(asked.status.unwrap_or(200)).unwrap();
    (status, axum::Json(json!({ "pid": std::process::id(), "version": version, "bytes": body.len() })))
}
