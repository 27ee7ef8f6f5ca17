//! Data-parallel threads inside one process.
//!
//! burn's `flex` backend gains little from splitting one small operation over threads, and much from
//! whole forward and backward passes running side by side. So each worker is a pool of *one* thread:
//! what the backend would parallelise inside runs in place, and the result of a shard does not depend
//! on how many workers there are.

use bms_wire::{Code, Error, Result};
use rayon::{ThreadPool, ThreadPoolBuilder};

/// One single-threaded pool per worker.
pub(crate) struct Workers {
    pools: Vec<ThreadPool>,
}

impl Workers {
    /// `threads` workers; 0 means one per processor.
    pub(crate) fn new(threads: usize) -> Result<Self> {
        let available = std::thread::available_parallelism().map_or(1, usize::from);
        let wanted = if threads == 0 { available } else { threads };
        let pools = (0..wanted)
            .map(|_| {
                ThreadPoolBuilder::new()
                    .num_threads(1)
                    .build()
                    .map_err(|e| Error::new(Code::Internal, "failed to start a training thread").because(e))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Workers { pools })
    }

    /// Runs `work` on the first worker, for what is not split.
    pub(crate) fn one<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.pools[0].install(work)
    }

    /// `work(0)`, …, `work(shards - 1)`, in this order in the answer whoever computed which.
    pub(crate) fn map<T: Send>(&self, shards: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
        let used = self.pools.len().min(shards);
        if used <= 1 {
            return self.one(|| (0..shards).map(&work).collect());
        }
        let share = |worker: usize| {
            self.pools[worker].install(|| (worker..shards).step_by(used).map(&work).collect::<Vec<T>>())
        };
        let mut parts: Vec<_> = std::thread::scope(|scope| {
            let handles: Vec<_> =
                (1..used).map(|worker| scope.spawn(move || share_of(share, worker))).collect();
            let mut parts = vec![share(0).into_iter()];
            for handle in handles {
                match handle.join() {
                    Ok(part) => parts.push(part.into_iter()),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            parts
        });
        (0..shards).filter_map(|shard| parts[shard % used].next()).collect()
    }
}

/// Lets a borrowed closure be moved into a thread by value.
fn share_of<T>(share: impl Fn(usize) -> Vec<T>, worker: usize) -> Vec<T> {
    share(worker)
}

#[cfg(test)]
mod tests;
