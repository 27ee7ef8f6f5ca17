//! How deep the machine's processors may sleep while something is served.
//!
//! A processor that sleeps deeply takes tens of microseconds to wake, and has lost its caches. Where requests come one by one that
//! is most of what a small one takes. Linux lets a program hold all processors to a time in which they have to wake, for
//! as long as it keeps a file open: <https://docs.kernel.org/power/pm_qos_interface.html>.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use bms_wire::{Error, Result};
use clap::Args;

/// The file by which Linux is asked.
const DEVICE: &str = "/dev/cpu_dma_latency";

/// How deep processors may sleep.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct WakeOptions {
    /// While this runs, let the processors of this machine sleep only so deep that they wake within so many microseconds; 0 for not
    /// at all. Requests that come one by one are answered sooner, and power is used for it. Linux only.
    #[arg(long, value_name = "MICROSECONDS", value_parser = clap::value_parser!(i32).range(0..))]
    wake_within: Option<i32>,
}

/// Holds the processors to what was asked, until it is dropped.
#[derive(Debug)]
pub(crate) struct Awake {
    _file: Option<File>,
}

impl WakeOptions {
    /// Asks for it, if it is wanted.
    ///
    /// # Errors
    /// What the system says of the file.
    pub(crate) fn hold(self) -> Result<Awake> {
        let file = self.wake_within.map(|microseconds| hold(Path::new(DEVICE), microseconds)).transpose()?;
        Ok(Awake { _file: file })
    }
}

fn hold(device: &Path, microseconds: i32) -> Result<File> {
    let held = File::options().write(true).open(device).and_then(|mut file| {
        // One number, as the machine has it in memory.
        file.write_all(&microseconds.to_ne_bytes()).map(|()| file)
    });
    held.map_err(|e| {
        Error::io("write to", device, e).hint(
            "--wake-within needs Linux, and the right to write there: that of root, or of a rule for udev. Or leave it out, and let \
             the machine's operator choose, as by `tuned-adm profile latency-performance`.",
        )
    })
}

#[cfg(test)]
mod tests;
