//! Hearing of what a slot's process tries, and passing on what it says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bms_sandbox::{Denied, Watch};
use bms_wire::{Code, Error, Result};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::ChildStderr;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Launcher, VersionName};
use crate::event::{Event, SlotDenied};

/// What was denied and is not written down yet. When there is more the watcher waits, and with it the process.
const DENIALS_WAITING_MAX: usize = 64;
/// How long the end of a process waits until what it tried is written down.
const WRITTEN_WITHIN: Duration = Duration::from_secs(5);
/// Bytes of a process's standard error that are passed on in [`SAID_EACH`]; what it says beyond is thrown away.
const SAID_BYTES_MAX: usize = 1 << 20;
const SAID_EACH: Duration = Duration::from_secs(10);

/// The watcher of one process: a thread that answers, and a task that writes down.
#[derive(Debug)]
pub(crate) struct Watching {
    writing: JoinHandle<()>,
}

impl Watching {
    /// Watches the process with this number until it ends.
    ///
    /// # Errors
    /// [`Code::Unavailable`] when there is no room for a thread.
    pub(crate) fn start(
        watch: Watch,
        pid: u32,
        of: &VersionName,
        launcher: &Arc<Launcher>,
    ) -> Result<Watching> {
        let (sender, denials) = mpsc::channel(DENIALS_WAITING_MAX);
        // Not a task: it answers a process that waits, and reads its memory and paths, which blocks.
        std::thread::Builder::new()
            .name(format!("bms-watch-{pid}"))
            .spawn(move || {
                watch.run(pid, |denied| {
                    // Nobody hears it when the server has stopped.
                    let _ = sender.blocking_send(denied);
                });
            })
            .map_err(|e| {
                Error::new(Code::Unavailable, format!("a slot cannot be watched: {e}")).because(e)
            })?;
        let writing = tokio::spawn(write_down(denials, pid, of.clone(), launcher.clone()));
        Ok(Watching { writing })
    }

    /// Waits until everything the process tried is written down. It has ended.
    pub(crate) async fn over(self) {
        if tokio::time::timeout(WRITTEN_WITHIN, self.writing).await.is_err() {
            tracing::error!("what a slot tried could not be written down in time");
        }
    }
}

async fn write_down(mut denials: mpsc::Receiver<Denied>, pid: u32, of: VersionName, launcher: Arc<Launcher>) {
    while let Some(denied) = denials.recv().await {
        SlotDenied { of: &of, pid, denied: &denied }.emit(&launcher.metrics);
        let Some(registry) = &launcher.auditor else { continue };
        let details =
            json!({ "call": denied.call, "target": denied.target, "times": denied.times, "pid": pid });
        if let Err(e) = registry.audit("sandbox.denied", &of.to_string(), details).await {
            tracing::error!(slot = %of, "failed to audit what a slot tried: {e}");
        }
    }
}

/// Passes what a process says on standard error on to this program's, in bounded amounts.
pub(crate) async fn pass_on(mut from: ChildStderr) {
    let mut piece = vec![0; 16 << 10];
    let mut to = tokio::io::stderr();
    let (mut began, mut said) = (Instant::now(), 0);
    // It ends with the process.
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        if SAID_EACH <= began.elapsed() {
            (began, said) = (Instant::now(), 0);
        }
        let room = SAID_BYTES_MAX.saturating_sub(said).min(read);
        said += read;
        // When nobody takes it any more it is read all the same, so that the process does not block.
        let _ = to.write_all(&piece[..room]).await;
        if room < read && said - read < SAID_BYTES_MAX {
            tracing::warn!(
                "a slot says more than {SAID_BYTES_MAX} bytes in {SAID_EACH:?}; the rest is thrown away"
            );
        }
    }
    let _ = to.flush().await;
}
