//! Workers as their users meet them: a centre and machines that join it, as real processes that are killed, paused,
//! drained and revoked while requests go on.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bms_wire::api::Placement;
use bms_wire::client::Client;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::program::{Server, bms, fails, ok, shared, zeros};
use crate::replicas::Database;

/// A process of `bms node join`, killed when dropped.
struct Worker {
    child: Child,
}

impl Worker {
    fn start(data: &Path, name: &str, token: Option<&str>) -> Worker {
        Worker::start_with(data, name, token, ("2GiB", 4))
    }

    /// One whose slots may use so much memory and so many processors.
    fn start_with(data: &Path, name: &str, token: Option<&str>, has: (&str, u64)) -> Worker {
        let mut child = join_with(data, name, token, has).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.by_ref().map_while(Result::ok).find(|line| line.contains("\"ready\""));
        let ready: Value = serde_json::from_str(&ready.expect("the worker says that it works")).unwrap();
        assert_eq!(ready["worker"], name);
        std::thread::spawn(move || lines.for_each(drop));
        Worker { child }
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Its exit code, once it has ended.
    fn ended(mut self, within: Duration) -> Option<i32> {
        let by = Instant::now() + within;
        while Instant::now() < by {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the worker did not end within {within:?}");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn join(data: &Path, name: &str, token: Option<&str>) -> Command {
    join_with(data, name, token, ("2GiB", 4))
}

fn join_with(data: &Path, name: &str, token: Option<&str>, (memory, cores): (&str, u64)) -> Command {
    let mut command = bms(&shared().home());
    command
        .args(["node", "join"])
        .args(token)
        .args(["--listen", "127.0.0.1:0", "--name", name, "--data"])
        .arg(data);
    command.args(["--memory", memory, "--cores", &cores.to_string()]).env_remove("BMS_JOIN_TOKEN");
    command
}

/// A centre with a model deployed.
struct Centre {
    dir: TempDir,
    server: Server,
    nodes: String,
}

impl Centre {
    fn start() -> Centre {
        let dir = tempfile::tempdir().unwrap();
        let nodes = free_address();
        let server = up(dir.path(), &nodes);
        Centre { dir, server, nodes }
    }

    fn with_model() -> Centre {
        let centre = Centre::start();
        let (url, model) = (centre.url(), shared().at("fp32"));
        ok(bms(&shared().home()).arg("push").arg(model).args(["--server", &url, "--alias", "production"]));
        ok(bms(&shared().home()).args(["deploy", "digits", "--server", &url]));
        centre.server.wait_for("digits");
        centre
    }

    fn url(&self) -> String {
        self.server.client.base().to_owned()
    }

    fn data(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn token(&self, arguments: &[&str]) -> String {
        let mut create = bms(&shared().home());
        create.args(["node", "token", "create", "--server", &self.url()]).args(arguments);
        ok(&mut create)["token"].as_str().unwrap().to_owned()
    }

    fn worker(&self, name: &str) -> Worker {
        Worker::start(&self.data(name), name, Some(&self.token(&[])))
    }

    fn worker_with(&self, name: &str, has: (&str, u64)) -> Worker {
        Worker::start_with(&self.data(name), name, Some(&self.token(&[])), has)
    }

    fn deploy(&self, arguments: &[&str]) {
        ok(bms(&shared().home()).args(["deploy", "digits", "--server", &self.url()]).args(arguments));
    }

    /// Waits until what was placed is so, and gives it.
    #[track_caller]
    fn wait_until_placed(&self, is_so: impl Fn(&[Placement]) -> bool) -> Vec<Placement> {
        let began = Instant::now();
        loop {
            let placed = self.server.client.placements().unwrap();
            if is_so(&placed) {
                return placed;
            }
            assert!(began.elapsed() < Duration::from_secs(40), "{placed:?} {}", self.workers());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Where the ready slot of the model is: a worker, or nothing for the centre.
    fn place(&self) -> Option<Option<String>> {
        let overview: Value = self.server.client.get("/api/v1/overview").ok()?;
        let slots = overview["slots"].as_array()?.clone();
        let ready = slots.into_iter().find(|slot| slot["state"] == "ready")?;
        Some(ready["worker"].as_str().map(str::to_owned))
    }

    #[track_caller]
    fn wait_until_at(&self, place: Option<&str>) -> Duration {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(40) {
            if self.place().is_some_and(|at| at.as_deref() == place) {
                return began.elapsed();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let overview: Value = self.server.client.get("/api/v1/overview").unwrap();
        panic!("the slot is not at {place:?}: {} {:?}", overview["slots"], self.workers());
    }

    fn workers(&self) -> Value {
        ok(bms(&shared().home()).args(["node", "list", "--server", &self.url()]))["workers"].clone()
    }

    fn state(&self, worker: &str) -> String {
        let workers = self.workers();
        let found = workers.as_array().unwrap().iter().find(|w| w["name"] == worker).cloned();
        found.map_or_else(String::new, |worker| worker["state"].as_str().unwrap().to_owned())
    }
}

fn up(dir: &Path, nodes: &str) -> Server {
    let data = dir.join("data");
    Server::start(&shared().home(), &["up", "--data", data.to_str().unwrap(), "--nodes-listen", nodes])
}

/// An address nobody listens on, the same after a restart.
fn free_address() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Requests that go on until it is dropped.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    asking: Vec<std::thread::JoinHandle<Vec<String>>>,
}

impl Load {
    fn on(url: &str) -> Load {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let ask = |_| {
            let (stop, answered, client) = (stop.clone(), answered.clone(), Client::new(url).unwrap());
            std::thread::spawn(move || {
                let mut failures = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    match client.infer("digits", &zeros()) {
                        Ok(_) => drop(answered.fetch_add(1, Ordering::SeqCst)),
                        Err(error) => failures.push(error.to_string()),
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
                failures
            })
        };
        let asking = (0..4).map(ask).collect();
        Load { stop, answered, asking }
    }

    fn answered(&self) -> u64 {
        self.answered.load(Ordering::SeqCst)
    }

    /// Waits until so many more are answered.
    #[track_caller]
    fn go_on(&self, more: u64) {
        let (from, began) = (self.answered(), Instant::now());
        while self.answered() < from + more {
            assert!(began.elapsed() < Duration::from_secs(40), "no answers any more");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn failures(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        self.asking.into_iter().flat_map(|asking| asking.join().unwrap()).collect()
    }
}

fn code(mut join: Command) -> (String, String) {
    let (_, last) = fails(&mut join);
    (
        last["code"].as_str().unwrap_or_default().to_owned(),
        last["error"].as_str().unwrap_or_default().to_owned(),
    )
}

/// The token with one of its parts changed.
fn changed(token: &str, part: &str, value: &str) -> String {
    let body = URL_SAFE_NO_PAD.decode(token.strip_prefix("bmsw1_").unwrap()).unwrap();
    let mut parts: Value = serde_json::from_slice(&body).unwrap();
    parts[part] = json!(value);
    format!("bmsw1_{}", URL_SAFE_NO_PAD.encode(parts.to_string()))
}

#[test]
fn only_who_has_a_good_token_joins() {
    let (centre, other) = (Centre::start(), tempfile::tempdir().unwrap());
    let token = centre.token(&["--labels", "zone=a"]);
    let data = |name: &str| centre.data(name);
    let refused = |name: &str, token: &str| code(join(&data(name), name, Some(token)));
    assert_eq!(refused("x1", "bmsw1_nonsense").0, "invalid_request");
    assert_eq!(refused("x2", &changed(&token, "secret", "guessed")).0, "permission_denied");
    let (code_, error) = refused("x3", &changed(&token, "pin", &"ab".repeat(32)));
    assert!(code_ == "unavailable" && error.contains("authority is not the one"), "{code_} {error}");
    let brief = centre.token(&["--expires", "1s"]);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(refused("x4", &brief).0, "permission_denied");
    assert_eq!(code(join(&data("x5"), "x5", None)).0, "not_found");

    let worker = Worker::start(&data("w1"), "w1", Some(&token));
    let workers = centre.workers();
    assert_eq!(
        (&workers[0]["state"], &workers[0]["labels"]["zone"]),
        (&json!("ready"), &json!("a")),
        "{workers}"
    );
    assert_eq!(refused("x6", &token).0, "permission_denied", "the token was for one");
    assert_eq!(refused("w1", &centre.token(&[])).0, "conflict", "its folder is in use");
    assert_eq!(code(join(&data("x7"), "w1", Some(&centre.token(&[])))).0, "conflict", "the name is taken");

    // A worker of another centre: its certificate is of another authority.
    let (nodes, home) = (free_address(), other.path().join("home"));
    let foreign = other.path().join("data");
    let mut second = bms(&home);
    second.args(["up", "--data"]).arg(&foreign).args(["--nodes-listen", &nodes]);
    let second = Server::spawn(&mut second);
    let created = ok(bms(&home).args(["node", "token", "create", "--server", second.client.base()]));
    let stranger = Worker::start(&other.path().join("w"), "stranger", created["token"].as_str());
    stranger.signal("-TERM");
    assert_eq!(stranger.ended(Duration::from_secs(20)), Some(0));
    let kept = other.path().join("w/worker.json");
    let text = std::fs::read_to_string(&kept).unwrap().replace(&nodes, &centre.nodes);
    std::fs::write(&kept, text).unwrap();
    assert_eq!(code(join(&other.path().join("w"), "stranger", None)).0, "unavailable");

    // Revoked while it runs: it ends, and does not come back.
    ok(bms(&shared().home()).args(["node", "revoke", "w1", "--server", &centre.url()]));
    assert_ne!(worker.ended(Duration::from_secs(20)), Some(0));
    assert_eq!(centre.state("w1"), "revoked");
    assert_eq!(code(join(&data("w1"), "w1", None)).0, "permission_denied");
    assert_eq!(code(join(&data("w1"), "w1", Some(&centre.token(&[])))).0, "conflict");
    centre.server.client.verify_audit().unwrap();
}

#[test]
fn a_killed_or_paused_worker_costs_no_request() {
    let centre = Centre::with_model();
    assert_eq!(centre.place(), Some(None), "without workers the slot is at the centre");
    let load = Load::on(&centre.url());
    let first = centre.worker("a");
    centre.wait_until_at(Some("a"));
    load.go_on(200);
    let mut second = centre.worker("b");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(centre.place(), Some(Some("a".into())), "what can stay stays");

    drop(first);
    let took = centre.wait_until_at(Some("b"));
    eprintln!("the slot of a killed worker was ready elsewhere after {took:?}");
    load.go_on(200);

    second.signal("-STOP");
    let took = centre.wait_until_at(None);
    eprintln!("the slot of a paused worker was ready elsewhere after {took:?}");
    assert_eq!(centre.state("b"), "gone");
    load.go_on(200);
    second.signal("-CONT");
    centre.wait_until_at(Some("b"));
    load.go_on(200);
    let failures = load.failures();
    assert!(
        failures.is_empty(),
        "{} requests failed: {:?}",
        failures.len(),
        &failures[..failures.len().min(3)]
    );
    second.child.kill().unwrap();
}

#[test]
fn a_drained_worker_leaves_without_a_failed_request() {
    let centre = Centre::with_model();
    let load = Load::on(&centre.url());
    let first = centre.worker("a");
    centre.wait_until_at(Some("a"));
    let second = centre.worker("b");
    load.go_on(200);
    // By a signal, as at the end of a batch job.
    first.signal("-TERM");
    assert_eq!(first.ended(Duration::from_secs(40)), Some(0));
    assert_eq!((centre.place(), centre.state("a")), (Some(Some("b".into())), "left".into()));
    load.go_on(200);
    // By order; the slot goes to the one that has come back.
    let first = Worker::start(&centre.data("a"), "a", None);
    ok(bms(&shared().home()).args(["node", "drain", "b", "--server", &centre.url()]));
    assert_eq!(second.ended(Duration::from_secs(40)), Some(0));
    assert_eq!(centre.place(), Some(Some("a".into())));
    load.go_on(200);
    // By the clock: nobody is left but the centre.
    drop(first);
    let mut brief = join(&centre.data("c"), "c", Some(&centre.token(&[])));
    brief.args(["--walltime", "30s", "--drain-margin", "18s"]);
    let brief = Worker { child: brief.stdout(Stdio::null()).spawn().unwrap() };
    centre.wait_until_at(Some("c"));
    load.go_on(100);
    assert_eq!(brief.ended(Duration::from_secs(40)), Some(0));
    assert_eq!(centre.place(), Some(None));
    let failures = load.failures();
    assert!(
        failures.is_empty(),
        "{} requests failed: {:?}",
        failures.len(),
        &failures[..failures.len().min(3)]
    );
}

#[test]
fn workers_go_on_when_the_centre_is_killed_and_comes_back() {
    let Centre { dir, server, nodes } = Centre::with_model();
    let centre = Centre { dir, server, nodes: nodes.clone() };
    let worker = centre.worker("a");
    centre.wait_until_at(Some("a"));
    let slots = |centre: &Centre| centre.workers()[0]["slots"].clone();
    let before = slots(&centre);
    let pids = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let process = pids(worker.child.id());
    let Centre { dir, server, .. } = centre;
    server.kill();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(pids(worker.child.id()), process, "its slot goes on");
    let server = up(dir.path(), &nodes);
    let centre = Centre { dir, server, nodes };
    centre.wait_until_at(Some("a"));
    centre.server.client.infer("digits", &zeros()).unwrap();
    assert_eq!(pids(worker.child.id()), process, "the same process answers");
    assert_eq!(slots(&centre)[0]["id"], before[0]["id"]);
}

#[test]
fn a_version_gets_all_its_slots_on_workers() {
    let centre = Centre::start();
    let _worker = centre.worker("a");
    let (url, model) = (centre.url(), shared().at("fp32"));
    ok(bms(&shared().home()).arg("push").arg(model).args(["--server", &url, "--alias", "production"]));
    ok(bms(&shared().home()).args(["deploy", "digits", "--server", &url]).args([
        "--min-slots",
        "3",
        "--max-slots",
        "3",
    ]));
    let began = Instant::now();
    loop {
        let overview: Value = centre.server.client.get("/api/v1/overview").unwrap();
        let slots = overview["slots"].as_array().unwrap();
        if slots.len() == 3 && slots.iter().all(|slot| slot["state"] == "ready" && slot["worker"] == "a") {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(40), "{slots:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn that_a_worker_shall_leave_can_be_taken_back_until_it_has() {
    let centre = Centre::with_model();
    let mut worker = centre.worker("a");
    centre.wait_until_at(Some("a"));
    let client = &centre.server.client;
    assert_eq!(client.drain_worker("a").unwrap().state.as_str(), "draining");
    assert_eq!(client.resume_worker("a").unwrap().state.as_str(), "ready");
    // Wherever its slot was on the way to, it comes back.
    centre.wait_until_at(Some("a"));
    let load = Load::on(&centre.url());
    load.go_on(200);
    assert!(worker.child.try_wait().unwrap().is_none(), "it stays");
    assert_eq!(centre.state("a"), "ready");
    ok(bms(&shared().home()).args(["node", "drain", "a", "--server", &centre.url()]));
    assert_eq!(worker.ended(Duration::from_secs(40)), Some(0));
    let (_, late) = fails(bms(&shared().home()).args(["node", "resume", "a", "--server", &centre.url()]));
    assert_eq!(late["code"], "conflict", "{late}");
    assert_eq!(load.failures(), Vec::<String>::new());
    let said: Vec<String> = client.audit(0).unwrap().into_iter().map(|event| event.action).collect();
    assert!(said.iter().any(|action| action == "worker.resumed"), "{said:?}");
}

#[test]
fn workers_go_on_with_another_replica_when_theirs_is_killed() {
    let Some(database) = Database::new("workers") else { return };
    let (dir, url) = (tempfile::tempdir().unwrap(), database.url());
    let store = format!("file://{}", dir.path().join("store").display());
    let start = |name: &str, nodes: &str| {
        let data = dir.path().join(name);
        let place = ["--data", data.to_str().unwrap(), "--store", &store, "--database", &url];
        Server::start(&shared().home(), &[&["up", "--nodes-listen", nodes], &place[..]].concat())
    };
    let (at_one, at_two) = (free_address(), free_address());
    let (one, two) = (start("one", &at_one), start("two", &at_two));
    let token = ok(bms(&shared().home()).args(["node", "token", "create", "--server", one.client.base()]));
    let data = dir.path().join("worker");
    let worker = Worker::start(&data, "a", token["token"].as_str());
    ok(bms(&shared().home()).arg("push").arg(shared().at("fp32")).args([
        "--server",
        one.client.base(),
        "--alias",
        "production",
    ]));
    ok(bms(&shared().home()).args(["deploy", "digits", "--server", one.client.base()]));
    let kept = || std::fs::read_to_string(data.join("worker.json")).unwrap();
    let began = Instant::now();
    while !kept().contains(&at_two) {
        assert!(began.elapsed() < Duration::from_secs(40), "it hears of the other replica: {}", kept());
        std::thread::sleep(Duration::from_millis(50));
    }
    let centre = Centre { dir, server: two, nodes: at_two };
    centre.wait_until_at(Some("a"));
    let id = || centre.workers()[0]["slots"][0]["id"].clone();
    let (before, load) = (id(), Load::on(&centre.url()));
    load.go_on(50);
    one.kill();
    let killed = Instant::now();
    while u128::from(centre.workers()[0]["silent_ms"].as_u64().unwrap()) >= killed.elapsed().as_millis() {
        assert!(killed.elapsed() < Duration::from_secs(40), "{}", centre.workers());
        std::thread::sleep(Duration::from_millis(50));
    }
    load.go_on(50);
    assert_eq!((centre.state("a"), id(), centre.place()), ("ready".into(), before, Some(Some("a".into()))));
    assert_eq!(load.failures(), Vec::<String>::new());
    // Started again, it knows where to go although the replica it joined at is away.
    drop(worker);
    let _worker = Worker::start(&data, "a", None);
    centre.wait_until_at(Some("a"));
}

/// Command lines of the processes that any thread of one has started.
fn children(parent: u32) -> Vec<String> {
    let threads = std::fs::read_dir(format!("/proc/{parent}/task")).unwrap();
    let children = threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("children")));
    let children = children.filter_map(Result::ok).collect::<String>();
    let lines =
        children.split_whitespace().filter_map(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).collect()
}

#[test]
fn a_slot_gets_the_cores_and_the_memory_that_are_asked_for_or_it_is_said_why_not() {
    let centre = Centre::with_model();
    let (_narrow, wide) = (centre.worker_with("a", ("2GiB", 1)), centre.worker_with("b", ("900GiB", 4)));
    centre.wait_until_at(Some("a"));
    let load = Load::on(&centre.url());
    load.go_on(50);
    // Three cores are on one of them only, and are as many threads there.
    centre.deploy(&["--slot-cores", "3"]);
    centre.wait_until_at(Some("b"));
    let slots = children(wide.child.id());
    assert!(slots.iter().any(|line| line.contains("--threads 3 ")), "{slots:?}");
    load.go_on(50);
    // Nine are nowhere: the centre itself gives them.
    centre.deploy(&["--slot-cores", "9"]);
    centre.wait_until_at(None);
    // Once the slots it had before have gone, all cores are free, and too few.
    let why =
        "no worker takes it: a: 1 of its cores are free, 9 wanted; b: 4 of its cores are free, 9 wanted";
    let placed = centre.wait_until_placed(|placed| placed.len() == 1 && placed[0].why == why);
    assert_eq!((placed[0].cores, placed[0].worker.as_deref()), (Some(9), None));
    let slots = children(centre.server.pid());
    assert!(slots.iter().any(|line| line.contains("--threads 9 ")), "{slots:?}");
    load.go_on(50);
    // A worker may say that its slots may use more than its machine has.
    centre.deploy(&["--slot-cores", "0", "--slot-memory", "800GiB"]);
    let is_said = |placed: &[Placement]| placed.len() == 1 && placed[0].why.contains("machine's memory");
    let placed = centre.wait_until_placed(is_said);
    assert!(placed[0].why.ends_with(" wanted, as asked for") && placed[0].cores.is_none(), "{placed:?}");
    let said = bms(&shared().home()).args(["node", "list", "--server", &centre.url()]).output().unwrap();
    assert!(
        String::from_utf8_lossy(&said.stdout).contains("MiB of its machine's memory are free"),
        "{said:?}"
    );
    centre.deploy(&["--slot-memory", "0"]);
    centre.wait_until_at(Some("a"));
    load.go_on(50);
    assert_eq!(load.failures(), Vec::<String>::new());
    let deployed: Value = centre.server.client.get("/api/v1/deployments").unwrap();
    assert_eq!(deployed[0].get("needs"), None, "{deployed}");
    centre.server.client.verify_audit().unwrap();
}

#[test]
fn where_the_second_slot_goes_is_decided_by_what_the_first_one_takes() {
    let centre = Centre::start();
    let _first = centre.worker("a");
    let (url, model) = (centre.url(), shared().at("fp32"));
    ok(bms(&shared().home()).arg("push").arg(model).args(["--server", &url, "--alias", "production"]));
    centre.deploy(&[]);
    centre.wait_until_at(Some("a"));
    let placed = centre.wait_until_placed(|placed| placed.len() == 1 && placed[0].worker.is_some());
    assert_eq!(placed[0].why, "reckoned from its files");
    let began = Instant::now();
    let taken = loop {
        let slot = centre.workers()[0]["slots"][0].clone();
        match (&slot["state"] == "ready", slot["resident_bytes"].as_u64()) {
            (true, Some(bytes)) => break bytes + bytes / 4,
            _ => assert!(began.elapsed() < Duration::from_secs(40), "{slot}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    // Between what the files say and what the first slot takes: only one of the two figures fits there. The second slot
    // would rather be where no other is.
    let by_files = placed[0].memory_bytes;
    let memory = taken.midpoint(by_files).to_string();
    let _second = centre.worker_with("b", (&memory, 4));
    centre.deploy(&["--min-slots", "2", "--max-slots", "2"]);
    let placed = centre.wait_until_placed(|placed| placed.iter().filter(|p| p.worker.is_some()).count() == 2);
    let second = placed.iter().find(|p| p.number == 1).unwrap();
    let fits = taken < by_files;
    assert_eq!(second.worker.as_deref(), Some(if fits { "b" } else { "a" }), "{taken} {by_files} {placed:?}");
    assert_eq!(second.why, "as a slot of it takes, and a quarter");
    let first = placed.iter().find(|p| p.number == 0).unwrap();
    assert_eq!((first.worker.as_deref(), first.memory_bytes), (Some("a"), by_files), "it stays as it was");
}
