//! Threads on which the built-in run-time computes without switching to others.

use std::cell::RefCell;
use std::sync::Arc;

use ::rten::ThreadPool;

thread_local! {
    /// The home whose thread this is.
    static HERE: RefCell<Option<Home>> = const { RefCell::new(None) };
}

/// Threads of the built-in run-time. Work done on one of them runs graphs at once; a run begun elsewhere switches there and
/// back, which takes longer than a small graph does.
#[derive(Clone, Debug)]
pub struct Home {
    pool: Arc<ThreadPool>,
    threads: usize,
}

impl Home {
    /// A home of so many threads, at least one.
    pub fn new(threads: usize) -> Home {
        let threads = threads.max(1);
        Home { pool: Arc::new(ThreadPool::with_num_threads(threads)), threads }
    }

    /// Does work on its thread and waits for it. Runs of graphs within it begin without switching threads.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.pool.run(|| {
            let _stay = Stay(HERE.replace(Some(self.clone())));
            work()
        })
    }

    /// The home on whose thread the caller is, when it does what this one does: single threads are as good as each other.
    pub(super) fn here(&self) -> Option<Home> {
        let here = HERE.with_borrow(Clone::clone)?;
        let same = Arc::ptr_eq(&here.pool, &self.pool) || (here.threads == 1 && self.threads == 1);
        same.then_some(here)
    }

    /// Whether a run of this home's graphs would begin at once on the calling thread.
    pub fn is_here(&self) -> bool {
        self.here().is_some()
    }

    pub(super) fn pool(&self) -> &Arc<ThreadPool> {
        &self.pool
    }
}

/// What the thread was for before, which it is again afterwards.
struct Stay(Option<Home>);

impl Drop for Stay {
    fn drop(&mut self) {
        HERE.set(self.0.take());
    }
}

#[cfg(test)]
mod tests;
