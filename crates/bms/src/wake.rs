//! How deep the machine's processors may sleep while requests come.
//!
//! A processor that sleeps deeply takes tens of microseconds to wake, and has lost its caches. Where requests come one by one that
//! is most of what a small one takes. Linux lets a program hold all processors to a time in which they have to wake, for
//! as long as it keeps a file open: <https://docs.kernel.org/power/pm_qos_interface.html>. It takes power, so they are
//! held only while this process has something to do.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use bms_wire::{Error, Result};
use clap::Args;

use crate::output::Output;
use crate::processor::processor_time;

/// The file by which Linux is asked.
const DEVICE: &str = "/dev/cpu_dma_latency";
/// What is written there for "as without this program".
const AS_ELSE: i32 = -1;
/// How often it is looked at whether there is something to do.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The processor time between two looks that means there is: some 400 small requests a second. A server that nobody asks takes
/// 1 ms, and 4 ms where it looks into its database.
const BUSY: Duration = Duration::from_millis(8);
/// Looks in a row that find nothing after which processors may sleep again.
const QUIET_LOOKS: u32 = 8;

/// How deep processors may sleep.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct WakeOptions {
    /// While requests come, let the processors of this machine sleep only so deep that they wake within so many microseconds; 0 for
    /// not at all. Requests that come one by one are answered sooner, and power is used for it. From some hundreds a second
    /// on, and until two seconds after that. Linux only.
    #[arg(long, value_name = "MICROSECONDS", value_parser = clap::value_parser!(i32).range(0..))]
    wake_within: Option<i32>,
}

/// Holds the processors to what was asked while there is something to do, until it is dropped.
#[derive(Debug)]
pub(crate) struct Awake {
    watching: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Drop for Awake {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.watching.take() {
            drop(sender);
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

impl WakeOptions {
    /// Asks for it, if it is wanted.
    ///
    /// # Errors
    /// What the system says of the file.
    pub(crate) fn hold(self, output: Output) -> Result<Awake> {
        let Some(microseconds) = self.wake_within else { return Ok(Awake { watching: None }) };
        let mut device = open(Path::new(DEVICE))?;
        let (sender, told) = mpsc::channel::<()>();
        let watch = move || {
            let mut watch = Watch::new(processor_time());
            while told.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                if let Err(error) = watch.look(processor_time(), |held| ask(&mut device, held, microseconds))
                {
                    return output.warning(format_args!(
                        "processors are not held to waking within {microseconds} µs: {error}"
                    ));
                }
            }
        };
        let thread = std::thread::Builder::new().name("wake-within".to_owned()).spawn(watch);
        let thread = thread.map_err(|e| Error::io("start a thread for", Path::new(DEVICE), e))?;
        Ok(Awake { watching: Some((sender, thread)) })
    }
}

fn open(device: &Path) -> Result<File> {
    File::options().write(true).open(device).map_err(|e| {
        Error::io("write to", device, e).hint(
            "--wake-within needs Linux, and the right to write there: that of root, or of a rule for udev. Or leave it out, and let \
             the machine's operator choose, as by `tuned-adm profile latency-performance`.",
        )
    })
}

/// Has processors held to a time, or no longer: one number, as the machine has it in memory.
fn ask(device: &mut File, held: bool, microseconds: i32) -> io::Result<()> {
    device.write_all(&(if held { microseconds } else { AS_ELSE }).to_ne_bytes())
}

/// Whether there is something to do, look by look.
#[derive(Debug)]
struct Watch {
    used: Duration,
    /// Looks in a row that found nothing.
    quiet: u32,
}

impl Watch {
    fn new(used: Duration) -> Self {
        Watch { used, quiet: QUIET_LOOKS }
    }

    /// Looks at the processor time that was used so far, and calls `hold` when there is something to do now and was not
    /// before, or the other way round.
    fn look<E>(&mut self, used: Duration, hold: impl FnOnce(bool) -> Result<(), E>) -> Result<(), E> {
        let was_held = self.quiet < QUIET_LOOKS;
        self.quiet = if self.used + BUSY <= used { 0 } else { self.quiet.saturating_add(1) };
        self.used = used;
        let is_held = self.quiet < QUIET_LOOKS;
        if is_held == was_held { Ok(()) } else { hold(is_held) }
    }
}

#[cfg(test)]
mod tests;
