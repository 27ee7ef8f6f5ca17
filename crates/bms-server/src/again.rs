//! Tasks that wake themselves.
//!
//! A connection's future wakes itself while it is polled, for instance when a handler begins to read the body that the same
//! future is to bring. The runtime then puts the task at the end of the queue and wakes another thread to take it, on a
//! processor that the answer may need. Such a future is polled again at once instead.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Times a future is polled in a row; after them the runtime decides who is next. Few: connections also wake themselves to let
/// others go on.
const POLLS_MAX: usize = 3;

/// A future that is polled again at once when it wakes itself.
#[derive(Debug)]
pub(crate) struct Again<F> {
    future: F,
    bell: Arc<Bell>,
    waker: Waker,
}

/// Nobody polls: who rings wakes the task.
const QUIET: u8 = 0;
/// Somebody polls, and nobody has rung meanwhile.
const POLLED: u8 = 1;
/// Somebody polls and will do so once more.
const RUNG: u8 = 2;

#[derive(Debug)]
struct Bell {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Whoever polls sees it before he leaves, on whichever thread he is.
        let ring = |state: u8| (state != QUIET).then_some(RUNG);
        if self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, ring).is_err() {
            self.task.wake();
        }
    }
}

impl<F: Future> Again<F> {
    pub(crate) fn new(future: F) -> Self {
        let bell = Arc::new(Bell { state: AtomicU8::new(QUIET), task: AtomicWaker::new() });
        let waker = Waker::from(bell.clone());
        Again { future, bell, waker }
    }
}

impl<F: Future + Unpin> Future for Again<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        this.bell.task.register(context.waker());
        for _ in 0..POLLS_MAX {
            // Takes what was written before a ring that came after the last look: a plain store could hide it.
            this.bell.state.swap(POLLED, Ordering::AcqRel);
            let polled = Pin::new(&mut this.future).poll(&mut Context::from_waker(&this.waker));
            if polled.is_ready() {
                return polled;
            }
            let left = this.bell.state.compare_exchange(POLLED, QUIET, Ordering::AcqRel, Ordering::Acquire);
            if left.is_ok() {
                return Poll::Pending;
            }
        }
        this.bell.state.store(QUIET, Ordering::Release);
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
