//! Telling the supervisor how far the work is.
//!
//! A thread of its own prints a line again and again, so that it does so too while the thread that talks to the network
//! stands still; that the lines stop is a sign of its own.

use std::io::Write;
use std::time::Duration;

use bms_engine::Progress;
use bms_wire::{Code, Error, Result, limits};

use crate::slots::Report;

const EVERY: Duration = Duration::from_millis(limits::SLOT_REPORT_MS);

/// Begins to report what `progress` says, until nobody reads it any more.
///
/// # Errors
/// [`Code::Unavailable`] when there is no room for a thread.
pub(super) fn start(progress: impl Fn() -> Progress + Send + 'static) -> Result<()> {
    let report = move || {
        // It ends with the process, or with whoever reads.
        while print(progress()).is_ok() {
            std::thread::sleep(EVERY);
        }
    };
    let thread = std::thread::Builder::new().name("bms-report".to_owned()).spawn(report);
    let failed = |e| Error::new(Code::Unavailable, "the slot's reports cannot be started").because(e);
    thread.map(|_| ()).map_err(failed)
}

fn print(progress: Progress) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(&Report::from(progress))?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}
