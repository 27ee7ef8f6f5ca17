//! Servers whose files lie in a bucket of a real S3 server: one, and several on one database.

use std::io::Read as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bms_store::Digest;
use bms_wire::client::Client;
use bms_wire::oip::InferResponse;
use serde_json::Value;

use crate::program::{Server, Shared, bms, ok, ok_unless, shared, zeros};
use crate::store::{bundle, words};

/// A place of its own in the bucket; `None` when there is no server, which in CI is a failure.
fn place(test: &str) -> Option<String> {
    let Ok(base) = std::env::var("BMS_TEST_S3") else {
        assert!(std::env::var_os("CI").is_none(), "BMS_TEST_S3 is not set: the tests on S3 cannot run");
        eprintln!(
            "SKIPPED: no S3 server; `cargo xtask services start`, then `eval \"$(cargo xtask services env)\"`"
        );
        return None;
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    Some(format!("{base}/{test}-{}-{now}", std::process::id()))
}

/// Pushes until it is acknowledged: whoever collects garbage at once may take what is on its way.
fn push(shared: &Shared, bundle: &Path, server: &str, arguments: &[&str]) -> (String, u64) {
    for _ in 0..200 {
        let mut push = bms(&shared.home());
        let output =
            push.arg("push").arg(bundle).args(["--server", server]).args(arguments).output().unwrap();
        if output.status.success() {
            let text = String::from_utf8(output.stdout).unwrap();
            let version: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
            return (version["model"].as_str().unwrap().to_owned(), version["version"].as_u64().unwrap());
        }
        eprintln!("pushed again: {}", String::from_utf8_lossy(&output.stdout));
    }
    panic!("{} was refused again and again", bundle.display());
}

/// Reads every file of a version and compares it with its digest.
fn read_all(client: &Client, model: &str, version: u64) {
    let version = client.version(model, &version.to_string()).unwrap();
    assert!(!version.files.is_empty());
    for file in &version.files {
        let mut content = Vec::new();
        client.get_blob(&file.blake3).unwrap().read_to_end(&mut content).unwrap();
        assert_eq!(Digest::of(&content).to_string(), file.blake3, "{} of {}", file.path, version.version);
    }
}

#[test]
fn a_server_lives_on_a_bucket() {
    let Some(store) = place("server") else { return };
    let shared = shared();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let up = ["up", "--data", data.to_str().unwrap(), "--store", &store];
    let server = Server::start(&shared.home(), &up);
    let url = server.client.base().to_owned();
    let made = bundle(shared, dir.path(), "made", &words(300_000));
    let (model, version) = push(shared, &made, &url, &["--alias", "production"]);
    ok(bms(&shared.home()).args(["deploy", &model, "--server", &url]));
    server.wait_for(&model);
    let answer = server.client.infer(&model, &zeros()).unwrap();
    let before = server.client.models().unwrap();
    server.kill();
    assert!(!data.join("store/packs").exists(), "no chunk lies here");

    let of = ["--data", data.to_str().unwrap(), "--store", &store];
    let healthy = ok(bms(&shared.home()).arg("scrub").args(of));
    assert!(healthy["healthy"] == true && 1_000_000 < healthy["bytes_read"].as_u64().unwrap(), "{healthy}");
    let collected = ok(bms(&shared.home()).args(["gc", "--grace", "0"]).args(of));
    assert!(collected["complete"] == true && collected["files_missing"] == 0, "{collected}");

    // What was put together of the bucket's chunks goes: the slot's files come from there again.
    for folder in ["loaded", "store", "whole"] {
        let _ = std::fs::remove_dir_all(data.join(folder));
    }
    let server = Server::start(&shared.home(), &up);
    assert_eq!(server.client.models().unwrap(), before);
    server.wait_for(&model);
    agree(&server.client.infer(&model, &zeros()).unwrap(), &answer);
    read_all(&server.client, &model, version);
    server.client.verify_audit().unwrap();
}

/// The same answers but for rounding: which run-time computes a graph is measured anew at each start.
fn agree(a: &InferResponse, b: &InferResponse) {
    assert_eq!(a.outputs.len(), b.outputs.len());
    for (x, y) in a.outputs.iter().zip(&b.outputs) {
        assert_eq!((&x.name, &x.shape, x.datatype), (&y.name, &y.shape, y.datatype));
        let (of_x, of_y) = (x.data.as_array().unwrap(), y.data.as_array().unwrap());
        assert_eq!(of_x.len(), of_y.len());
        let alike = |(u, v): (&Value, &Value)| match (u.as_f64(), v.as_f64()) {
            (Some(u), Some(v)) => (u - v).abs() < 1e-5,
            _ => u == v,
        };
        assert!(of_x.iter().zip(of_y).all(alike), "{x:?} is not {y:?}");
    }
}

/// A new database on the PostgreSQL server, gone at the end.
pub(crate) struct Database {
    server: String,
    name: String,
}

impl Database {
    pub(crate) fn new(test: &str) -> Option<Database> {
        let Ok(server) = std::env::var("BMS_POSTGRES") else {
            assert!(std::env::var_os("CI").is_none(), "BMS_POSTGRES must name a server in CI");
            eprintln!("SKIPPED: no replicas, because BMS_POSTGRES is not set");
            return None;
        };
        let database = Database { server, name: format!("{test}_{}", std::process::id()) };
        database.sql(&format!("CREATE DATABASE {}", database.name));
        Some(database)
    }

    /// What a query of its own gives, as text.
    pub(crate) fn ask(&self, sql: &str) -> String {
        let output = Command::new("psql").args([&self.url(), "-At", "-c", sql]).output().unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn sql(&self, sql: &str) {
        let status = Command::new("psql").args([self.server.as_str(), "-q", "-c", sql]).status().unwrap();
        assert!(status.success(), "{sql}");
    }

    pub(crate) fn url(&self) -> String {
        let (address, query) = self.server.split_once('?').unwrap_or((&self.server, ""));
        let (base, _) = address.rsplit_once('/').unwrap();
        format!("{base}/{}?{query}", self.name)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.sql(&format!("DROP DATABASE {} WITH (FORCE)", self.name));
    }
}

/// One that pushes is done, even if it panicked.
struct Over<'a>(&'a AtomicUsize);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What happens while there are pushes.
struct Seen {
    /// Those that still push.
    pushing: AtomicUsize,
    collected: AtomicUsize,
    failed: AtomicBool,
}

/// Collects garbage or scrubs as long as there are pushes.
fn look_after(shared: &Shared, data: &Path, work: &[&str], seen: &Seen) {
    std::fs::create_dir_all(data).unwrap();
    while 0 < seen.pushing.load(Ordering::SeqCst) {
        let output = bms(&shared.home()).args(work).arg("--data").arg(data).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        match output.status.code() {
            Some(0) if work[0] == "gc" => drop(seen.collected.fetch_add(1, Ordering::SeqCst)),
            Some(0) => {}
            // Another collects right now.
            Some(18) if work[0] == "gc" => {}
            code => {
                eprintln!("{work:?} ended with {code:?}: {text}");
                seen.failed.store(true, Ordering::SeqCst);
            }
        }
        // Pushes need a while in which what they sent stays.
        std::thread::sleep(Duration::from_millis(700));
    }
}

#[test]
fn replicas_on_one_bucket_and_one_database_lose_nothing() {
    const VERSIONS: usize = 5;
    let (Some(store), Some(database)) = (place("replicas"), Database::new("replicas")) else { return };
    let shared = shared();
    let dir = tempfile::tempdir().unwrap();
    let url = database.url();
    let start = |name: &str, scrub_every: &str| {
        let data = dir.path().join(name);
        let place = ["--data", data.to_str().unwrap(), "--store", &store, "--database", &url];
        Server::start(
            &shared.home(),
            &[&["up", "--scrub-every", scrub_every, "--scrub-rate", "0"], &place[..]].concat(),
        )
    };
    // The first will be killed. It collects no garbage, since who dies at that keeps all others from it for ten minutes.
    let servers = [start("one", "0"), start("two", "1s"), start("three", "1s")];
    let seen =
        Seen { pushing: AtomicUsize::new(2), collected: AtomicUsize::new(0), failed: AtomicBool::new(false) };
    let mut pushed = Vec::new();
    std::thread::scope(|scope| {
        let pushers: Vec<_> = (0..2)
            .map(|process| {
                let (server, dir, seen) = (servers[process].client.base(), dir.path(), &seen);
                scope.spawn(move || {
                    let _over = Over(&seen.pushing);
                    let mut made = Vec::new();
                    for number in 0..VERSIONS {
                        // Half of each is in every other, so that garbage is of use again and again.
                        let own = format!("{process} {number}\n").repeat(20_000);
                        let made_here =
                            bundle(shared, dir, &format!("{process}-{number}"), &(words(100_000) + &own));
                        made.push(push(shared, &made_here, server, &[]));
                    }
                    made
                })
            })
            .collect();
        for work in [&["gc", "--grace", "0", "--wait", "5"][..], &["scrub"]] {
            let (dir, seen) = (dir.path(), &seen);
            let of = ["--store", &store, "--database", &url];
            scope.spawn(move || look_after(shared, &dir.join(work[0]), &[work, &of[..]].concat(), seen));
        }
        pushed.extend(pushers.into_iter().flat_map(|pusher| pusher.join().unwrap()));
    });
    assert!(!seen.failed.load(Ordering::SeqCst), "a collection or a scrub failed beside pushes");
    assert!(0 < seen.collected.load(Ordering::SeqCst), "nothing was collected beside pushes");
    pushed.sort();
    pushed.dedup();
    assert_eq!(pushed.len(), 2 * VERSIONS, "each push is a version of its own: {pushed:?}");
    let [one, two, three] = servers;
    one.kill();
    let one = start("one", "0");
    for server in [&one, &two, &three] {
        for (model, version) in &pushed {
            read_all(&server.client, model, *version);
        }
        server.client.verify_audit().unwrap();
    }
    let data = dir.path().join("scrub");
    let of = ["--data", data.to_str().unwrap(), "--store", &store, "--database", &url];
    // The others collect now and then, too.
    let gc = |_| ok_unless(18, bms(&shared.home()).args(["gc", "--grace", "0"]).args(of));
    let collected = (0..100).find_map(gc).expect("somebody always collects");
    drop((one, two, three));
    assert!(collected["complete"] == true && collected["files_missing"] == 0, "{collected}");
    let healthy = ok(bms(&shared.home()).args(["scrub", "--afresh"]).args(of));
    assert!(healthy["healthy"] == true && healthy["problems_found"] == 0, "{healthy}");
}
