//! Processes of a trial, and what they answer.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bms_wire::limits;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::Value;

use crate::process;
use crate::services::place::free_port;

/// How long a process may take until it answers.
const START_MAX: Duration = Duration::from_secs(120);
/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// How long a process may take to end, beyond what open requests may.
const END_MAX: Duration = Duration::from_secs(limits::DRAIN_SECONDS_MAX + 20);
/// Bytes of an answer's first line.
const LINE_BYTES_MAX: u64 = 64 << 10;
const PAUSE: Duration = Duration::from_millis(50);

/// A process that answers; dropping it kills it.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    pub(super) address: SocketAddr,
    /// It says that it is asked by HTTPS.
    pub(super) is_encrypted: bool,
    said: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

/// Where something answers, and how connections to it are encrypted.
#[derive(Clone, Debug)]
pub(super) struct Door {
    pub(super) address: SocketAddr,
    pub(super) tls: Option<Arc<ClientConfig>>,
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) path: &'a str,
    pub(super) host: &'a str,
    pub(super) bearer: Option<&'a str>,
}

/// Takes the program's own variables out of a command's environment.
pub(super) fn clean(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if ["BMS_", "AWS_"].iter().any(|ours| name.to_string_lossy().starts_with(ours)) {
            command.env_remove(name);
        }
    }
    command
}

impl Running {
    /// Starts `bms up` and waits until it says where it listens.
    pub(super) fn start(command: &mut Command) -> Result<Running> {
        let (mut running, lines) = Running::spawn(command)?;
        let begin = Instant::now();
        loop {
            let line = match lines.recv_timeout(START_MAX.saturating_sub(begin.elapsed())) {
                Ok(line) => line,
                Err(_) => {
                    let _ = running.child.kill();
                    running.readers.drain(..).for_each(|reader| drop(reader.join()));
                    bail!("`{}` does not start: {}", process::shown(command), running.said_all());
                }
            };
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            if event["event"] == "ready" {
                let url = event["url"].as_str().unwrap_or_default();
                let (scheme, address) = url.split_once("://").unwrap_or_default();
                running.is_encrypted = scheme == "https";
                running.address = reached(address.parse().context("the server has no address")?);
                return Ok(running);
            }
        }
    }

    /// Starts the proxy with the chart's settings, at free ports, before a server.
    pub(super) fn start_proxy(
        caddy: &Path,
        settings: &str,
        server: SocketAddr,
        folder: &Path,
        environment: &[(String, String)],
    ) -> Result<Running> {
        let port = free_port(1)?;
        let health = port + 1;
        let moved = settings.replace("127.0.0.1:8080", &server.to_string());
        let moved =
            moved.replace(":8081 {", &format!(":{port} {{")).replace(":8082 {", &format!(":{health} {{"));
        let changed = [":8081", ":8082", "127.0.0.1:8080"]
            .iter()
            .all(|old| settings.contains(old) && !moved.contains(old));
        ensure!(changed, "the proxy's settings name other ports than they used to");
        let file = folder.join("Caddyfile");
        std::fs::write(&file, moved).context("failed to write the proxy's settings")?;
        let mut command = Command::new(caddy);
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&file);
        command.env("HOME", folder).env("XDG_CONFIG_HOME", folder).env("XDG_DATA_HOME", folder);
        let (mut running, _) = Running::spawn(command.envs(environment.iter().cloned()))?;
        running.address = (Ipv4Addr::LOCALHOST, port).into();
        let health = Door { address: (Ipv4Addr::LOCALHOST, health).into(), tls: None };
        becomes_well(&health, "/").with_context(|| running.said_all())?;
        Ok(running)
    }

    fn spawn(command: &mut Command) -> Result<(Running, mpsc::Receiver<String>)> {
        let (child, out, err) = process::piped(command)?;
        let said = Arc::new(Mutex::new(String::new()));
        let (sender, lines) = mpsc::channel();
        let readers = vec![read(out, said.clone(), Some(sender)), read(err, said.clone(), None)];
        let address = (Ipv4Addr::UNSPECIFIED, 0).into();
        Ok((Running { child, address, is_encrypted: false, said, readers }, lines))
    }

    /// What it has printed so far.
    fn said_all(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells it to end, as Kubernetes does, and waits until it has; gives what it printed.
    ///
    /// # Errors
    /// When it does not end in time, or in failure.
    pub(super) fn stop(&mut self) -> Result<String> {
        process::run(Command::new("kill").arg("-TERM").arg(self.child.id().to_string()))?;
        let begin = Instant::now();
        while begin.elapsed() < END_MAX {
            if let Some(status) = self.child.try_wait()? {
                self.readers.drain(..).for_each(|reader| drop(reader.join()));
                ensure!(status.success(), "it ended with {status}: {}", self.said_all());
                return Ok(self.said_all());
            }
            std::thread::sleep(PAUSE);
        }
        bail!("it was told to end and goes on after {END_MAX:?}")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(
    from: impl std::io::Read + Send + 'static,
    said: Arc<Mutex<String>>,
    lines: Option<mpsc::Sender<String>>,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            said.push_str(&line);
            said.push('\n');
            // Nobody listens any more once it is ready.
            if let Some(lines) = &lines {
                let _ = lines.send(line);
            }
        }
    })
}

/// Where something that listens everywhere is reached from here.
fn reached(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()),
        _ => address,
    }
}

/// The status of an answer.
pub(super) fn status_of(door: &Door, asked: Asked<'_>) -> Result<u16> {
    let stream = TcpStream::connect_timeout(&door.address, ANSWER_MAX).context("failed to connect")?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    match &door.tls {
        None => status_on(stream, asked),
        Some(config) => {
            let connection = ClientConnection::new(config.clone(), door.address.ip().into())?;
            status_on(StreamOwned::new(connection, stream), asked)
        }
    }
}

fn status_on(mut stream: impl Read + Write, asked: Asked<'_>) -> Result<u16> {
    let Asked { path, host, bearer } = asked;
    let key = bearer.map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
    // As one writing, or it would go out piece by piece.
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{key}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream.take(LINE_BYTES_MAX)).read_line(&mut line)?;
    let status = line.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    status.with_context(|| format!("{path} is answered with `{}`", line.trim()))
}

/// Waits until this path is answered with 200, asked without a key and by the address, as Kubernetes asks.
///
/// # Errors
/// The last answer, when that takes too long.
pub(super) fn becomes_well(door: &Door, path: &str) -> Result<()> {
    let begin = Instant::now();
    let host = door.address.to_string();
    loop {
        let asked = Asked { path, host: &host, bearer: None };
        match status_of(door, asked) {
            Ok(200) => return Ok(()),
            other if START_MAX < begin.elapsed() => bail!("{path} is answered with {other:?}"),
            _ => std::thread::sleep(PAUSE),
        }
    }
}

#[cfg(test)]
mod tests;
