//! One slot process: what it says, what it uses, how it ends.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bms_sandbox::Watch;
use bms_wire::{ErrorBody, Result};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout};
use zeroize::Zeroizing;

use super::watching::{self, Watching};
use super::{Launcher, Place, VersionName};

/// How long a process told to end may take before it is killed.
const END_WITHIN: Duration = Duration::from_secs(2);
/// Bytes of a line on a process's standard output.
const LINE_BYTES_MAX: usize = 64 << 10;

/// The one line a slot prints on its standard output once it knows whether it can serve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Greeting {
    /// It answers on its socket.
    Ready(Ready),
    /// The gate or the engine refused the bundle.
    Refused {
        /// Why.
        refused: ErrorBody,
    },
}

/// What a slot that can serve says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// Always true.
    pub(crate) ready: bool,
    /// The model's name according to its manifest.
    pub(crate) model: String,
    /// Hex BLAKE3 of the manifest.
    pub(crate) digest: String,
    /// What executes the model.
    pub(crate) runtime: String,
    /// The task its manifest names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) task: Option<String>,
}

/// A running slot process. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// The other end of its standard input: the process ends when it closes.
    watch: Watch,
    /// What becomes of what it tries.
    watching: Option<Watching>,
    stdout: Option<BufReader<ChildStdout>>,
    socket: PathBuf,
}

impl Process {
    /// Starts the process that serves `model` as the version `of`.
    pub(crate) async fn start(launcher: &Arc<Launcher>, of: &VersionName, model: &Place) -> Result<Self> {
        let key = launcher.data_key(model).await?;
        let socket = launcher.fresh_socket();
        let (mut child, watch) = launcher.spawn(model, &socket, key.is_some())?;
        if let Some(key) = key {
            // Through its standard input only: what is on a command line or in an environment others can read.
            let line = Zeroizing::new(hex_line(key.expose()));
            // A process that is gone by now says so itself.
            if let Err(e) = watch.hand(&line) {
                tracing::warn!("failed to hand a slot its key: {e}");
            }
        }
        let stdout = child.stdout.take().map(BufReader::new);
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(watching::pass_on(stderr));
        }
        let watching = child.id().map(|pid| Watching::start(watch.clone(), pid, of, launcher)).transpose()?;
        Ok(Process { child, watch, watching, stdout, socket })
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Waits for the line that says whether it can serve; `Err` says how it ended without one. Other
    /// lines are skipped: native libraries are known to print to standard output.
    pub(crate) async fn greeting(&mut self) -> Result<Greeting, String> {
        if let Some(stdout) = &mut self.stdout {
            while let Ok(Some(line)) = next_line(stdout).await {
                if let Ok(greeting) = serde_json::from_slice::<Greeting>(&line) {
                    self.keep_reading();
                    return Ok(greeting);
                }
            }
        }
        Err(self.ended().await)
    }

    /// Reads on and throws away, so that a process that prints does not block on a full pipe.
    fn keep_reading(&mut self) {
        if let Some(mut stdout) = self.stdout.take() {
            tokio::spawn(async move {
                // It ends with the process; how does not matter here.
                let _ = tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await;
            });
        }
    }

    /// Waits until it ends, and says how.
    pub(crate) async fn ended(&mut self) -> String {
        let how = match self.child.wait().await {
            Ok(status) => format!("the process ended with {status}"),
            Err(e) => format!("the process was lost: {e}"),
        };
        self.heard().await;
        how
    }

    /// Waits until what the process tried is written down. It has ended by now.
    async fn heard(&mut self) {
        if let Some(watching) = self.watching.take() {
            watching.over().await;
        }
    }

    /// Asks it to end, and kills it when it does not.
    pub(crate) async fn end(mut self) {
        self.watch.let_go();
        if tokio::time::timeout(END_WITHIN, self.child.wait()).await.is_err() {
            self.kill().await;
        }
        self.heard().await;
        self.remove_socket();
    }

    /// Kills it and waits until it is gone.
    pub(crate) async fn kill(&mut self) {
        if let Err(e) = self.child.kill().await {
            tracing::warn!(pid = self.pid(), "failed to kill a slot process: {e}");
        }
        self.heard().await;
        self.remove_socket();
    }

    pub(crate) fn remove_socket(&self) {
        // Absent when the process removed it itself or never made it.
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn hex_line(bytes: &[u8]) -> Vec<u8> {
    let digit = |half: u8| b"0123456789abcdef"[usize::from(half)];
    let digits = bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    digits.chain([b'\n']).collect()
}

/// One line without its end; `None` at the end of the stream.
async fn next_line(from: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    loop {
        let buffer = from.fill_buf().await?;
        if buffer.is_empty() {
            return Ok(if line.is_empty() { None } else { Some(line) });
        }
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let taken = end.unwrap_or(buffer.len());
        // A longer line is no greeting; its head alone will not parse as one.
        let room = LINE_BYTES_MAX - line.len();
        line.extend_from_slice(&buffer[..taken.min(room)]);
        from.consume(taken + usize::from(end.is_some()));
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}

/// Resident memory of a process in bytes; `None` when it has gone or the system does not tell.
pub(crate) fn resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Processor time a process has used, all threads together. The unit of `/proc/PID/stat` is 1/100 s
/// on every architecture Linux runs on today. `None` when it has gone or the system does not tell.
pub(crate) fn processor_time(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name, in parentheses, may hold anything; the fields after it are fixed.
    let fields = &stat[stat.rfind(')')? + 1..];
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 10))
}

#[cfg(test)]
mod tests;
