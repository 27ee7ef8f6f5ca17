//! A caller's hold on its request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether anybody still wants an answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interest(Arc<AtomicBool>);

impl Interest {
    pub(crate) fn lose(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Keeps a request alive: dropping it cancels what is not done yet.
#[derive(Debug)]
#[must_use = "dropping a ticket cancels its request"]
pub struct Ticket {
    /// `None` once the request goes on by itself.
    interest: Option<Interest>,
}

impl Ticket {
    pub(crate) fn new(interest: Interest) -> Ticket {
        Ticket { interest: Some(interest) }
    }

    /// Ends the request; its answers end with [`crate::lm::FinishReason::Cancelled`].
    pub fn cancel(self) {
        drop(self);
    }

    /// Lets the request go on without a ticket, until it is done or its sink reports that nobody listens.
    pub fn keep(mut self) {
        self.interest = None;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(interest) = self.interest.take() {
            interest.lose();
        }
    }
}
