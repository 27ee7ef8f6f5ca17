//! How many requests of one model may be sent again.
//!
//! All that a lost slot can have held is free, a few times over; beyond that, repetitions are a share of the requests. A
//! model that fails on everything is not asked many times as much for it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bms_wire::{Code, Error, Result, limits};

/// What one repetition costs; a request brings [`limits::RETRY_SHARE_PERCENT`].
const COST: usize = 100;
const MOST: usize = limits::RETRIES_FREE_MAX * COST;
/// When one that was not repeated may be sent again: a slot has been replaced by then.
const PAUSE: Duration = Duration::from_secs(2);

/// The repetitions of one model.
#[derive(Debug)]
pub(crate) struct Budget(AtomicUsize);

impl Default for Budget {
    fn default() -> Self {
        Budget(AtomicUsize::new(MOST))
    }
}

impl Budget {
    /// A request has come.
    pub(crate) fn earn(&self) {
        let more = |has: usize| (has < MOST).then(|| (has + limits::RETRY_SHARE_PERCENT).min(MOST));
        // Full is as it should be.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Takes one repetition out.
    ///
    /// # Errors
    /// [`Code::Unavailable`], with a pause, when there is none.
    pub(crate) fn spend(&self, model: &str) -> Result<()> {
        let less = |has: usize| has.checked_sub(COST);
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less) {
            Ok(_) => Ok(()),
            Err(_) => {
                let what =
                    format!("the slot of `{model}` went away, and too many requests were sent again already");
                Err(Error::new(Code::Unavailable, what)
                    .hint("Send it again after a pause.")
                    .retry_after(PAUSE))
            }
        }
    }
}

#[cfg(test)]
mod tests;
