use super::*;

#[test]
fn pauses_double_up_to_the_longest_and_keep_at_least_half() {
    let second = Duration::from_secs(1);
    let mut backoff = Backoff::new(second, 10 * second);
    for full in [1, 2, 4, 8, 10, 10, 10] {
        let pause = backoff.failed();
        assert!(full * second / 2 <= pause && pause <= full * second, "{pause:?} after {full} s");
    }
    backoff.succeeded();
    assert!(backoff.failed() <= second);
}

#[test]
fn pauses_do_not_overflow_and_differ_between_nodes() {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::MAX);
    let pauses: Vec<Duration> = (0..100).map(|_| backoff.failed()).collect();
    assert!(Duration::from_secs(1 << 19) <= pauses[99]);
    let firsts: Vec<Duration> =
        (0..20).map(|_| Backoff::new(Duration::from_secs(1), Duration::from_secs(9)).failed()).collect();
    assert!(firsts.iter().any(|pause| *pause != firsts[0]));
}
