//! A stand-in for an external engine, and for the process that keeps one: this test program, started again.
//!
//! It knows nothing of slots. It listens where it is told, answers both protocols as the stand-in for a slot does when it
//! is told the same in a body, and says that it is well after `--slow-ms`, and while there is no file `--sick`. With
//! `--child` it starts a process that leaves its group, whose number goes into that file.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::{get, post};
use bms_server::{Engines, Settings};
use http::{HeaderMap, StatusCode};
use serde_json::json;
use tokio::net::{TcpListener, UnixListener};

use crate::{harness, stand_in, stand_in_language};

/// The arguments that make this program run [`engine`] alone, and [`keeper`]. The keeper's end with the engine's command,
/// which the test runner takes for more tests to run: what those print would stand in the lines that the server reads.
const ENGINE: [&str; 4] = ["stand_in_engine::engine", "--exact", "--nocapture", "--"];
pub(crate) const KEEPER: [&str; 5] =
    ["stand_in_engine::keeper", "--exact", "--nocapture", "--skip=stand_in_engine::engine", "--"];
const SERVER: [&str; 4] = ["stand_in_engine::server", "--exact", "--nocapture", "--"];
/// What the engine calls its model.
pub(crate) const KNOWN: &str = "org/known";

/// A command of this program as a TOML list.
fn toml_list(words: impl IntoIterator<Item = String>) -> String {
    format!("{:?}", words.into_iter().collect::<Vec<_>>())
}

fn program() -> String {
    std::env::current_exe().unwrap().to_str().unwrap().to_owned()
}

/// An engine `e` of this protocol, listening at `place`, with more arguments and more lines in its entry.
pub(crate) fn declared(protocol: &str, place: &str, arguments: &[&str], lines: &str) -> String {
    let words = [program()].into_iter().chain(ENGINE.map(str::to_owned));
    let words =
        words.chain(["--listen", place].into_iter().chain(arguments.iter().copied()).map(str::to_owned));
    let version = if protocol == "oip" { "model_version = \"5\"\n" } else { "" };
    format!(
        "schema = 1\n[engines.e]\nprotocol = {protocol:?}\ncommand = {}\nmodel = {KNOWN:?}\nhealth = [\"/health\"]\n\
         {version}{lines}\n",
        toml_list(words)
    )
}

/// An engine that nobody keeps, on this port.
pub(crate) fn alone(port: u16) -> std::process::Child {
    let mut command = Command::new(program());
    command.args(ENGINE).args(["--listen", &port.to_string(), "--key", "s3cret"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0).spawn().unwrap()
}

/// A server of the bundle in this folder, with an engine of this file, as a process of its own.
pub(crate) fn server_process(bundle: &str, engines: &str, address: &str) -> std::process::Child {
    let mut command = Command::new(program());
    command.args(SERVER).args(["--bundle", bundle, "--engines", engines, "--address", address]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

fn option(name: &str) -> Option<String> {
    std::env::args().skip_while(|arg| arg != name).nth(1)
}

/// Whether this program was started as this stand-in, rather than to run tests of which it is one.
fn is_meant(arguments: &[&str]) -> bool {
    let own: Vec<String> = std::env::args().skip(1).take(arguments.len()).collect();
    own == arguments
}

#[test]
fn keeper() {
    if !is_meant(&KEEPER) {
        return;
    }
    let command: Vec<_> = std::env::args_os().skip_while(|arg| arg != "--").skip(1).collect();
    let code = bms_server::keeper::run(&command).map_or_else(|e| e.code().exit(), |()| 0);
    std::process::exit(code.into());
}

#[test]
fn server() {
    if !is_meant(&SERVER) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let work = tempfile::tempdir().unwrap();
        let mut settings = Settings::new(harness::launch("serve"), work.path().to_owned());
        settings.launch.engines = Engines::load(&PathBuf::from(option("--engines").unwrap())).unwrap();
        settings.engine = Some("e".to_owned());
        let listener = TcpListener::bind(option("--address").unwrap()).await.unwrap();
        let policy = harness::unconfined(bms_bundle::Policy::development());
        let place = bms_server::Place::Bundle(option("--bundle").unwrap().into());
        bms_server::serve_one(settings, place, policy, listener, std::future::pending()).await.unwrap();
    });
}

#[test]
fn engine() {
    if !is_meant(&ENGINE) {
        return;
    }
    let began = Instant::now();
    if let Some(file) = option("--child") {
        // It is left for somebody else to end.
        #[expect(clippy::zombie_processes)]
        let child = Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
        std::fs::write(file, child.id().to_string()).unwrap();
    }
    if let Some(weights) = option("--weights") {
        assert!(PathBuf::from(weights).is_file(), "it is given what passed the gate");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let place = option("--listen").unwrap();
        let slow = Duration::from_millis(option("--slow-ms").map_or(0, |ms| ms.parse().unwrap()));
        let health = async move |headers: HeaderMap| {
            let is_sick = option("--sick").is_some_and(|file| PathBuf::from(file).exists());
            let key = option("--key").map(|key| format!("Bearer {key}"));
            let has_key = key.is_none()
                || headers.get("authorization").map(|k| k.as_bytes()) == key.as_ref().map(|k| k.as_bytes());
            match began.elapsed() < slow || is_sick || !has_key {
                true => StatusCode::SERVICE_UNAVAILABLE,
                false => StatusCode::OK,
            }
        };
        let model = "/v2/models/{model}/versions/{version}";
        let about = json!({ "name": KNOWN, "versions": ["5"], "platform": "p", "inputs": [], "outputs": [] });
        let router = Router::new()
            .route("/health", get(health))
            .route(model, get(async || axum::Json(about)))
            .route(&format!("{model}/infer"), post(stand_in::infer))
            .merge(stand_in_language::routes());
        match place.parse::<u16>() {
            Ok(port) => {
                axum::serve(TcpListener::bind(("127.0.0.1", port)).await.unwrap(), router).await.unwrap()
            }
            Err(_) => axum::serve(UnixListener::bind(place).unwrap(), router).await.unwrap(),
        }
    });
}
