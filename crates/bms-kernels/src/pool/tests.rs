//! Every part of a job runs exactly once, whatever happens around it.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

#[test]
fn every_worker_and_every_index_once() {
    for threads in [1, 2, 3, 5] {
        let pool = Pool::new(threads, Isa::Scalar);
        for n in [0, 1, 2, 7, 1000] {
            let hits: Vec<AtomicUsize> = (0..n).map(|_| AtomicUsize::new(0)).collect();
            pool.for_each(n, &|i| {
                hits[i].fetch_add(1, Ordering::Relaxed);
            });
            assert!(hits.iter().all(|hit| hit.load(Ordering::Relaxed) == 1), "{threads} threads, {n} parts");
        }
        let workers = AtomicUsize::new(0);
        pool.run(&|worker| {
            workers.fetch_add(1 << (8 * worker), Ordering::Relaxed);
        });
        assert_eq!(workers.into_inner(), (0..threads).map(|worker| 1 << (8 * worker)).sum::<usize>());
    }
}

#[test]
fn a_sleeping_pool_wakes() {
    let pool = Pool::new(2, Isa::Scalar);
    for _ in 0..5 {
        std::thread::sleep(std::time::Duration::from_millis(5));
        let count = AtomicUsize::new(0);
        pool.run(&|_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 2);
    }
}

#[test]
fn a_job_inside_a_job_and_a_panic_leave_the_pool_usable() {
    let pool = Pool::new(3, Isa::Scalar);
    let count = AtomicUsize::new(0);
    pool.run(&|_| {
        pool.for_each(4, &|_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
    });
    assert_eq!(count.load(Ordering::Relaxed), 12);
    for panicking in 0..3 {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.run(&|worker| assert_ne!(worker, panicking, "on purpose"));
        }));
        assert!(outcome.is_err());
    }
    pool.for_each(10, &|_| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(count.load(Ordering::Relaxed), 22);
}
