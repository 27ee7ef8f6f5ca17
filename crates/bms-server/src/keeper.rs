//! The process between the server and an external engine: it starts the engine and makes sure that nothing of it is left.
//!
//! An engine is a program of somebody else, which knows nothing of how slots end. So it is the child of a process of ours
//! that reads its standard input, a pipe whose other end only the server holds: when the server goes, killed or not, the
//! pipe closes, and the keeper ends the engine. If the keeper itself is killed, the kernel kills the engine. What the
//! engine starts is killed with it, also when it has left the engine's process group, since orphans become the keeper's.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bms_wire::{Code, Error, Result};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use serde::{Deserialize, Serialize};

/// How long an engine that is told to end may take before it is killed.
const END_WITHIN: Duration = Duration::from_secs(2);
/// How long what an engine started may take to be gone after it was killed: the kernel may be busy with it.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// What the keeper tells the server, one line each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Told {
    /// The engine runs as this process.
    Engine(u32),
    /// It has ended, and how.
    Ended(String),
    /// It cannot be started.
    Failed(String),
}

/// Runs an engine until it ends or standard input closes. Nothing that it started is left then. Blocks the calling thread.
///
/// # Errors
/// [`Code::Io`] when the engine cannot be started, or the server not be told of it.
pub fn run(command: &[OsString]) -> Result<()> {
    let failed = |what: &str, e: std::io::Error| Error::new(Code::Io, format!("{what}: {e}")).because(e);
    // From now on orphans of the engine's processes are this one's children.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|e| failed("orphans cannot be adopted", e.into()))?;
    let [program, arguments @ ..] = command else {
        return Err(Error::new(Code::InvalidRequest, "there is no command to keep"));
    };
    // What it says goes into the server's log. It reads nothing.
    let log = std::io::stderr().as_fd().try_clone_to_owned().map_err(|e| failed("there is no log", e))?;
    let again = log.try_clone().map_err(|e| failed("there is no log", e))?;
    let mut engine = Command::new(program);
    engine.args(arguments).stdin(Stdio::null()).stdout(log).stderr(again).process_group(0);
    let child = match bms_sandbox::end_with_parent(&mut engine).spawn() {
        Ok(child) => child,
        Err(e) => {
            tell(&Told::Failed(format!("`{}` cannot be started: {e}", program.display())))?;
            return Err(failed("the engine cannot be started", e));
        }
    };
    let number = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let engine = number.ok_or_else(|| Error::new(Code::Internal, "the engine has no process number"))?;
    tell(&Told::Engine(child.id()))?;
    let gone = Arc::new(AtomicBool::new(false));
    let seen = gone.clone();
    std::thread::spawn(move || end_with_stdin(engine, &seen));
    let how = wait_for(engine).map_err(|e| failed("the engine was lost", e.into()))?;
    gone.store(true, Ordering::SeqCst);
    clear(engine);
    tell(&Told::Ended(how))
}

/// Ends the engine once standard input closes: it is asked first.
fn end_with_stdin(engine: Pid, gone: &AtomicBool) {
    let mut bytes = [0; 64];
    let mut stdin = std::io::stdin().lock();
    while !matches!(stdin.read(&mut bytes), Ok(0) | Err(_)) {}
    for signal in [Signal::TERM, Signal::KILL] {
        // Once it was waited for, its number may be somebody else's.
        if gone.load(Ordering::SeqCst) {
            return;
        }
        // Gone by now is what is wanted.
        let _ = rustix::process::kill_process_group(engine, signal);
        std::thread::sleep(END_WITHIN);
    }
}

/// Waits until the engine has ended, and buries whatever else does meanwhile.
fn wait_for(engine: Pid) -> rustix::io::Result<String> {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == engine => return Ok(describe(status)),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
}

fn describe(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

/// Kills what is left of the engine: its group, then whatever has become a child of this process.
fn clear(engine: Pid) {
    let _ = rustix::process::kill_process_group(engine, Signal::KILL);
    let began = Instant::now();
    while began.elapsed() < GONE_WITHIN {
        for child in children() {
            let _ = rustix::process::kill_process(child, Signal::KILL);
        }
        match rustix::process::wait(WaitOptions::NOHANG) {
            // Nobody is left.
            Err(rustix::io::Errno::CHILD) => return,
            // Its own children are this process's now: once more.
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// The children of this process.
fn children() -> Vec<Pid> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let pids = |list: String| -> Vec<Pid> {
        list.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
    };
    lists.flat_map(pids).collect()
}

fn tell(told: &Told) -> Result<()> {
    let mut line = serde_json::to_vec(told)
        .map_err(|e| Error::new(Code::Internal, "what became of an engine cannot be written").because(e))?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    let written = out.write_all(&line).and_then(|()| out.flush());
    written.map_err(|e| Error::new(Code::Io, format!("the server cannot be told: {e}")).because(e))
}
