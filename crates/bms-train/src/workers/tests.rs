use super::*;

#[test]
fn answers_come_in_the_order_of_the_shards() {
    for threads in [1, 2, 3, 5] {
        let workers = Workers::new(threads).unwrap();
        for shards in [0, 1, 2, 4, 7] {
            let answers = workers.map(shards, |shard| shard * 10);
            assert_eq!(answers, (0..shards).map(|shard| shard * 10).collect::<Vec<_>>());
        }
    }
}

#[test]
fn inside_a_worker_the_backend_sees_one_thread() {
    let workers = Workers::new(2).unwrap();
    assert_eq!(workers.map(4, |_| rayon::current_num_threads()), [1, 1, 1, 1]);
}

#[test]
fn a_panic_in_a_worker_reaches_the_caller() {
    let workers = Workers::new(2).unwrap();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        workers.map(2, |shard| assert_ne!(shard, 1, "the second shard fails"));
    }));
    assert!(caught.is_err());
}
