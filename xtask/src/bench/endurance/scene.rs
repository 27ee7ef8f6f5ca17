//! What is under trouble: two replicas, their database and their store, and two tiny models.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bms_wire::client::Client;
use serde_json::Value;

use super::super::http;
use super::super::ours::Ours;
use crate::process;
use crate::services::Apart;
use crate::services::place::free_port;

/// The model of tensors.
pub(crate) const TENSORS: &str = "mlp";
/// The language model.
pub(crate) const LANGUAGE: &str = "chat";
/// How long a replica may take until its models answer.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How long it may take to end when it is asked to.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

pub(crate) struct Scene {
    // Dropped in this order: replicas before what they stand on.
    pub(crate) replicas: Vec<Replica>,
    pub(crate) services: Apart,
    pub(crate) ours: Ours,
    dir: PathBuf,
}

impl Scene {
    /// Starts everything and waits until both replicas answer for both models.
    pub(crate) fn set(program: Option<PathBuf>) -> Result<Scene> {
        let ours = Ours::find(program)?;
        let dir = crate::root().canonicalize()?.join("target").join("endurance");
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        let services = Apart::start("endurance")?;
        let known = |name: &str| {
            let found = services.environment().iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.clone()).with_context(|| format!("no service gave {name}"))
        };
        let (database, store) = (known("BMS_POSTGRES")?, format!("{}/endurance", known("BMS_TEST_S3")?));
        let replicas = ["one", "two"].map(|name| -> Result<Replica> {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port(0)?));
            let arguments = [
                "up",
                "--until-stdin-closes",
                "--database",
                &database,
                "--store",
                &store,
                "--listen",
                &address.to_string(),
                "--data",
                &dir.join(name).to_string_lossy(),
            ]
            .map(str::to_owned);
            let log = dir.join(format!("{name}.log"));
            let environment = services.environment().to_vec();
            Ok(Replica {
                name,
                address,
                arguments: arguments.to_vec(),
                environment,
                log,
                at: Mutex::default(),
            })
        });
        let replicas = replicas.into_iter().collect::<Result<Vec<_>>>()?;
        let scene = Scene { replicas, services, ours, dir };
        scene.replicas.iter().try_for_each(|replica| replica.start(&scene.ours))?;
        scene.replicas.iter().try_for_each(|replica| replica.wait_for("/v2/health/ready"))?;
        scene.publish()?;
        for replica in &scene.replicas {
            for model in [TENSORS, LANGUAGE] {
                replica.wait_for(&format!("/v2/models/{model}/ready"))?;
            }
        }
        Ok(scene)
    }

    /// Makes the models, two versions of one of them, and deploys them.
    fn publish(&self) -> Result<()> {
        for (example, file) in [("write_mlp", "mlp.onnx"), ("write_lm", "chat.gguf")] {
            let mut write = process::cargo();
            write.args(["run", "--quiet", "--release", "-p", "bms-nn", "--example", example, "--"]);
            process::run(write.arg(self.path(file)))?;
        }
        let server = &self.replicas[0];
        self.push(server, TENSORS, "mlp.onnx", "first", &["--alias", "production"])?;
        self.push(server, TENSORS, "mlp.onnx", "second", &[])?;
        self.push(server, LANGUAGE, "chat.gguf", "chat", &["--alias", "production"])?;
        for model in [TENSORS, LANGUAGE] {
            let mut deploy = self.ours.command(&["deploy", model, "--server", &server.url()]);
            process::output(&mut deploy)?;
        }
        Ok(())
    }

    /// Packages a model's file in a folder of this name, each a bundle of its own, and pushes it.
    pub(crate) fn push(
        &self,
        server: &Replica,
        model: &str,
        file: &str,
        folder: &str,
        more: &[&str],
    ) -> Result<Value> {
        let out = self.path(folder);
        if !out.exists() {
            // Told apart by what nobody reads.
            let licence = format!("LicenseRef-{folder}");
            let mut package = self.ours.command(&["package", "--name", model, "--licence", &licence]);
            process::output(package.arg("--out").arg(&out).arg(self.path(file)))?;
        }
        let mut push = self.ours.command(&["push", "--json", "--server", &server.url()]);
        let printed = process::output(push.args(more).arg(&out))?;
        let last = printed.lines().rev().find(|line| line.starts_with('{'));
        serde_json::from_str(last.context("`bms push` printed nothing")?)
            .context("`bms push` printed no JSON")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The replica that is asked next after another.
    pub(crate) fn replica(&self, number: usize) -> &Replica {
        &self.replicas[number % self.replicas.len()]
    }
}

/// One `bms up`.
pub(crate) struct Replica {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    log: PathBuf,
    at: Mutex<State>,
}

#[derive(Default)]
struct State {
    child: Option<Child>,
    /// When it was killed.
    killed: Vec<Instant>,
}

impl Replica {
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn client(&self) -> Result<Client> {
        Ok(Client::new(&self.url())?)
    }

    fn at(&self) -> MutexGuard<'_, State> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn start(&self, ours: &Ours) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let mut command = ours.command(&arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        let child =
            command.spawn().with_context(|| format!("failed to start `{}`", process::shown(&command)))?;
        self.at().child = Some(child);
        Ok(())
    }

    /// Waits until it answers a path with 200.
    pub(crate) fn wait_for(&self, path: &str) -> Result<()> {
        let begin = Instant::now();
        while let Err(error) = http::get(self.address, path) {
            if let Some(child) = &mut self.at().child
                && let Some(status) = child.try_wait()?
            {
                bail!("replica {} ended with {status}: see {}", self.name, self.log.display());
            }
            if READY_WITHIN < begin.elapsed() {
                let what =
                    format!("replica {} does not answer {path}: see {}", self.name, self.log.display());
                return Err(error.context(what));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Ends it at once, as a power cut would.
    pub(crate) fn kill(&self) -> Result<()> {
        let mut at = self.at();
        at.killed.push(Instant::now());
        let Some(mut child) = at.child.take() else { bail!("replica {} does not run", self.name) };
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Whether it was killed since.
    pub(crate) fn was_killed_since(&self, begin: Instant) -> bool {
        self.at().killed.iter().any(|killed| begin <= *killed)
    }

    /// Asks it to end, as a service manager does, and waits until it has.
    pub(crate) fn stop(&self) -> Result<Duration> {
        let Some(mut child) = self.at().child.take() else { bail!("replica {} does not run", self.name) };
        let begin = Instant::now();
        signal(child.id(), "TERM")?;
        let status = wait(&mut child)?.with_context(|| format!("replica {} does not end", self.name))?;
        ensure!(status.success(), "replica {} ended with {status}: see {}", self.name, self.log.display());
        Ok(begin.elapsed())
    }

    /// Resident memory of its process, bytes; zero while it does not run.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.at().child.as_ref().map_or(0, |child| super::super::memory::resident_bytes(child.id()))
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let Some(mut child) = self.at().child.take() else { return };
        let _ = signal(child.id(), "TERM");
        if !matches!(wait(&mut child), Ok(Some(_))) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn wait(child: &mut Child) -> Result<Option<ExitStatus>> {
    let begin = Instant::now();
    while begin.elapsed() < ENDS_WITHIN {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(None)
}

/// Sends a process a signal.
pub(crate) fn signal(pid: u32, name: &str) -> Result<()> {
    let mut kill = Command::new("kill");
    kill.args(["-s", name, &pid.to_string()]).stderr(Stdio::null());
    kill.status().map(drop).context("failed to start `kill`")
}

/// A folder that is gone when nobody needs it.
pub(crate) fn remove(folder: &Path) {
    let _ = fs::remove_dir_all(folder);
}
