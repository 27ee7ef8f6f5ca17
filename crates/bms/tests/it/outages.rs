//! Two servers on one PostgreSQL, as their clients meet them while one of them goes away.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::program::{Server, bms, ok, shared};
use crate::replicas::Database;

/// How long anything may take that happens by itself, on a machine that is busy with other things.
const SOON: Duration = Duration::from_secs(120);

/// The replicas of a test: one database, one folder of files.
struct Replicas<'a> {
    dir: &'a Path,
    database: String,
}

impl Replicas<'_> {
    fn start(&self, name: &str, address: &str) -> Server {
        let mut command = bms(&shared().home());
        let store = format!("file://{}", self.dir.join("store").display());
        command.arg("up").arg("--data").arg(self.dir.join(name));
        Server::spawn_at(command.args(["--database", &self.database, "--store", &store]), address)
    }

    /// Two of them, with the model `digits` deployed and a second version of it.
    fn two(&self) -> [Server; 2] {
        let servers = ["one", "two"].map(|name| self.start(name, "127.0.0.1:0"));
        let url = servers[0].client.base();
        for bundle in ["fp32", "int8"] {
            ok(bms(&shared().home()).arg("push").arg(shared().at(bundle)).args(["--server", url]));
        }
        ok(bms(&shared().home()).args(["promote", "digits", "1", "--server", url]));
        ok(bms(&shared().home()).args(["deploy", "digits", "--server", url]));
        servers.iter().for_each(|server| server.wait_for("digits"));
        servers
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < SOON, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn replicas_restarted_in_turns_fail_no_request() {
    let Some(database) = Database::new("rolling") else { return };
    let dir = tempfile::tempdir().unwrap();
    let replicas = Replicas { dir: dir.path(), database: database.url() };
    let [one, two] = replicas.two();
    let urls = [&one, &two].map(|server| server.client.base().to_owned());
    let over = AtomicBool::new(false);
    let (answered, moved) = std::thread::scope(|scope| {
        let asking = ["infer", "grpc"].map(|protocol| {
            let (urls, over) = (&urls, &over);
            scope.spawn(move || ask_on(urls, protocol, over))
        });
        let mut servers = Vec::new();
        for (name, server) in [("one", one), ("two", two)] {
            let address = server.stop();
            let again = replicas.start(name, &address);
            again.wait_for("digits");
            servers.push(again);
        }
        over.store(true, Ordering::SeqCst);
        let asked = asking.map(|asking| asking.join().unwrap());
        drop(servers);
        (
            asked.iter().map(|(answered, _)| answered).sum::<u64>(),
            asked.iter().map(|(_, moved)| moved).sum::<u64>(),
        )
    });
    eprintln!("{answered} answers, {moved} of them after the request was sent again");
    assert!(0 < moved, "no request met a replica that was away");
}

/// Asks both until told to stop; how many answers there were, and how many after the request was sent again.
fn ask_on(urls: &[String; 2], protocol: &str, over: &AtomicBool) -> (u64, u64) {
    let (mut answered, mut moved) = (0, 0);
    while !over.load(Ordering::SeqCst) {
        let mut bench = bms(&shared().home());
        bench.args(["bench", "serve", "digits", "--warm-up", "0", "--requests", "200", "--connections", "4"]);
        bench.args(["--server", &urls[0], "--server", &urls[1], "--protocol", protocol]);
        let heard = ok(&mut bench);
        assert_eq!(heard["answered"], 200, "{heard}");
        answered += 200;
        moved += heard["moved"].as_u64().unwrap();
    }
    (answered, moved)
}

/// Who has the lease of rollouts, as its process, and the token.
fn leader(database: &Database) -> (u32, u64) {
    let row =
        database.ask("SELECT holder || '|' || token FROM leases WHERE name = 'rollouts' AND expires_ms > 0");
    let Some((holder, token)) = row.split_once('|') else { return (0, 0) };
    let process = holder.rsplit('/').nth(1).and_then(|process| process.parse().ok());
    (process.unwrap_or(0), token.parse().unwrap())
}

/// What was decided in the rollout so far: the step, if it is one, and the token of who decided.
fn decisions(server: &Server) -> Vec<(Option<u64>, u64)> {
    let events = server.client.audit(0).unwrap();
    let of_lease = events.iter().filter(|event| event.action.starts_with("rollout."));
    let decided =
        of_lease.filter_map(|e| Some((e.details["step"].as_u64(), e.details["under"]["token"].as_u64()?)));
    let steps_only = |action: &str| action == "rollout.step";
    let actions: Vec<bool> = events
        .iter()
        .filter(|event| event.action.starts_with("rollout.") && event.details["under"]["token"].is_u64())
        .map(|event| steps_only(&event.action))
        .collect();
    decided.zip(actions).map(|((step, token), is_step)| (step.filter(|_| is_step), token)).collect()
}

#[test]
fn a_leader_that_slept_past_its_lease_decides_nothing_more() {
    let Some(database) = Database::new("leaders") else { return };
    let dir = tempfile::tempdir().unwrap();
    let replicas = Replicas { dir: dir.path(), database: database.url() };
    let servers = replicas.two();
    let steps = (1..=40).map(|step| format!("{}", 2 * step)).collect::<Vec<_>>().join(",") + ",100";
    let plan = ["--steps", &steps, "--step-time", "1", "--min-requests", "5", "--sticky", "none"];
    let bounds = ["--max-error-increase", "0.9", "--max-latency-increase", "900"];
    let begin = ["deploy", "digits", "--candidate", "2", "--server", servers[0].client.base()];
    ok(bms(&shared().home()).args(begin).args(plan).args(bounds));
    let asked = Mutex::new(servers[0].client.base().to_owned());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                let server = asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let mut bench = bms(&shared().home());
                bench.args([
                    "bench",
                    "serve",
                    "digits",
                    "--server",
                    &server,
                    "--warm-up",
                    "0",
                    "--requests",
                    "400",
                ]);
                // Whether it fails when its server goes is not what this is about.
                drop(bench.output().unwrap());
            }
        });
        let ended =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| fences(servers, &database, &asked)));
        over.store(true, Ordering::SeqCst);
        if let Err(panic) = ended {
            std::panic::resume_unwind(panic);
        }
    });
}

/// The leader sleeps, another leads, the first wakes up, the other is killed.
fn fences(servers: [Server; 2], database: &Database, asked: &Mutex<String>) {
    until("a decision", || 2 <= decisions(&servers[0]).len());
    let (process, first) = leader(database);
    let [sleeper, other] = match servers {
        [one, two] if one.pid() == process => [one, two],
        [one, two] => [two, one],
    };
    assert_eq!(sleeper.pid(), process, "the leader is one of the two");
    *asked.lock().unwrap_or_else(PoisonError::into_inner) = other.client.base().to_owned();
    sleeper.signal(Signal::STOP);
    let last_token = || decisions(&other).last().map_or(0, |(_, token)| *token);
    until("the other's leading", || first < last_token());
    let second = last_token();
    assert_eq!(leader(database), (other.pid(), second));
    let before = decisions(&other).len();
    sleeper.signal(Signal::CONT);
    // Both are awake, and one of them decides.
    until("decisions beside the one who slept", || before + 2 <= decisions(&other).len());
    assert_eq!(leader(database), (other.pid(), second), "who slept does not lead");
    *asked.lock().unwrap_or_else(PoisonError::into_inner) = sleeper.client.base().to_owned();
    other.kill();
    until("the end", || {
        let state: Value = sleeper.client.get("/api/v1/rollouts/digits").unwrap();
        state["state"] == "promoted" || second < decisions(&sleeper).last().map_or(0, |(_, token)| *token)
    });
    let all = decisions(&sleeper);
    let tokens: Vec<u64> = all.iter().map(|(_, token)| *token).collect();
    assert!(tokens.is_sorted(), "nobody decides after a later leader: {all:?}");
    let steps: Vec<u64> = all.iter().filter_map(|(step, _)| *step).collect();
    assert!(steps.is_sorted_by(|a, b| a < b), "no step is decided twice: {all:?}");
    sleeper.client.verify_audit().unwrap();
}
