//! Starting again: without the centre, with a broken disk, twice, and stopping.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bms_wire::Code;

use crate::agent::{Agent, WAIT, labels, settings};
use crate::bundles::{easy, made, question};
use crate::updates::Scene;

#[test]
fn after_a_restart_without_the_centre_the_last_version_answers() {
    let Scene { key, mut centre, dir, agent, .. } = Scene::new();
    centre.deploy(2, &made(Some(&key), "small", 30.0));
    agent.wait_for_version(2);
    agent.stop().unwrap();
    centre.stop();
    let agent = Agent::start(settings(&centre.url(), dir.path(), &key));
    let status = agent.wait_for_version(2);
    assert!(!status.centre_reachable);
    assert_eq!(labels(&agent.ask(&[easy(0), easy(1)]).unwrap()), ["a", "b"]);
    assert_eq!(agent.status().offline_answers, 1);
}

#[test]
fn a_version_that_rotted_on_disk_gives_way_to_the_one_before_until_it_is_fetched_again() {
    let Scene { key, mut centre, dir, agent, .. } = Scene::new();
    let second = made(Some(&key), "small", 30.0);
    centre.deploy(2, &second);
    agent.wait_for_version(2);
    agent.stop().unwrap();
    centre.stop();
    let rotted = ["a", "b"].iter().map(|slot| dir.path().join("slots").join(slot)).find(|slot| {
        blake3::hash(&fs::read(slot.join("bundle.json")).unwrap()).to_hex().to_string() == second.digest
    });
    let model = rotted.unwrap().join("model.onnx");
    let mut bytes = fs::read(&model).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&model, bytes).unwrap();

    let agent = Agent::start(settings(&centre.url(), dir.path(), &key));
    let status = agent.wait_for_version(1);
    assert!(status.problem.unwrap().contains("version 2 does not run here (tampered)"));
    assert_eq!(labels(&agent.ask(&[easy(0)]).unwrap()), ["a"]);
    centre.start_again();
    agent.wait_for_version(2);
    agent.wait("no problem", |status| status.problem.is_none());
}

#[test]
fn a_node_that_never_had_a_version_says_so() {
    let Scene { key, mut centre, agent, .. } = Scene::new();
    drop(agent);
    centre.stop();
    let dir = tempfile::tempdir().unwrap();
    let agent = Agent::start(settings(&centre.url(), dir.path(), &key));
    let status = agent.status();
    assert_eq!((status.version, status.centre_reachable), (None, false));
    assert!(!agent.client.is_ready());
    let refused = agent.ask(&[easy(0)]).unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("`small` has no version here yet"), "{refused}");
    // Once the centre is there, it is a node like any other.
    centre.start_again();
    agent.wait_for_version(1);
}

#[test]
fn two_agents_do_not_share_a_folder_and_none_listens_to_the_world() {
    let scene = Scene::new();
    let second = Agent::start(settings(&scene.centre.url(), scene.dir.path(), &scene.key));
    assert_eq!(second.stop().unwrap_err().code(), Code::Conflict);
    let dir = tempfile::tempdir().unwrap();
    let mut open = settings(&scene.centre.url(), dir.path(), &scene.key);
    open.listen = "0.0.0.0:0".parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let refused = runtime.block_on(bms_edge::run(open, std::future::pending())).unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let scene = Scene::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let refused = |change: fn(&mut bms_edge::Settings)| {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = settings(&scene.centre.url(), dir.path(), &scene.key);
        settings.listen.set_port(0);
        change(&mut settings);
        runtime.block_on(bms_edge::run(settings, std::future::pending())).unwrap_err()
    };
    assert!(refused(|s| s.node = "Node 1".to_owned()).message().contains("`Node 1` is not a node name"));
    assert!(refused(|s| s.model = "../m".to_owned()).message().contains("`../m` is not a model name"));
    assert!(refused(|s| s.confidence_threshold = f32::NAN).message().contains("threshold"));
    assert!(refused(|s| s.report_every = Duration::ZERO).message().contains("reports"));
    assert!(refused(|s| s.outbox_bytes_max = 1).message().contains("outbox"));
    assert!(refused(|s| s.centre = "centre:80".to_owned()).message().contains("`centre:80`"));
}

#[test]
fn a_request_under_way_is_answered_before_the_end() {
    let Scene { mut agent, .. } = Scene::new();
    let body = serde_json::to_vec(&question(&[easy(0)])).unwrap();
    let mut stream = TcpStream::connect(agent.address).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    write!(
        stream,
        "POST /v2/models/small/infer HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .unwrap();
    stream.write_all(&body[..10]).unwrap();
    // The request has begun once the agent took it from the socket.
    std::thread::sleep(Duration::from_millis(200));
    agent.begin_shutdown();
    std::thread::sleep(Duration::from_millis(200));
    assert!(TcpStream::connect(agent.address).is_err(), "no new connections");
    stream.write_all(&body[10..]).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    agent.stop().unwrap();
}

#[test]
fn an_idle_connection_does_not_hold_up_the_end() {
    let Scene { agent, .. } = Scene::new();
    let idle = TcpStream::connect(agent.address).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let started = std::time::Instant::now();
    agent.stop().unwrap();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    drop(idle);
}
