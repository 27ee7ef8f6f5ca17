//! The demo's child processes: a real server and a real edge node, started from this very program.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bms_wire::{Code, Error, Result};
use serde_json::Value;

/// How long a process may take to say that it is ready.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a process may take to stop by itself.
const STOP_TIMEOUT: Duration = Duration::from_secs(25);

/// A running `bms` process. It ends when this value is dropped, and when this program dies: its
/// standard input closes then, which it watches.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// The address it answers at.
    pub(crate) url: String,
}

impl Process {
    /// Starts `bms` with these arguments and waits until it says `{"event":"ready","url":…}`.
    pub(crate) fn start(home: &Path, log: &Path, args: &[&str]) -> Result<Self> {
        let log = std::fs::File::create(log).map_err(|e| Error::io("create", log, e))?;
        let mut child = program(home)?
            .args(args)
            .args(["--json", "--until-stdin-closes"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|e| {
                Error::new(Code::Internal, format!("failed to start `bms {}`: {e}", args.join(" ")))
            })?;
        match ready(&mut child) {
            Ok(url) => Ok(Process { child, url }),
            Err(error) => {
                // It may be alive but silent; nothing of it is needed any more.
                let _ = child.kill();
                let _ = child.wait();
                Err(error.while_doing(format!("start `bms {}`", args.join(" "))))
            }
        }
    }

    /// Ends it at once, as a power cut would.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill().and_then(|()| self.child.wait()).map(drop).map_err(|e| {
            Error::new(Code::Internal, format!("failed to kill process {}: {e}", self.child.id())).because(e)
        })
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Closing its standard input asks it to finish what is open and end.
        drop(self.child.stdin.take());
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            if !self.is_running() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// This program, with the demo's own home folder.
pub(crate) fn program(home: &Path) -> Result<Command> {
    let path = std::env::current_exe()
        .map_err(|e| Error::new(Code::Internal, format!("failed to find this program's own file: {e}")))?;
    let mut command = Command::new(path);
    command.arg("--home").arg(home);
    Ok(command)
}

/// Waits for the line that tells the address, and keeps reading so that the pipe never fills.
fn ready(child: &mut Child) -> Result<String> {
    let stdout =
        child.stdout.take().ok_or_else(|| Error::new(Code::Internal, "the process has no output"))?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(|line| line.ok()) {
            let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
            // The receiver leaves after the first answer; later lines are only drained.
            let _ = sender.send(event);
        }
    });
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let event = receiver.recv_timeout(left).map_err(|_| {
            Error::new(Code::Unavailable, "it ended or stayed silent")
                .hint("Its log lies in the demo's folder.")
        })?;
        match (event["event"].as_str(), event["url"].as_str(), event["error"].as_str()) {
            (Some("ready"), Some(url), _) => return Ok(url.to_owned()),
            (_, _, Some(message)) => return Err(Error::new(Code::Unavailable, message)),
            _ => {}
        }
    }
}
