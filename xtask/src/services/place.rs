//! Where a service keeps its data, and what is known of its processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::{Started, services_dir};

/// How long a service may take to end.
const STOPS_WITHIN: Duration = Duration::from_secs(20);

/// The folder of one service.
pub(super) struct Place(PathBuf);

/// What is noted of a service that was started.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    /// Processes with the time each began, so that another process of the same number is not taken for it.
    pids: Vec<(u32, String)>,
    environment: Vec<(String, String)>,
}

impl Place {
    pub(super) fn of(name: &str) -> Result<Place> {
        Ok(Place(services_dir()?.join(name)))
    }

    #[cfg(test)]
    pub(super) fn at(dir: &Path) -> Place {
        Place(dir.to_owned())
    }

    pub(super) fn dir(&self) -> &Path {
        &self.0
    }

    /// Makes the folder new and empty.
    pub(super) fn clear(&self) -> Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(e).with_context(|| format!("failed to empty {}", self.0.display()));
            }
            _ => {}
        }
        fs::create_dir_all(&self.0).with_context(|| format!("failed to make {}", self.0.display()))
    }

    /// Starts a program that goes on when this one ends, with its output in the folder's file `log`.
    pub(super) fn spawn(&self, command: &mut Command) -> Result<u32> {
        use std::os::unix::process::CommandExt as _;
        let log = fs::File::create(self.0.join("log"))?;
        let shown = crate::process::shown(command);
        // A group of its own: an interrupt meant for the chores does not reach it.
        let child =
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0).spawn();
        Ok(child.with_context(|| format!("failed to start `{shown}`"))?.id())
    }

    /// The end of the log, for an error's message.
    pub(super) fn log(&self) -> String {
        let log = fs::read_to_string(self.0.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Notes a service that runs.
    pub(super) fn keep(&self, started: &Started) -> Result<()> {
        let pids = started.pids.iter().filter_map(|pid| Some((*pid, began(*pid)?))).collect();
        let note = Note { pids, environment: started.environment.clone() };
        fs::write(self.note(), serde_json::to_vec_pretty(&note)?).context("failed to note a service")
    }

    /// What clients have to know, when it runs.
    pub(super) fn environment(&self) -> Result<Option<Vec<(String, String)>>> {
        let Some(note) = self.read()? else { return Ok(None) };
        let runs =
            !note.pids.is_empty() && note.pids.iter().all(|(pid, at)| began(*pid).as_ref() == Some(at));
        Ok(runs.then_some(note.environment))
    }

    /// Ends it and waits until it has ended. One that does not run is fine.
    pub(super) fn stop(&self) -> Result<()> {
        let Some(note) = self.read()? else { return Ok(()) };
        let running = || note.pids.iter().filter(|(pid, at)| began(*pid).as_ref() == Some(at));
        let begin = Instant::now();
        let mut signal = "TERM";
        while running().next().is_some() {
            for (pid, _) in running() {
                signal_to(*pid, signal)?;
            }
            if STOPS_WITHIN < begin.elapsed() {
                if signal == "KILL" && 2 * STOPS_WITHIN < begin.elapsed() {
                    bail!("a process of the service in {} does not end", self.0.display());
                }
                signal = "KILL";
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        fs::remove_file(self.note()).context("failed to forget a service")
    }

    fn read(&self) -> Result<Option<Note>> {
        match fs::read(self.note()) {
            Ok(note) => Ok(Some(serde_json::from_slice(&note)?)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).context("failed to read what is noted of a service"),
        }
    }

    fn note(&self) -> PathBuf {
        self.0.join("running.json")
    }
}

/// When a process began, in the kernel's words (field 22 of proc(5) stat); `None` when there is none, or only its shell.
fn began(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    // A zombie has ended; its parent has not looked yet.
    if state == "Z" { None } else { fields.nth(18).map(str::to_owned) }
}

fn signal_to(pid: u32, signal: &str) -> Result<()> {
    let status = Command::new("kill").args(["-s", signal, &pid.to_string()]).stderr(Stdio::null()).status();
    status.map(drop).context("failed to start `kill`")
}

/// A port on loopback that is free now, as is the one `apart` above it.
pub(crate) fn free_port(apart: u16) -> Result<u16> {
    for _ in 0..100 {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let Some(other) = port.checked_add(apart) else { continue };
        if apart == 0 || std::net::TcpListener::bind(("127.0.0.1", other)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port is free")
}
