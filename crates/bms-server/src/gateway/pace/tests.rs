use std::time::{Duration, Instant};

use super::Pace;

const ALLOWED: Duration = Duration::from_secs(10);

/// A pace of a model with so many open requests that answers batches of four, ten batches a second.
fn busy(open: usize) -> (Pace, Instant) {
    let (pace, mut now) = (Pace::new(), Instant::now());
    (0..open + 80).for_each(|_| pace.entered());
    for _ in 0..20 {
        now += Duration::from_millis(100);
        (0..4).for_each(|_| pace.left(now));
    }
    (pace, now)
}

#[test]
fn who_would_wait_in_vain_is_told() {
    let (pace, _) = busy(300);
    assert_eq!(pace.excess(ALLOWED), None, "300 at 40 a second");
    let (pace, _) = busy(400);
    let excess = pace.excess(ALLOWED).unwrap();
    assert!((1.5..3.0).contains(&excess.as_secs_f64()), "400 at 40 a second: {excess:?}");
    assert!(pace.excess(Duration::from_millis(1)).is_some());
    assert_eq!(pace.excess(Duration::from_secs(30)), None);
}

#[test]
fn nothing_is_known_of_a_model_that_answers_nothing_or_has_nothing_to_do() {
    let pace = Pace::new();
    (0..1000).for_each(|_| pace.entered());
    assert_eq!(pace.excess(Duration::from_millis(1)), None);
    let (pace, now) = busy(400);
    (0..400).for_each(|_| pace.left(now));
    assert_eq!(pace.excess(Duration::ZERO), None);
    // Slow answers far apart are no pace.
    pace.entered();
    pace.left(now + Duration::from_secs(20));
    pace.entered();
    assert_eq!(pace.excess(ALLOWED), None);
}

#[test]
fn what_stood_still_is_no_pace() {
    // It has just begun, stands still for three seconds, and goes on.
    let (pace, mut now) = (Pace::new(), Instant::now());
    (0..200).for_each(|_| pace.entered());
    pace.left(now);
    now += Duration::from_secs(3);
    for _ in 0..100 {
        pace.left(now);
        assert_eq!(pace.excess(Duration::from_secs(120)), None);
        now += Duration::from_millis(1);
    }
    let (pace, _) = busy(400);
    assert!(pace.excess(ALLOWED).is_some());
    pace.forget();
    assert_eq!(pace.excess(ALLOWED), None);
}
