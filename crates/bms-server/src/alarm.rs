//! A time limit that moves with each request.
//!
//! Setting a timer takes a lock that all connections share, and so does taking it back; nearly none ever rings. Here the
//! timer stays as it was while the limit moves on. It rings too early then, seldom, and is set anew.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep};

/// The timer of a limit that mostly moves to later times.
#[derive(Debug)]
pub(crate) struct Alarm {
    timer: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// One that is not set.
    pub(crate) fn new() -> Self {
        Alarm { timer: None }
    }

    /// Ready once `limit` has passed. Whoever polls is also woken now and then before.
    pub(crate) fn poll_passed(&mut self, limit: Instant, context: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(limit)));
        loop {
            if limit < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(limit);
            }
            ready!(timer.as_mut().poll(context));
            if limit <= Instant::now() {
                return Poll::Ready(());
            }
        }
    }
}

#[cfg(test)]
mod tests;
