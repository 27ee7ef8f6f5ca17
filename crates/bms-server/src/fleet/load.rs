//! What the requests of one version do at the moment: how many wait for a slot, how many are in one, and since when
//! there has been none.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The requests of one version.
#[derive(Debug)]
pub(crate) struct Load {
    waiting: AtomicUsize,
    in_flight: AtomicUsize,
    answered: AtomicU64,
    used: Mutex<Instant>,
}

impl Load {
    pub(super) fn new() -> Arc<Self> {
        let used = Mutex::new(Instant::now());
        Arc::new(Load {
            waiting: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            answered: AtomicU64::new(0),
            used,
        })
    }

    /// Requests that wait for a slot.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Requests that have a slot.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Requests that have given their slot back so far.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// For how long there has been no request.
    pub(crate) fn idle_for(&self) -> Duration {
        match self.waiting() + self.in_flight() {
            0 => self.used.lock().unwrap_or_else(PoisonError::into_inner).elapsed(),
            _ => Duration::ZERO,
        }
    }

    /// A request waits while the result lives.
    pub(super) fn wait(self: &Arc<Self>) -> Waiting {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(self.clone())
    }

    fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// A request that waits for a slot.
#[derive(Debug)]
pub(super) struct Waiting(Arc<Load>);

impl Waiting {
    /// It has one, while the result lives.
    pub(super) fn begin(self) -> InFlight {
        self.0.in_flight.fetch_add(1, Ordering::SeqCst);
        InFlight(self.0.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.touch();
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A request that has a slot.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Load>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.touch();
        self.0.answered.fetch_add(1, Ordering::Relaxed);
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}
