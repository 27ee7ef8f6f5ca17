//! The threads kernels run on.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::Isa;

/// Turns of the waiting loop before a worker sleeps: some tens of microseconds, the time between two products of one
/// forward pass. Without work nothing spins.
const SPINS_BEFORE_SLEEP: usize = 8_000;
/// Turns of the caller's waiting loop before it lets others run.
const SPINS_BEFORE_YIELD: usize = 2_000;

thread_local! {
    /// Whether this thread is working on a job of some pool.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// A fixed number of threads that work on one job at a time, the calling thread among them.
///
/// Made for jobs of microseconds: workers wait for the next one awake for a moment, then sleep. A job started from
/// inside a job runs on the calling thread alone.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    isa: Isa,
    /// Held by the caller whose job runs.
    running: Mutex<()>,
}

/// A borrowed closure without its lifetime; valid while `pending` is not zero.
#[derive(Clone, Copy)]
struct Job(*const (dyn Fn(usize) + Sync));

// SAFETY: the closure is `Sync`, and `Pool::run` does not return before every worker is done with it.
unsafe impl Send for Job {}

struct Shared {
    /// Counts jobs; a worker that sees it change takes the job.
    epoch: AtomicUsize,
    job: Mutex<Option<Job>>,
    /// Workers not done with the current job.
    pending: AtomicUsize,
    sleepers: AtomicUsize,
    wake: Condvar,
    stop: AtomicBool,
    panicked: AtomicBool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool of `threads` threads (at least one, the caller's) whose kernels use `isa`, or the best there is when the
    /// machine lacks it.
    pub fn new(threads: usize, isa: Isa) -> Pool {
        let isa = if isa.is_available() { isa } else { Isa::best() };
        let shared = Arc::new(Shared {
            epoch: AtomicUsize::new(0),
            job: Mutex::new(None),
            pending: AtomicUsize::new(0),
            sleepers: AtomicUsize::new(0),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
        });
        let mut workers = Vec::new();
        for index in 1..threads.max(1) {
            let shared = Arc::clone(&shared);
            let spawned = std::thread::Builder::new()
                .name(format!("bms-kernel-{index}"))
                .spawn(move || work(&shared, index));
            match spawned {
                Ok(worker) => workers.push(worker),
                // Fewer threads than asked for is slower, not wrong.
                Err(_) => break,
            }
        }
        Pool { shared, workers, isa, running: Mutex::new(()) }
    }

    /// Threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// The instruction set its kernels use. The machine has it.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Runs `f(worker)` once on every thread, `worker` from 0 (the caller) to `threads() - 1`, and returns when all
    /// are done.
    ///
    /// # Panics
    /// When `f` panicked on any thread.
    pub fn run(&self, f: &(dyn Fn(usize) + Sync)) {
        if self.workers.is_empty() || INSIDE.get() {
            (0..self.threads()).for_each(f);
            return;
        }
        let _running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        // SAFETY: only the lifetime is erased; this function waits for `pending` to reach zero, even when its own part
        // panics, and no worker touches the job after counting itself out.
        let job = Job(unsafe {
            std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const (dyn Fn(usize) + Sync + 'static)>(
                f,
            )
        });
        shared.pending.store(self.workers.len(), Ordering::Relaxed);
        {
            let mut slot = shared.job.lock().unwrap_or_else(PoisonError::into_inner);
            *slot = Some(job);
            shared.epoch.fetch_add(1, Ordering::SeqCst);
            if 0 < shared.sleepers.load(Ordering::SeqCst) {
                shared.wake.notify_all();
            }
        }
        INSIDE.set(true);
        let own = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| f(0)));
        INSIDE.set(false);
        let mut spins = 0;
        while shared.pending.load(Ordering::Acquire) != 0 {
            spins += 1;
            match spins < SPINS_BEFORE_YIELD {
                true => std::hint::spin_loop(),
                false => std::thread::yield_now(),
            }
        }
        let elsewhere = shared.panicked.swap(false, Ordering::Relaxed);
        if let Err(panic) = own {
            std::panic::resume_unwind(panic);
        }
        assert!(!elsewhere, "a kernel panicked on another thread");
    }

    /// Runs `f(i)` for every `i` below `n`, each once, on whichever thread is free.
    pub fn for_each(&self, n: usize, f: &(dyn Fn(usize) + Sync)) {
        if n <= 1 || self.workers.is_empty() {
            (0..n).for_each(f);
            return;
        }
        let next = AtomicUsize::new(0);
        self.run(&|_| {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if n <= i {
                    break;
                }
                f(i);
            }
        });
    }

    /// Runs `f(i, part)` for every part, `i` its number, each on whichever thread is free.
    pub fn for_parts<T: Send>(&self, parts: impl IntoIterator<Item = T>, f: impl Fn(usize, &mut T) + Sync) {
        // Each part is taken once, so the locks are never contended; they prove that to the compiler.
        let parts: Vec<Mutex<T>> = parts.into_iter().map(Mutex::new).collect();
        self.for_each(parts.len(), &|index| {
            f(index, &mut parts[index].lock().unwrap_or_else(PoisonError::into_inner));
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        {
            let _slot = self.shared.job.lock().unwrap_or_else(PoisonError::into_inner);
            self.shared.epoch.fetch_add(1, Ordering::SeqCst);
            self.shared.wake.notify_all();
        }
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its jobs; there is nothing to learn here.
            let _ = worker.join();
        }
    }
}

fn work(shared: &Shared, index: usize) {
    INSIDE.set(true);
    let mut seen = 0;
    loop {
        seen = next_epoch(shared, seen);
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let job = *shared.job.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Job(f)) = job {
            // SAFETY: `pending` counts this worker, so `Pool::run` still holds the closure.
            let f = unsafe { &*f };
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| f(index))).is_err() {
                shared.panicked.store(true, Ordering::Relaxed);
            }
            shared.pending.fetch_sub(1, Ordering::Release);
        }
    }
}

/// Waits for another epoch than `seen`: awake for a moment, then asleep.
fn next_epoch(shared: &Shared, seen: usize) -> usize {
    for _ in 0..SPINS_BEFORE_SLEEP {
        let epoch = shared.epoch.load(Ordering::SeqCst);
        if epoch != seen {
            return epoch;
        }
        std::hint::spin_loop();
    }
    let mut slot = shared.job.lock().unwrap_or_else(PoisonError::into_inner);
    shared.sleepers.fetch_add(1, Ordering::SeqCst);
    while shared.epoch.load(Ordering::SeqCst) == seen {
        slot = shared.wake.wait(slot).unwrap_or_else(PoisonError::into_inner);
    }
    shared.sleepers.fetch_sub(1, Ordering::SeqCst);
    drop(slot);
    shared.epoch.load(Ordering::SeqCst)
}

#[cfg(test)]
mod tests;
