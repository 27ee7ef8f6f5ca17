use std::time::{Duration, Instant};

use super::{Bucket, Rate};

const RATE: Rate = Rate { per_minute: 60, replicas: 1 };

#[test]
fn a_minutes_worth_at_once_and_then_one_a_second() {
    let now = Instant::now();
    let mut bucket = Bucket::new(now);
    assert!((0..60).all(|_| bucket.take(1, RATE, now).is_ok()));
    assert_eq!(bucket.take(1, RATE, now), Err(Duration::from_secs(1)));
    let later = now + Duration::from_millis(2500);
    assert!(bucket.take(1, RATE, later).is_ok() && bucket.take(1, RATE, later).is_ok());
    assert_eq!(bucket.take(1, RATE, later), Err(Duration::from_millis(500)));
    let standing = bucket.standing(RATE, later);
    assert_eq!((standing.limit, standing.remaining), (60, 0));
    assert_eq!(standing.reset, Duration::from_millis(59_500));
}

#[test]
fn what_was_used_beyond_is_paid_back() {
    let now = Instant::now();
    let mut bucket = Bucket::new(now);
    bucket.take(1000, RATE, now).unwrap();
    assert_eq!(bucket.take(1, RATE, now), Err(Duration::from_secs(941)));
    bucket.settle(-990.0, RATE, now);
    assert_eq!(bucket.standing(RATE, now).remaining, 50);
    bucket.settle(50.0, RATE, now);
    assert_eq!(bucket.take(1, RATE, now), Err(Duration::from_secs(1)));
    assert_eq!(bucket.standing(RATE, now + Duration::from_secs(3600)).remaining, 60);
}

#[test]
fn replicas_share_a_burst_and_each_lets_something_in() {
    let now = Instant::now();
    let mut bucket = Bucket::new(now);
    let shared = Rate { replicas: 4, ..RATE };
    assert!((0..15).all(|_| bucket.take(1, shared, now).is_ok()));
    assert!(bucket.take(1, shared, now).is_err());
    let little = Rate { per_minute: 1, replicas: 4 };
    assert!(Bucket::new(now).take(1, little, now).is_ok());
}
