//! Rollouts on real servers: what is good is promoted, what is bad goes back, and no caller notices either.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bms_wire::Code;
use bms_wire::api::{NewRollout, Rollout, RolloutOrder, RolloutPlan, RolloutState};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{SOON, Server, code, real_launch, signal};
use crate::lost::Load;
use crate::stand_in::{FAILING_FILE, REFUSED_FILE, SLOW_FILE};

/// How long a rollout of these tests may take on a machine that is busy with other things.
const ENDS_WITHIN: Duration = Duration::from_secs(120);
const BODY: &str = r#"{"sleep_ms": 2}"#;

/// Steps of a second that need little evidence. All requests of these tests are the same, so none is kept on a side.
fn quick() -> RolloutPlan {
    RolloutPlan {
        steps: vec![20.0, 60.0, 100.0],
        step_seconds: 1,
        min_requests: 30,
        sticky: "none".into(),
        max_error_increase: 0.1,
        max_latency_increase: 20.0,
        ..RolloutPlan::default()
    }
}

async fn begin(server: &Server, plan: RolloutPlan) -> Rollout {
    let new = NewRollout { candidate: "latest".into(), require: None, plan };
    server.client(move |client| client.begin_rollout("m", &new)).await.unwrap()
}

async fn order(server: &Server, order: RolloutOrder) -> Rollout {
    server.client(move |client| client.order_rollout("m", order)).await.unwrap()
}

async fn until(server: &Server, state: RolloutState) -> Rollout {
    let began = Instant::now();
    loop {
        let rollout = server.client(|client| client.rollout("m")).await.unwrap();
        if rollout.state == state {
            return rollout;
        }
        assert!(!rollout.state.is_over(), "{rollout:?}");
        assert!(began.elapsed() < ENDS_WITHIN, "{rollout:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A server whose version 1 is deployed and ready.
async fn deployed() -> Server {
    let server = Server::with_registry(|_| {}).await;
    server.publish(1, &["production"], &[]).await.unwrap();
    server.client(|client| client.deploy("m", "production")).await.unwrap();
    server.until("/v2/models/m/ready", |status, _| status == 200).await;
    server
}

fn versions(answers: &[Vec<(u64, u64)>]) -> HashMap<u64, usize> {
    let mut versions = HashMap::new();
    for (_, version) in answers.iter().flatten() {
        *versions.entry(*version).or_default() += 1;
    }
    versions
}

async fn serves(server: &Server) -> u64 {
    server.client(|client| client.version("m", "production")).await.unwrap().version
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_version_takes_over_step_by_step_and_goes_back_at_once() {
    let server = deployed().await;
    let load = Load::on(&server, 8, BODY);
    load.more(50).await;
    let old = server.infer("{}").await.1["pid"].clone();
    server.publish(2, &[], &[]).await.unwrap();
    begin(&server, quick()).await;
    let meanwhile = server.client(|client| client.deploy("m", "other")).await;
    assert!(meanwhile.is_err());
    let ended = until(&server, RolloutState::Promoted).await;
    assert_eq!((serves(&server).await, ended.step), (2, 1), "{ended:?}");
    let began = Instant::now();
    while server.infer("{}").await.1["version"] != 2 {
        assert!(began.elapsed() < SOON);
    }
    // The old version is still there, and takes over again at once.
    let back = server.client(|client| client.roll_back("m")).await.unwrap();
    assert_eq!((back.version, back.from), (1, 2));
    while server.infer("{}").await.1["version"] != 1 {
        assert!(began.elapsed() < SOON);
    }
    assert_eq!(server.infer("{}").await.1["pid"], old, "it never went away");
    let answers = load.end().await;
    let versions = versions(&answers);
    assert!(60 < versions[&1] && 60 < versions[&2], "{versions:?}");
    let events = server.get("/api/v1/audit?limit=1000").await.1;
    let said = |action: &str| events.as_array().unwrap().iter().filter(|e| e["action"] == action).count();
    assert_eq!(
        (said("rollout.begun"), said("rollout.step"), said("rollout.promoted")),
        (1, 2, 1),
        "{events}"
    );
    let metrics = server.metrics().await;
    assert!(metrics.contains(r#"bms_requests_total{code="200",model="m",version="2"}"#), "{metrics}");
    assert!(metrics.contains(r#"bms_request_duration_seconds_count{model="m",version="2"}"#), "{metrics}");
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_fails_goes_back_and_no_caller_notices() {
    let server = deployed().await;
    let load = Load::on(&server, 8, BODY);
    server.publish(2, &[], &[FAILING_FILE]).await.unwrap();
    // Nothing was kept for its warm-up of a model that nobody has asked; here somebody has, and it fails at that.
    load.more(20).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    begin(&server, quick()).await;
    let ended = until(&server, RolloutState::RolledBack).await;
    assert!(ended.reason.contains("warmed up"), "{ended:?}");
    // All of them answered with 200, or the load would have ended.
    let versions = versions(&load.end().await);
    assert!(!versions.contains_key(&2), "{versions:?}");
    assert_eq!(serves(&server).await, 1);
    server.until("/api/v1/slots", |_, slots| slots.as_array().unwrap().len() == 1).await;
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_dies_of_requests_goes_back_and_no_caller_notices() {
    let server = deployed().await;
    server.publish(2, &[], &[]).await.unwrap();
    let load = Load::on(&server, 8, BODY);
    load.more(50).await;
    begin(&server, RolloutPlan { step_seconds: 600, max_error_increase: 0.01, ..quick() }).await;
    until(&server, RolloutState::Running).await;
    let began = Instant::now();
    while server.client(|client| client.rollout("m")).await.unwrap().state == RolloutState::Running {
        let slots = server.get("/api/v1/slots").await.1;
        let of = |slot: &&Value| slot["version"] == 2 && slot["state"] == "ready";
        if let Some(pid) = slots.as_array().unwrap().iter().find(of).and_then(|slot| slot["pid"].as_u64()) {
            signal(pid, Signal::KILL);
        }
        assert!(began.elapsed() < ENDS_WITHIN);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let ended = until(&server, RolloutState::RolledBack).await;
    assert!(ended.reason.contains("errors") || ended.reason.contains("does not start"), "{ended:?}");
    load.more(50).await;
    load.end().await;
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_version_goes_back() {
    let server = deployed().await;
    server.publish(2, &[], &[SLOW_FILE]).await.unwrap();
    let load = Load::on(&server, 8, BODY);
    load.more(50).await;
    let plan = RolloutPlan { steps: vec![40.0, 100.0], max_latency_increase: 0.5, ..quick() };
    begin(&server, plan).await;
    let ended = until(&server, RolloutState::RolledBack).await;
    assert!(ended.reason.contains(" ms, against"), "{ended:?}");
    assert!(ended.stable_side.p95_ms < ended.candidate_side.p95_ms, "{ended:?}");
    load.end().await;
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_is_refused_goes_back() {
    let server = deployed().await;
    server.publish(2, &[], &[REFUSED_FILE]).await.unwrap();
    begin(&server, quick()).await;
    let ended = until(&server, RolloutState::RolledBack).await;
    assert!(ended.reason.contains("the bytes differ"), "{ended:?}");
    assert_eq!(server.infer("{}").await.0, 200);
    server.stop().await.0.unwrap();
}

fn tensors() -> String {
    json!({ "inputs": [{ "name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0] }] })
        .to_string()
}

/// A server of real models, whose version 1 adds one to `x`.
async fn real() -> Server {
    let server = Server::with_registry(|settings| settings.launch = real_launch()).await;
    server.publish_adding(1, "x", 1.0, &["production"]).await;
    server.client(|client| client.deploy("m", "production")).await.unwrap();
    server.until("/v2/models/m/ready", |status, _| status == 200).await;
    server
}

fn load(server: &Server) -> Load {
    Load::of_answers(server, 4, tensors(), |answer| {
        let sum = answer["outputs"][0]["data"][0].as_f64().unwrap();
        assert_eq!(sum, 2.0, "what is only compared is never the answer: {answer}");
        (0, answer["model_version"].as_str().unwrap().parse().unwrap())
    })
}

/// Copies for the candidate until its answers are known, then all at once.
fn shadow() -> RolloutPlan {
    RolloutPlan { steps: vec![0.0, 100.0], shadow_percent: 100.0, min_requests: 60, ..quick() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_answers_show_in_the_shadow_and_right_ones_lead_on() {
    let server = real().await;
    let load = load(&server);
    load.more(20).await;
    server.publish_adding(2, "x", 1.5, &[]).await;
    begin(&server, shadow()).await;
    let ended = until(&server, RolloutState::RolledBack).await;
    assert!(ended.reason.starts_with("0 of ") && ended.reason.ends_with("answers agree"), "{ended:?}");
    assert!(20 <= ended.shadow.compared && ended.candidate_side.requests == 0, "{ended:?}");
    // Nearly the same is the same.
    server.publish_adding(3, "x", 1.0001, &[]).await;
    let plan = RolloutPlan { steps: vec![0.0], automatic: false, ..shadow() };
    begin(&server, plan).await;
    let began = Instant::now();
    loop {
        let rollout = server.client(|client| client.rollout("m")).await.unwrap();
        assert_eq!(rollout.shadow.agreed, rollout.shadow.compared, "{rollout:?}");
        if 100 <= rollout.shadow.compared {
            break;
        }
        assert!(began.elapsed() < ENDS_WITHIN, "{rollout:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let answers = load.end().await;
    assert!(answers.iter().flatten().all(|(_, version)| *version == 1));
    order(&server, RolloutOrder::Promote).await;
    assert_eq!(serves(&server).await, 3);
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_does_not_take_what_callers_send_goes_back() {
    let server = real().await;
    let load = load(&server);
    server.publish_adding(2, "z", 1.0, &[]).await;
    load.more(20).await;
    begin(&server, RolloutPlan { steps: vec![50.0, 100.0], ..quick() }).await;
    let ended = until(&server, RolloutState::RolledBack).await;
    assert!(ended.reason.starts_with("errors "), "{ended:?}");
    load.more(20).await;
    load.end().await;
    let metrics = server.metrics().await;
    assert!(metrics.contains(r#"bms_candidate_failures_total{model="m",version="2"}"#), "{metrics}");
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_stay_on_their_side_over_a_restart_and_orders_are_obeyed() {
    let server = deployed().await;
    server.infer("{}").await;
    server.publish(2, &[], &[]).await.unwrap();
    let plan = RolloutPlan { steps: vec![30.0], automatic: false, sticky: "caller".into(), ..quick() };
    begin(&server, plan).await;
    until(&server, RolloutState::Running).await;
    let before = sides(&server).await;
    let candidates = before.values().filter(|version| **version == 2).count();
    assert!((5..35).contains(&candidates), "{before:?}");
    assert_eq!(sides(&server).await, before);
    order(&server, RolloutOrder::Pause).await;
    let (ended, dir) = server.begin_stop();
    ended.await.unwrap().unwrap();
    let server = Server::again(dir).await;
    let both = |_: u16, slots: &Value| {
        slots.as_array().unwrap().iter().filter(|slot| slot["state"] == "ready").count() == 2
    };
    server.until("/api/v1/slots", both).await;
    assert_eq!(sides(&server).await, before, "another server goes on where the first ended");
    assert_eq!(order(&server, RolloutOrder::Resume).await.state, RolloutState::Running);
    let twice = server.client(|client| client.order_rollout("m", RolloutOrder::Resume)).await.unwrap_err();
    assert_eq!(twice.code(), Code::Conflict);
    let (status, body) = server.connect().await.send("POST", "/api/v1/rollouts/m/dance", "{}").await;
    assert_eq!((status, code(&body)), (404, Some(Code::NotFound)));
    assert_eq!(order(&server, RolloutOrder::Abort).await.state, RolloutState::Aborted);
    server.until("/api/v1/slots", |_, slots| slots.as_array().unwrap().len() == 1).await;
    assert!(sides(&server).await.values().all(|version| *version == 1));
    server.stop().await.0.unwrap();
}

/// Which version answers each of 50 callers.
async fn sides(server: &Server) -> HashMap<u64, u64> {
    let mut connection = server.connect().await;
    let mut sides = HashMap::new();
    for caller in 0..50 {
        let headers = [("x-api-key", format!("caller-{caller}"))];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        let response = connection.raw("POST", "/v2/models/m/infer", BODY, &headers).await;
        let answer: Value = serde_json::from_slice(response.body()).unwrap();
        sides.insert(caller, answer["version"].as_u64().unwrap());
    }
    sides
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_is_warm_before_it_takes_traffic() {
    let server = deployed().await;
    assert_eq!(server.infer(BODY).await.0, 200);
    server.publish(2, &[], &[]).await.unwrap();
    begin(&server, RolloutPlan { steps: vec![0.0], automatic: false, ..quick() }).await;
    until(&server, RolloutState::Running).await;
    let slots = server.get("/api/v1/slots").await.1;
    let candidate = slots.as_array().unwrap().iter().find(|slot| slot["version"] == 2).unwrap();
    assert_eq!(candidate["requests"], 1, "{slots}");
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_replica_goes_on_when_the_leader_has_gone() {
    let first = deployed().await;
    first.publish(2, &[], &[]).await.unwrap();
    let plan = RolloutPlan { steps: vec![30.0, 100.0], min_requests: 60, ..quick() };
    begin(&first, plan).await;
    // It is alone, so it leads.
    until(&first, RolloutState::Running).await;
    let second = first.beside().await;
    second.until("/v2/models/m/ready", |status, _| status == 200).await;
    let load = Load::on(&first, 4, BODY);
    load.more(20).await;
    let answers: u64 = load.end().await.iter().map(|answers| answers.len() as u64).sum();
    // What one counts the other sees.
    let began = Instant::now();
    loop {
        let seen = second.client(|client| client.rollout("m")).await.unwrap();
        if seen.stable_side.requests + seen.candidate_side.requests == answers {
            break;
        }
        assert!(began.elapsed() < SOON, "{answers}: {seen:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (ended, dir) = first.begin_stop();
    ended.await.unwrap().unwrap();
    let load = Load::on(&second, 4, BODY);
    until(&second, RolloutState::Promoted).await;
    load.more(20).await;
    let versions = versions(&load.end().await);
    assert!(versions.contains_key(&2), "{versions:?}");
    second.stop().await.0.unwrap();
    drop(dir);
}
