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

use super::progress::Reports;
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
    /// What it says of its work.
    reports: Arc<Reports>,
    socket: PathBuf,
}

impl Process {
    /// Starts the process that serves `model` as the version `of`, with so many threads when that is said.
    pub(crate) async fn start(
        launcher: &Arc<Launcher>,
        of: &VersionName,
        model: &Place,
        threads: Option<usize>,
    ) -> Result<Self> {
        let key = launcher.data_key(model).await?;
        let socket = launcher.fresh_socket();
        let (mut child, watch) = launcher.spawn(model, &socket, key.is_some(), threads)?;
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
        Ok(Process { child, watch, watching, stdout, reports: Arc::default(), socket })
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// What it says of its work once it is ready.
    pub(crate) fn reports(&self) -> &Arc<Reports> {
        &self.reports
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

    /// Reads on: reports, and what else it prints, which is thrown away, so that it does not block on a full pipe.
    fn keep_reading(&mut self) {
        if let Some(mut stdout) = self.stdout.take() {
            let reports = self.reports.clone();
            tokio::spawn(async move {
                // It ends with the process; how does not matter here.
                while let Ok(Some(line)) = next_line(&mut stdout).await {
                    reports.hear(&line);
                }
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
pub(super) async fn next_line(from: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Option<Vec<u8>>> {
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

/// What a process has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Processor time, all threads together.
    pub(crate) processor: Duration,
    /// Times it waited for a page from disk.
    pub(crate) faults: u64,
}

/// What a process has used since its start. The unit of `/proc/PID/stat` is 1/100 s on every architecture Linux runs on
/// today. `None` when it has gone or the system does not tell.
pub(crate) fn usage(pid: u32) -> Option<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = fields_after_name(&stat)?.split_ascii_whitespace().collect();
    let field = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let (faults, user, system) = (field(9)?, field(11)?, field(12)?);
    Some(Usage { processor: Duration::from_millis((user + system) * 10), faults })
}

/// Whether one of a process's threads runs, or would if it got a processor or what it reads from disk.
pub(crate) fn would_run(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.into_iter().any(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let state = fields_after_name(&stat).and_then(|fields| fields.trim_start().chars().next());
        matches!(state, Some('R' | 'D'))
    })
}

/// The fields of a line of `stat` after the program's name, which is in parentheses and may hold anything.
fn fields_after_name(stat: &str) -> Option<&str> {
    stat.get(stat.rfind(')')? + 1..)
}

#[cfg(test)]
mod tests;
