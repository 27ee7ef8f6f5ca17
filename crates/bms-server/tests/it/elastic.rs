//! Slots that come with the load and go without it, within the memory there is.

use std::collections::BTreeSet;
use std::time::Duration;

use bms_wire::Code;
use bms_wire::api::{ChangeScale, SetDeployment, SlotNeeds};
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Connection, Server, code, signal};
use crate::lost::Load;

fn scale(min: u32, max: u32) -> ChangeScale {
    let targets = ChangeScale { target_concurrency: Some(2.0), ..ChangeScale::default() };
    ChangeScale { min_slots: Some(min), max_slots: Some(max), idle_seconds: Some(1), ..targets }
}

/// A server of model `m` with so many slots.
async fn serving(min: u32, max: u32) -> Server {
    let server = Server::with_registry(|_| {}).await;
    server.deploy_model("m", scale(min, max)).await;
    server.until("/v2/models/m/ready", |status, _| status == 200).await;
    server
}

async fn until_ready(server: &Server, slots: usize) -> Vec<u64> {
    let ready = |slot: &&Value| slot["state"] == "ready";
    let body = server
        .until("/api/v1/slots", |_, all| {
            let all = all.as_array().unwrap();
            all.len() == slots && all.iter().filter(ready).count() == slots
        })
        .await;
    body.as_array().unwrap().iter().map(|slot| slot["pid"].as_u64().unwrap()).collect()
}

async fn number(server: &Server, line: &str) -> f64 {
    let metrics = server.metrics().await;
    let found = metrics.lines().find_map(|text| text.strip_prefix(line)?.trim().parse().ok());
    found.unwrap_or(0.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_brings_slots_up_to_the_most_and_they_go_without_it() {
    let server = serving(0, 3).await;
    let load = Load::on(&server, 12, r#"{"sleep_ms": 30}"#);
    until_ready(&server, 3).await;
    let all_answer = |_: u16, slots: &Value| {
        slots.as_array().unwrap().iter().all(|slot| 20 < slot["requests"].as_u64().unwrap())
    };
    server.until("/api/v1/slots", all_answer).await;
    let answers = load.end().await;
    let processes: BTreeSet<u64> = answers.iter().flatten().map(|(pid, _)| *pid).collect();
    assert_eq!(processes.len(), 3, "all of them answered");
    server.until("/api/v1/slots", |_, slots| slots.as_array().unwrap().is_empty()).await;
    assert!(2.0 <= number(&server, r#"bms_scalings_total{model="m",way="up"}"#).await);
    let deployments = server.get("/api/v1/deployments").await.1;
    assert_eq!(
        (&deployments[0]["scale"]["max_slots"], &deployments[0]["scale"]["min_slots"]),
        (&3.into(), &0.into())
    );
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_one_of_two_slots_loses_no_request_and_the_other_answers_at_once() {
    let server = serving(2, 2).await;
    let pids = until_ready(&server, 2).await;
    let mut connection = server.connect().await;
    let held = tokio::spawn({
        let (address, gate) = (server.address, server.dir.path().join("gate"));
        async move {
            let body = serde_json::json!({ "wait_for": gate }).to_string();
            Connection::open(address).await.send("POST", "/v2/models/m/infer", &body).await
        }
    });
    server.until_in_flight(1).await;
    let load = Load::on(&server, 8, r#"{"sleep_ms": 5}"#);
    load.more(50).await;
    for pid in pids {
        signal(pid, Signal::KILL);
        load.more(100).await;
        // The one that held it is among those killed; it was asked again elsewhere.
        until_ready(&server, 2).await;
    }
    std::fs::write(server.dir.path().join("gate"), "").unwrap();
    assert_eq!(held.await.unwrap().0, 200);
    let answers = load.end().await;
    let processes: BTreeSet<u64> = answers.iter().flatten().map(|(pid, _)| *pid).collect();
    assert!(3 <= processes.len(), "{processes:?}");
    assert_eq!(connection.send("POST", "/v2/models/m/infer", "{}").await.0, 200);
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_nobody_asks_goes_and_a_storm_of_first_requests_wakes_one_slot() {
    let server = serving(0, 1).await;
    server.until("/api/v1/slots", |_, slots| slots.as_array().unwrap().is_empty()).await;
    assert_eq!(server.get("/v2/models/m/ready").await.0, 200, "it can take requests");
    assert_eq!(server.get("/v2/models/m/progress").await.0, 200);
    let index = server.connect().await.send("POST", "/v2/repository/index", "").await.1;
    assert_eq!(index[0]["state"], "READY", "{index}");
    let storm = (0..40).map(|_| {
        let address = server.address;
        tokio::spawn(
            async move { Connection::open(address).await.send("POST", "/v2/models/m/infer", "{}").await },
        )
    });
    let mut processes = BTreeSet::new();
    for request in storm.collect::<Vec<_>>() {
        let (status, answer) = request.await.unwrap();
        assert_eq!(status, 200, "{answer}");
        processes.insert(answer["pid"].as_u64().unwrap());
    }
    assert_eq!(processes.len(), 1);
    assert_eq!(number(&server, r#"bms_model_wake_seconds_count{model="m"}"#).await, 1.0);
    eprintln!("woken in {} s", number(&server, r#"bms_model_wake_seconds_sum{model="m"}"#).await);
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_the_budget_the_idle_model_gives_way_and_one_that_stays_does_not() {
    // A version that was never started is expected to take 64 MiB and its files: there is room for one such, beside
    // none that runs.
    let server = Server::with_registry(|settings| settings.memory = Some(66 << 20)).await;
    let sleepy = ChangeScale { idle_seconds: Some(600), ..scale(0, 1) };
    server.deploy_model("a", sleepy).await;
    until_ready(&server, 1).await;
    let ask = async |model: &str| {
        server.connect().await.send("POST", &format!("/v2/models/{model}/infer"), "{}").await
    };
    assert_eq!(ask("a").await.0, 200);
    // It is idle: it goes for the other one, which stays.
    server.deploy_model("b", scale(1, 1)).await;
    let only_b = |_: u16, slots: &Value| {
        let slots = slots.as_array().unwrap();
        slots.len() == 1 && slots[0]["model"] == "b" && slots[0]["state"] == "ready"
    };
    server.until("/api/v1/slots", only_b).await;
    let memory = server.get("/api/v1/memory").await.1;
    assert_eq!(memory["budget_bytes"], 66 << 20);
    assert!((1..66 << 20).contains(&memory["used_bytes"].as_u64().unwrap()), "{memory}");
    // A third one that was never measured does not fit beside what stays, and is told so.
    server.deploy_model("c", scale(1, 1)).await;
    let told = |_: u16, all: &Value| all[2]["problem"].as_str().is_some_and(|why| why.contains("no memory"));
    server.until("/api/v1/deployments", told).await;
    let response = server.connect().await.raw("POST", "/v2/models/c/infer", "{}", &[]).await;
    let body: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!((response.status().as_u16(), code(&body)), (503, Some(Code::Unavailable)), "{body}");
    assert!(response.headers().contains_key("retry-after"));
    assert_eq!(server.get("/v2/models/c/ready").await.0, 503);
    assert_eq!(ask("b").await.0, 200, "who is served is not disturbed");
    assert_eq!(number(&server, r#"bms_slots_without_room_total{model="c"}"#).await, 1.0);
    // What slots take is known of the first: it fits beside the one that stays, once somebody asks.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(ask("a").await.0, 200);
    server.stop().await.0.unwrap();
}

/// The number of threads its command line says.
fn threads(pid: u64) -> Option<String> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    let mut arguments = line.split(|byte| *byte == 0);
    arguments.find(|argument| *argument == b"--threads")?;
    Some(String::from_utf8_lossy(arguments.next()?).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_with_other_threads_take_over_and_memory_that_is_asked_for_is_kept() {
    let server = Server::with_registry(|settings| settings.memory = Some(1 << 30)).await;
    server.deploy_model("m", scale(1, 1)).await;
    let before = until_ready(&server, 1).await[0];
    assert_eq!(threads(before), None);
    let load = Load::on(&server, 4, r#"{"sleep_ms": 5}"#);
    load.more(20).await;
    let needing = async |cores: u64, memory: u64, scale: ChangeScale| {
        let needs = SlotNeeds { cores: Some(cores), memory_bytes: Some(memory) };
        let set = SetDeployment { needs: Some(needs), scale: Some(scale), ..SetDeployment::of("production") };
        server.client(move |client| client.set_deployment("m", &set)).await
    };
    needing(3, 0, scale(1, 1)).await.unwrap();
    let other = |_: u16, slots: &Value| {
        let slots = slots.as_array().unwrap();
        slots.len() == 1 && slots[0]["state"] == "ready" && slots[0]["pid"] != before
    };
    let slots = server.until("/api/v1/slots", other).await;
    assert_eq!(threads(slots[0]["pid"].as_u64().unwrap()).as_deref(), Some("3"));
    load.more(20).await;
    load.end().await;
    // Of what is kept for each, two are more than there is; the first one stays.
    needing(3, 600 << 20, scale(2, 2)).await.unwrap();
    let told =
        |_: u16, all: &Value| all[0]["problem"].as_str().is_some_and(|why| why.contains("about 600 MiB"));
    let all = server.until("/api/v1/deployments", told).await;
    assert_eq!(all[0]["needs"], serde_json::json!({ "cores": 3, "memory_bytes": 600 << 20 }));
    assert_eq!(server.get("/api/v1/slots").await.1[0]["pid"], slots[0]["pid"]);
    needing(3, 0, scale(2, 2)).await.unwrap();
    until_ready(&server, 2).await;
    assert_eq!(needing(5000, 0, scale(1, 1)).await.unwrap_err().code(), Code::InvalidRequest);
    server.stop().await.0.unwrap();
}
