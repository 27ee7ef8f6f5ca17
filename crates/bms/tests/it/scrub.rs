//! A server that looks after its store while it runs.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bms_store::Digest;
use bms_wire::api::AuditEvent;

use crate::program::{Server, bms, fails, shared};
use crate::store::{bundle, copy_folder, push, words};

/// Long enough for any machine: what is waited for comes within seconds.
const PATIENCE: Duration = Duration::from_secs(300);

/// Rounds that found everything whole, or made it so.
const HEALTHY: &str = "bms_store_scrubs_total{result=\"healthy\"}";

/// The text of `/metrics`.
fn metrics(server: &Server) -> String {
    let address = server.client.base().trim_start_matches("http://").to_owned();
    let mut connection = TcpStream::connect(&address).unwrap();
    write!(connection, "GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n").unwrap();
    let mut text = String::new();
    connection.read_to_string(&mut text).unwrap();
    text
}

/// Waits until one of the server's metrics is above zero.
#[track_caller]
fn wait_for(server: &Server, metric: &str) {
    let begin = Instant::now();
    loop {
        let shown = metrics(server);
        let value = shown.lines().find_map(|line| line.strip_prefix(metric)?.trim().parse::<f64>().ok());
        if value.is_some_and(|value| 0.0 < value) {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "{metric} does not rise:\n{shown}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn corruptions(server: &Server) -> Vec<AuditEvent> {
    let mut events = server.client.audit(0).unwrap();
    events.retain(|event| event.action == "store.corrupt");
    events
}

fn largest_pack(store: &Path) -> PathBuf {
    let packs = std::fs::read_dir(store.join("packs")).unwrap();
    packs.map(|pack| pack.unwrap().path()).max_by_key(|pack| pack.metadata().unwrap().len()).unwrap()
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn rot_under_a_running_server_is_found_said_and_repaired() {
    let shared = shared();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (store, copy) = (data.join("store"), dir.path().join("copy"));
    let up = ["up", "--data", data.to_str().unwrap()];
    let server = Server::start(&shared.home(), &up);
    let made = bundle(shared, dir.path(), "made", &words(200_000));
    push(shared, &made, server.client.base());
    let version = server.client.models().unwrap()[0].versions[0].clone();
    drop(server);
    copy_folder(&store, &copy);

    // Without another store it can only be said.
    let often = [&up[..], &["--scrub-every", "1s", "--scrub-rate", "0"]].concat();
    let server = Server::start(&shared.home(), &often);
    wait_for(&server, HEALTHY);
    assert_eq!(corruptions(&server), []);
    flip(&largest_pack(&store));
    wait_for(&server, "bms_store_damaged_files");
    let event = corruptions(&server).remove(0);
    assert_eq!((event.details["problems"].as_u64(), event.details["repaired"].as_u64()), (Some(1), Some(0)));
    assert_eq!(event.details["files_damaged"].as_array().map(Vec::len), Some(1), "{event:?}");
    drop(server);

    let from = [&often[..], &["--scrub-from", copy.to_str().unwrap()]].concat();
    let server = Server::start(&shared.home(), &from);
    wait_for(&server, HEALTHY);
    let event = corruptions(&server).pop().unwrap();
    assert!(0 < event.details["repaired"].as_u64().unwrap(), "{event:?}");
    assert_eq!(event.details["problems"], event.details["repaired"]);
    let shown = metrics(&server);
    assert!(shown.contains("bms_store_problems_total{repaired=\"true\"}"), "{shown}");
    for file in &server.client.version(&version.model, &version.version.to_string()).unwrap().files {
        let mut content = Vec::new();
        server.client.get_blob(&file.blake3).unwrap().read_to_end(&mut content).unwrap();
        assert_eq!(Digest::of(&content).to_string(), file.blake3, "{}", file.path);
    }
    server.client.verify_audit().unwrap();
}

#[test]
fn an_interval_is_hours_or_has_a_unit() {
    let shared = shared();
    for wrong in ["", "s", "-1", "1.5", "3d", "9000h", "99999999999999999999"] {
        let (code, _) = fails(bms(&shared.home()).args(["up", &format!("--scrub-every={wrong}")]));
        assert_eq!(code, 2, "{wrong:?}");
    }
}

#[test]
fn servers_that_begin_at_once_in_a_new_home_share_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let places: Vec<_> = (0..4).map(|n| dir.path().join(format!("data-{n}"))).collect();
    std::thread::scope(|scope| {
        for place in &places {
            scope.spawn(|| drop(Server::start(&home, &["up", "--data", place.to_str().unwrap()])));
        }
    });
    let mut left: Vec<_> =
        std::fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["audit-key.pem", "policy.toml", "signing-key.pem"]);
}
