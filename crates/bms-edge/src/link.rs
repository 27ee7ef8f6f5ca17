//! Whether the centre can be reached.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What was last seen of the centre.
#[derive(Debug)]
pub(crate) struct Link {
    /// A centre that said nothing for longer counts as lost, even while a request hangs.
    patience: Duration,
    /// Time of the last answer, while nothing failed since.
    heard: Mutex<Option<Instant>>,
}

impl Link {
    /// Lost until first heard.
    pub(crate) fn new(patience: Duration) -> Link {
        Link { patience, heard: Mutex::new(None) }
    }

    pub(crate) fn heard(&self) {
        let before = self.set(Some(Instant::now()));
        if before.is_none() {
            tracing::info!("the centre can be reached");
        }
    }

    pub(crate) fn lost(&self, why: &dyn std::fmt::Display) {
        if self.set(None).is_some() {
            tracing::warn!("the centre cannot be reached: {why}");
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.is_some_and(|at| at.elapsed() < self.patience)
    }

    fn set(&self, to: Option<Instant>) -> Option<Instant> {
        std::mem::replace(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner), to)
    }
}
