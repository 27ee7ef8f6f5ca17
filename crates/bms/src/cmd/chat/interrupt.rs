//! Ctrl-C: it stops an answer, not the program.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bms_wire::{Code, Error, Result};

/// Whether an answer is to be stopped.
#[derive(Clone, Debug, Default)]
pub(super) struct Interrupt {
    pub(super) stopped: Arc<AtomicBool>,
    /// An answer is being written: otherwise there is nothing to stop.
    answering: Arc<AtomicBool>,
}

impl Interrupt {
    /// Watches for the signal, on a thread of its own. `idle` is called when there is no answer to stop.
    ///
    /// # Errors
    /// [`Code::Internal`] when the signal cannot be watched for.
    pub(super) fn watch(idle: impl Fn() + Send + 'static) -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let failed = |e: std::io::Error| {
            Error::new(Code::Internal, format!("failed to watch for Ctrl-C: {e}")).because(e)
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let mut signals = {
            let _inside = runtime.enter();
            signal(SignalKind::interrupt()).map_err(failed)?
        };
        let interrupt = Interrupt::default();
        let seen = interrupt.clone();
        // It ends with the program.
        std::thread::spawn(move || {
            runtime.block_on(async {
                while signals.recv().await.is_some() {
                    if seen.answering.load(Ordering::Relaxed) {
                        seen.stopped.store(true, Ordering::Relaxed);
                    } else {
                        idle();
                    }
                }
            });
        });
        Ok(interrupt)
    }

    /// An answer begins.
    pub(super) fn begin(&self) {
        self.stopped.store(false, Ordering::Relaxed);
        self.answering.store(true, Ordering::Relaxed);
    }

    /// It has ended.
    pub(super) fn end(&self) {
        self.answering.store(false, Ordering::Relaxed);
    }
}
