//! Slots that are external engines: started behind the gate, watched, replaced, asked in their own names, and gone with the
//! server.

use std::time::{Duration, Instant};

use bms_bundle::Policy;
use bms_server::{Engines, Settings};
use bms_wire::Code;
use bms_wire::api::SetDeployment;
use bytes::Bytes;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::harness::{Connection, SOON, Server, code, is_running, launch, signal, write_bundle};
use crate::lost::Load;
use crate::stand_in_engine::{self, declared};

/// What is deployed by an engine.
fn by_engine(name: &str) -> SetDeployment {
    SetDeployment { engine: Some(name.to_owned()), ..SetDeployment::of("production") }
}

/// A server of version 1 of `m`, which this engine runs.
async fn server(engines: &str) -> Server {
    let engines = Engines::from_toml(engines).unwrap();
    let server = Server::with_registry(|settings| settings.launch.engines = engines).await;
    server.publish(1, &["production"], &[]).await.unwrap();
    server.client(|client| client.set_deployment("m", &by_engine("e"))).await.unwrap();
    server
}

async fn ready(server: &Server) {
    server.until("/v2/models/m/ready", |status, _| status == 200).await;
}

async fn slot(server: &Server) -> Value {
    server.get("/api/v1/slots").await.1[0].clone()
}

async fn until_slot(server: &Server, wanted: impl Fn(&Value) -> bool + Send) -> Value {
    server.until("/api/v1/slots", move |_, slots| wanted(&slots[0])).await[0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_answers_under_our_names_and_is_replaced_without_loss() {
    let engines = declared("oip", "{socket}", &["--weights", "{weights}", "--slow-ms", "300"], "");
    let server = server(&engines).await;
    ready(&server).await;
    let shown = slot(&server).await;
    assert_eq!((&shown["runtime"], &shown["version"]), (&json!("engine e"), &json!(1)), "{shown}");
    assert!(shown["resident_bytes"].as_u64().unwrap() > 1 << 20, "{shown}");
    let (_, about) = server.get("/v2/models/m").await;
    assert_eq!((&about["name"], &about["versions"]), (&json!("m"), &json!(["1"])));
    assert_eq!(server.get("/api/v1/deployments/m").await.1["engine"], "e");
    let load = Load::on(&server, 8, r#"{"sleep_ms": 2}"#);
    for _ in 0..2 {
        load.more(50).await;
        let pid = until_slot(&server, |slot| slot["state"] == "ready").await["pid"].as_u64().unwrap();
        signal(pid, Signal::KILL);
        until_slot(&server, |slot| slot["state"] == "ready" && slot["pid"] != pid).await;
    }
    load.more(50).await;
    load.end().await;
    let shown = slot(&server).await;
    assert_eq!(
        (&shown["restarts"], &shown["last_restart"]["reason"]),
        (&json!(2), &json!("ended")),
        "{shown}"
    );
    // Deployed again without the engine it is this program's, and the engine goes.
    let pid = shown["pid"].as_u64().unwrap();
    server.client(|client| client.deploy("m", "production")).await.unwrap();
    until_slot(&server, |slot| slot["runtime"] == "stand-in" && !is_running(pid)).await;
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_and_streams_pass_and_a_broken_stream_ends_with_an_error() {
    let server = server(&declared("openai", "{port}", &[], "")).await;
    ready(&server).await;
    let ask = async |path: &str, body: Value| {
        let headers = [("content-type", "application/json")];
        let answer = server.connect().await.raw("POST", path, body.to_string(), &headers).await;
        (answer.status().as_u16(), String::from_utf8(answer.into_body().to_vec()).unwrap())
    };
    let (status, answer) = ask("/v1/chat/completions", json!({ "model": "m@production" })).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(serde_json::from_str::<Value>(&answer).unwrap()["model"], "m@production");
    let (status, stream) = ask("/v1/chat/completions", json!({ "model": "m", "pieces": 3 })).await;
    assert_eq!((status, stream.matches("data: ").count()), (200, 3), "{stream}");
    for then in ["exit", "half"] {
        let body = json!({ "model": "m", "pieces": 2, "then": then });
        let (_, stream) = ask("/v1/chat/completions", body).await;
        let events: Vec<&str> = stream.split_terminator("\n\n").collect();
        assert_eq!(events.len(), 3, "{stream}");
        let error: Value = serde_json::from_str(events[2].strip_prefix("data: ").unwrap()).unwrap();
        assert!(error["error"]["message"].as_str().unwrap().contains("broke off"), "{stream}");
        ready(&server).await;
    }
    for (path, status) in [("/v1/messages", 501), ("/tokenize", 501), ("/v1/responses", 501)] {
        let (got, answer) = ask(path, json!({ "model": "m" })).await;
        assert_eq!(got, status, "{path}: {answer}");
    }
    assert_eq!(ask("/v2/models/m/infer", json!({})).await.0, 501);
    assert_eq!(ask("/v1/chat/completions", json!({ "model": "m:style" })).await.0, 501);
    assert_eq!(server.get("/v1/models").await.1["data"][0]["id"], "m");
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_hangs_is_replaced_and_what_waits_is_answered() {
    let server = server(&declared("oip", "{socket}", &[], "silent_seconds = 1\nstalled_seconds = 3")).await;
    ready(&server).await;
    // Stopped: it says nothing and does nothing.
    let pid = slot(&server).await["pid"].as_u64().unwrap();
    signal(pid, Signal::STOP);
    assert_eq!(server.infer("{}").await.0, 200);
    let shown = slot(&server).await;
    assert_eq!(shown["last_restart"]["reason"], "hung", "{shown}");
    assert!(!is_running(pid));
    // It says that it is well, and answers nobody.
    let file = server.dir.path().join("once");
    let (status, answer) = server.infer(&json!({ "hang_once": file }).to_string()).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(slot(&server).await["last_restart"]["reason"], "spinning");
    // What takes long and says that it is well is left alone.
    let restarts = slot(&server).await["restarts"].clone();
    assert_eq!(server.infer(r#"{"sleep_ms": 2000}"#).await.0, 200);
    assert_eq!(slot(&server).await["restarts"], restarts);
    let audit = server.get("/api/v1/audit").await.1.to_string();
    assert!(audit.contains("slot.restarted") && audit.contains("\"hung\""), "{audit}");
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keeper_that_says_nothing_is_given_up() {
    let engines = Engines::from_toml(&declared("oip", "{socket}", &[], "start_seconds = 1")).unwrap();
    let server = Server::with_registry(|settings| {
        settings.launch.engines = engines;
        settings.launch.program = "/bin/sh".into();
        settings.launch.keeper_args = ["-c", "sleep 1000"].map(Into::into).to_vec();
    })
    .await;
    server.publish(1, &["production"], &[]).await.unwrap();
    server.client(|client| client.set_deployment("m", &by_engine("e"))).await.unwrap();
    let shown = until_slot(&server, |slot| slot["restarts"].as_u64() > Some(1)).await;
    assert_eq!(shown["last_restart"]["reason"], "start", "{shown}");
    assert_eq!(shown["last_restart"]["why"], "it was not ready after 1 s", "{shown}");
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_does_not_start_is_told_and_one_that_is_not_known_refused() {
    let engines =
        "schema = 1\n[engines.e]\nprotocol = \"oip\"\ncommand = [\"/nowhere/engine\", \"{port}\"]\n";
    let server = server(engines).await;
    let told = |_: u16, deployments: &Value| {
        deployments[0]["problem"].as_str().is_some_and(|problem| problem.contains("/nowhere/engine"))
    };
    server.until("/api/v1/deployments", told).await;
    until_slot(&server, |slot| slot["restarts"].as_u64() > Some(2)).await;
    let (status, answer) = server.infer("{}").await;
    assert_eq!((status, code(&answer)), (503, Some(Code::Unavailable)), "{answer}");
    let unknown = server.client(|client| client.set_deployment("m", &by_engine("other"))).await;
    let unknown = unknown.unwrap_err();
    assert!(unknown.to_string().contains("`other`"), "{unknown}");
    assert_eq!(unknown.code(), Code::InvalidRequest);
    server.stop().await.0.unwrap();
}

/// Serves one bundle by an engine; the code it is refused with.
async fn refusal(policy: Policy) -> Code {
    let dir = tempfile::tempdir().unwrap();
    let bundle = dir.path().join("bundle");
    write_bundle(&bundle, "m", 1, &[]);
    let mut settings = Settings::new(launch("serve"), dir.path().join("work"));
    let file = dir.path().join("child");
    let child = ["--child", file.to_str().unwrap()];
    settings.launch.engines = Engines::from_toml(&declared("oip", "{socket}", &child, "")).unwrap();
    settings.engine = Some("e".to_owned());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = bms_server::Place::Bundle(bundle);
    let shutdown = tokio::time::sleep(Duration::from_secs(60));
    let refused = bms_server::serve_one(settings, place, policy, listener, shutdown).await.unwrap_err();
    assert!(!file.exists(), "the engine was never started");
    refused.code()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gate_is_in_front_of_every_engine() {
    let key = bms_bundle::SigningKey::generate();
    assert_eq!(refusal(Policy::trusting(key.public(), "us")).await, Code::SignatureMissing);
    // Formats that only confined processes may read are not for engines, which are not confined.
    assert_eq!(refusal(Policy::development()).await, Code::FormatDenied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_elsewhere_is_refused_at_once_while_it_is_down() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    std::fs::write(&key, "s3cret\n").unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let engines = format!(
        "schema = 1\n[engines.e]\nprotocol = \"openai\"\nurl = \"http://127.0.0.1:{port}\"\nserves = \"m\"\n\
         key_file = {key:?}\n"
    );
    let engines = Engines::from_toml(&engines).unwrap();
    let server = Server::with_registry(|settings| settings.launch.engines = engines).await;
    let body = json!({ "model": "m" }).to_string();
    let ask = async || server.connect().await.send("POST", "/v1/chat/completions", &body).await;
    let down = async || {
        let began = Instant::now();
        let (status, answer) = ask().await;
        assert_eq!(status, 503, "{answer}");
        assert!(began.elapsed() < SOON / 4, "{:?}", began.elapsed());
    };
    down().await;
    let mut engine = stand_in_engine::alone(port);
    ready(&server).await;
    let (status, answer) = ask().await;
    assert_eq!((status, &answer["model"]), (200, &json!("m")), "{answer}");
    let shown = slot(&server).await;
    assert_eq!((&shown["version"], &shown["pid"]), (&json!(0), &Value::Null), "{shown}");
    engine.kill().unwrap();
    engine.wait().unwrap();
    let shown = until_slot(&server, |slot| slot["state"] == "restarting").await;
    assert_eq!(shown["last_restart"]["reason"], "unhealthy", "{shown}");
    down().await;
    let mut engine = stand_in_engine::alone(port);
    ready(&server).await;
    assert_eq!(ask().await.0, 200);
    let audit = server.get("/api/v1/audit").await.1.to_string();
    assert!(audit.contains("engine.unverified"), "{audit}");
    // The name is taken.
    server.publish(1, &["production"], &[]).await.unwrap();
    let taken = server.client(|client| client.deploy("m", "production")).await.unwrap_err();
    assert_eq!(taken.code(), Code::Conflict);
    engine.kill().unwrap();
    engine.wait().unwrap();
    server.stop().await.0.unwrap();
}

/// Waits until something is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < SOON, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn number_in(file: &std::path::Path) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_an_engine_outlives_a_server_that_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = dir.path().join("bundle");
    write_bundle(&bundle, "m", 1, &[]);
    let (file, engines) = (dir.path().join("child"), dir.path().join("engines.toml"));
    let child = ["--child", file.to_str().unwrap()];
    std::fs::write(&engines, declared("oip", "{socket}", &child, "")).unwrap();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let paths = (bundle.to_str().unwrap(), engines.to_str().unwrap());
    let mut server = stand_in_engine::server_process(paths.0, paths.1, &address.to_string());
    let began = Instant::now();
    while tokio::net::TcpStream::connect(address).await.is_err() {
        assert!(began.elapsed() < SOON, "the server listens");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut connection = Connection::open(address).await;
    let answer = connection.raw("POST", "/v2/models/m/infer", Bytes::from("{}"), &[]).await;
    let answer: Value = serde_json::from_slice(answer.body()).unwrap();
    let pid = answer["pid"].as_u64().unwrap_or_else(|| panic!("{answer}"));
    let child = number_in(&file).unwrap();
    assert!(is_running(pid) && is_running(child));
    // Its keeper is its parent. When that is killed alone, the engine goes and another takes its place.
    let keeper = parent(pid).unwrap();
    signal(keeper, Signal::KILL);
    until("the engine goes with its keeper", || !is_running(pid)).await;
    let answer = connection.raw("POST", "/v2/models/m/infer", Bytes::from("{}"), &[]).await;
    let answer: Value = serde_json::from_slice(answer.body()).unwrap();
    let (pid, child) = (answer["pid"].as_u64().unwrap(), number_in(&file).unwrap());
    server.kill().unwrap();
    server.wait().unwrap();
    until("the engine goes with the server", || !is_running(pid)).await;
    until("so does what it started", || !is_running(child)).await;
}

fn parent(pid: u64) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}
