//! The process of an engine, through the keeper that starts it and clears up after it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bms_wire::{Code, Error, Result};
use rustix::process::{Pid, Signal};
use tokio::io::BufReader;
use tokio::process::{Child, ChildStdout, Command};

use super::super::address::Address;
use super::super::process::next_line;
use super::super::{Launcher, VersionName, watching};
use super::tree;
use crate::engines::{Engine, Places, Runs};
use crate::keeper::Told;

/// How long an engine that is told to end may take, its keeper's patience included.
const END_WITHIN: Duration = Duration::from_secs(6);

/// A running engine. Dropping it ends it: its keeper's standard input closes.
#[derive(Debug)]
pub(super) struct Process {
    keeper: Child,
    said: BufReader<ChildStdout>,
    /// The engine's own number, which is its group's, too.
    pid: u32,
    address: Address,
    /// A socket's file, which an engine that is killed leaves behind.
    socket: PathBuf,
    port: Option<u16>,
}

impl Process {
    /// Starts an engine, for the files of a version unless it serves a model of its own.
    pub(super) async fn start(
        launcher: &Arc<Launcher>,
        engine: &Engine,
        of: &VersionName,
        files: Option<(&Path, &Path)>,
    ) -> Result<Self> {
        let Runs::Here { command, environment, threads } = &engine.runs else {
            return Err(Error::new(Code::Internal, "an engine elsewhere is not started"));
        };
        let socket = launcher.fresh_socket();
        let port = if engine.uses_socket() { None } else { Some(free_port()?) };
        let (name, version) = (of.model.as_str(), of.version);
        let places = Places {
            name,
            version,
            bundle: files,
            socket: &socket,
            port: port.unwrap_or_default(),
            threads: *threads,
        };
        let launch = &launcher.launch;
        let mut keeper = Command::new(&launch.program);
        keeper.args(&launch.keeper_args).args(command.iter().map(|text| places.fill(text)));
        keeper.env_clear().envs(launch.environment.iter().map(|(name, value)| (name, value)));
        for (name, value) in environment {
            match value.secret()? {
                Some(secret) => keeper.env(name, secret.as_str()),
                None => keeper.env(name, places.fill(value.text().unwrap_or_default())),
            };
        }
        keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let failed = |e| Error::io("start an engine with", &launch.program, e);
        let mut keeper = keeper.spawn().map_err(failed)?;
        if let Some(stderr) = keeper.stderr.take() {
            tokio::spawn(watching::pass_on(stderr));
        }
        let said = keeper.stdout.take().map(BufReader::new);
        let mut said = said.ok_or_else(|| Error::new(Code::Internal, "an engine's keeper says nothing"))?;
        let address = match port {
            None => Address::Unix(socket.clone()),
            Some(port) => Address::Tcp { host: "127.0.0.1".into(), port, tls: None },
        };
        match next_told(&mut said).await {
            Some(Told::Engine(pid)) => Ok(Process { keeper, said, pid, address, socket, port }),
            Some(Told::Failed(why) | Told::Ended(why)) => Err(Error::new(Code::Unavailable, why)),
            None => Err(Error::new(Code::Unavailable, "the engine's keeper ended")),
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Makes sure that it is this engine that answers on its port: another program may have taken that meanwhile.
    pub(super) fn check_listener(&self) -> Result<()> {
        match self.port.and_then(|port| Some((port, tree::listens_on(self.pid, port)?))) {
            Some((port, false)) => {
                let what = format!("another program answers on port {port}, which was the engine's");
                Err(Error::new(Code::Unavailable, what))
            }
            _ => Ok(()),
        }
    }

    /// Waits until it ends, and says how.
    pub(super) async fn ended(&mut self) -> String {
        loop {
            match next_told(&mut self.said).await {
                Some(Told::Ended(how)) => {
                    self.clear().await;
                    return format!("the engine ended with {how}");
                }
                Some(_) => {}
                None => {
                    self.clear().await;
                    return "the engine's keeper was lost, and the engine with it".to_owned();
                }
            }
        }
    }

    /// Asks it to end, and kills it when it does not.
    pub(super) async fn end(mut self) {
        drop(self.keeper.stdin.take());
        if tokio::time::timeout(END_WITHIN, self.keeper.wait()).await.is_err() {
            tracing::warn!(pid = self.pid, "an engine does not end, it is killed");
        }
        self.clear().await;
    }

    /// Kills it and waits until it is gone.
    pub(super) async fn kill(&mut self) {
        self.signal();
        self.clear().await;
    }

    fn signal(&self) {
        let Some(group) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return };
        // Gone already is what is wanted.
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }

    /// Waits for the keeper, which waits until nothing of the engine is left. If the keeper is what was killed, what the
    /// engine started is left, and killed here.
    async fn clear(&mut self) {
        drop(self.keeper.stdin.take());
        let waited = tokio::time::timeout(END_WITHIN, self.keeper.wait()).await;
        if !matches!(waited, Ok(Ok(status)) if status.success()) {
            self.signal();
            if let Err(e) = self.keeper.kill().await {
                tracing::warn!(pid = self.pid, "failed to end an engine's keeper: {e}");
            }
        }
        // Absent when the engine uses a port, or removed it itself.
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// The next thing a keeper tells; `None` once it has ended.
async fn next_told(said: &mut BufReader<ChildStdout>) -> Option<Told> {
    while let Ok(Some(line)) = next_line(said).await {
        if let Ok(told) = serde_json::from_slice(&line) {
            return Some(told);
        }
    }
    None
}

/// A port of this machine alone that nobody has just now.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    listener.map(|address| address.port()).map_err(|e| {
        Error::new(Code::Unavailable, format!("there is no free port for an engine: {e}")).because(e)
    })
}
