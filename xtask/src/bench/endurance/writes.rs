//! Writes to the registry, and whether they are there at the end.
//!
//! What was not acknowledged is written again, at another replica, until it is: a client cannot know whether it was done.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::Scope;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bms_wire::api::SetAlias;
use serde_json::{Value, json};

use super::Course;
use super::scene::{Replica, Scene, TENSORS, remove};
use crate::bench::http;

const MLFLOW: &str = "/api/2.0/mlflow";
/// For how long a write is tried again.
const BUDGET: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(200);
/// How long a server may take with one write.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Aliases that are moved in turns.
const ALIASES: usize = 8;

pub(crate) struct Writes {
    experiment: String,
    done: Mutex<Done>,
}

/// What was acknowledged, and what it took.
#[derive(Clone, Default)]
pub(crate) struct Done {
    /// Runs and the value logged in each.
    runs: Vec<(String, u64)>,
    /// Aliases and the version each was set to at last.
    aliases: BTreeMap<String, u64>,
    pub(crate) aliases_set: u64,
    /// Versions and their digests.
    versions: Vec<(u64, String)>,
    /// Tries that were answered otherwise, by reason.
    pub(crate) tried_again: BTreeMap<String, u64>,
    /// Writes that could not be done in the time given.
    pub(crate) given_up: BTreeMap<String, u64>,
    pub(crate) longest: Duration,
}

impl Done {
    /// Acknowledged writes of each kind.
    pub(crate) fn counts(&self) -> [(&'static str, u64); 3] {
        // A run is made, gets a parameter, a metric, and its end.
        [
            ("runs", 4 * self.runs.len() as u64),
            ("aliases", self.aliases_set),
            ("versions", self.versions.len() as u64),
        ]
    }
}

impl Writes {
    /// Makes the experiment whose runs are logged.
    pub(crate) fn prepare(scene: &Scene) -> Result<Writes> {
        let address = scene.replicas[0].address;
        let made = post(address, "/experiments/create", &json!({ "name": "endurance" }))?;
        let experiment = made["experiment_id"].as_str().context("no experiment was made")?.to_owned();
        Ok(Writes { experiment, done: Mutex::default() })
    }

    /// Starts those who write.
    pub(crate) fn spawn<'s>(&'s self, scope: &'s Scope<'s, '_>, scene: &'s Scene, course: &'s Course) {
        scope.spawn(move || self.again_and_again(course, 100, |n| self.log_run(scene, n)));
        scope.spawn(move || self.again_and_again(course, 200, |n| self.set_alias(scene, n)));
        scope.spawn(move || self.again_and_again(course, 3000, |n| self.publish(scene, n)));
    }

    pub(crate) fn done(&self) -> Done {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Done> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn again_and_again(&self, course: &Course, every_ms: u64, write: impl Fn(u64) -> Result<()>) {
        let mut number = 0;
        while !course.is_over() {
            let begin = Instant::now();
            if let Err(error) = write(number) {
                eprintln!("a write was given up after {:.1} s: {error:#}", course.at());
                *self.lock().given_up.entry(short(&error)).or_default() += 1;
            }
            let mut done = self.lock();
            done.longest = done.longest.max(begin.elapsed());
            drop(done);
            number += 1;
            std::thread::sleep(Duration::from_millis(every_ms));
        }
    }

    /// Does something at one replica or the other until it is acknowledged.
    fn until_done<T>(&self, scene: &Scene, first: u64, work: impl Fn(&Replica) -> Result<T>) -> Result<T> {
        let begin = Instant::now();
        for at in first as usize.. {
            match work(scene.replica(at)) {
                Ok(done) => return Ok(done),
                Err(error) if BUDGET < begin.elapsed() => return Err(error),
                Err(error) => *self.lock().tried_again.entry(short(&error)).or_default() += 1,
            }
            std::thread::sleep(PAUSE);
        }
        bail!("nobody was asked")
    }

    fn log_run(&self, scene: &Scene, number: u64) -> Result<()> {
        let write = |path: &'static str, body: Value| {
            self.until_done(scene, number, |replica| post(replica.address, path, &body))
        };
        let new = json!({ "experiment_id": self.experiment, "run_name": format!("run {number}") });
        let made = write("/runs/create", new)?;
        let run = made["run"]["info"]["run_id"].as_str().context("a run was made without a name")?.to_owned();
        write("/runs/log-parameter", json!({ "run_id": run, "key": "number", "value": number.to_string() }))?;
        write(
            "/runs/log-metric",
            json!({ "run_id": run, "key": "value", "value": number as f64, "timestamp": 1 }),
        )?;
        write("/runs/update", json!({ "run_id": run, "status": "FINISHED", "end_time": 2 }))?;
        self.lock().runs.push((run, number));
        Ok(())
    }

    fn set_alias(&self, scene: &Scene, number: u64) -> Result<()> {
        let (alias, version) =
            (format!("moved-{}", number as usize % ALIASES), 1 + number / ALIASES as u64 % 2);
        let to = SetAlias { version, require: None, current: None };
        self.until_done(scene, number, |replica| Ok(replica.client()?.set_alias(TENSORS, &alias, &to)?))?;
        let mut done = self.lock();
        done.aliases.insert(alias, version);
        done.aliases_set += 1;
        Ok(())
    }

    fn publish(&self, scene: &Scene, number: u64) -> Result<()> {
        let folder = format!("published-{number}");
        let made =
            self.until_done(scene, number, |replica| scene.push(replica, TENSORS, "mlp.onnx", &folder, &[]))?;
        remove(&scene.path(&folder));
        let version = made["version"].as_u64().zip(made["digest"].as_str());
        let (version, digest) = version.context("a version was made without a number")?;
        self.lock().versions.push((version, digest.to_owned()));
        Ok(())
    }

    /// Looks for everything that was acknowledged; what is missing, in words.
    pub(crate) fn missing(&self, scene: &Scene) -> Result<Vec<String>> {
        let done = self.done();
        let mut missing = Vec::new();
        let mut check = |what: String, found: Result<()>| {
            if let Err(error) = found {
                missing.push(format!("{what}: {error:#}"));
            }
        };
        for (at, (run, number)) in done.runs.iter().enumerate() {
            check(format!("run {run}"), find_run(scene.replica(at).address, run, *number));
        }
        let client = scene.replicas[0].client()?;
        for (alias, version) in &done.aliases {
            let found = client.version(TENSORS, alias)?.version;
            let same = if found == *version { Ok(()) } else { bail_found(found, *version) };
            check(format!("alias {alias}"), same);
        }
        for (at, (version, digest)) in done.versions.iter().enumerate() {
            check(format!("version {version}"), find_version(scene.replica(at), *version, digest));
        }
        for replica in &scene.replicas {
            let verified = replica.client()?.verify_audit().map(drop).map_err(Into::into);
            check(format!("the audit log as replica {} has it", replica.name), verified);
        }
        Ok(missing)
    }
}

fn bail_found(found: u64, wanted: u64) -> Result<()> {
    bail!("it points at version {found} instead of {wanted}")
}

fn find_run(address: SocketAddr, run: &str, number: u64) -> Result<()> {
    let found: Value =
        serde_json::from_str(&http::get(address, &format!("{MLFLOW}/runs/get?run_id={run}"))?)?;
    let (data, info) = (&found["run"]["data"], &found["run"]["info"]);
    let metric = data["metrics"][0]["value"].as_f64();
    ensure!(metric == Some(number as f64), "its metric is {metric:?} instead of {number}");
    let parameter = data["params"][0]["value"].as_str();
    ensure!(parameter == Some(&number.to_string()), "its parameter is {parameter:?} instead of {number}");
    ensure!(info["status"] == "FINISHED", "its status is {}", info["status"]);
    Ok(())
}

fn find_version(replica: &Replica, version: u64, digest: &str) -> Result<()> {
    let client = replica.client()?;
    let found = client.version(TENSORS, &version.to_string())?;
    ensure!(found.digest == digest, "it has the digest {} instead of {digest}", found.digest);
    for file in &found.files {
        let mut bytes = Vec::new();
        client.get_blob(&file.blake3)?.read_to_end(&mut bytes)?;
        let is = bms_bundle::FileEntry::of("", &bytes).blake3;
        ensure!(is == file.blake3, "{} has the digest {is} instead of {}", file.path, file.blake3);
    }
    Ok(())
}

fn post(address: SocketAddr, path: &str, body: &Value) -> Result<Value> {
    let answer = http::post_within(address, &format!("{MLFLOW}{path}"), body, SILENCE_MAX)?;
    serde_json::from_reader(answer).context("the answer broke off")
}

/// The kind of an error: what differs from case to case is left out.
fn short(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    text.chars().filter(|c| !c.is_ascii_digit()).take(110).collect()
}
