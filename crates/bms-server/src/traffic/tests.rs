use std::time::Duration;

use super::{WINDOW_SECONDS, Window};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn seconds_are_oldest_first_and_the_running_one_is_left_out() {
    let mut window = Window::default();
    for (second, requests) in [(100, 3), (101, 5), (159, 7), (160, 11)] {
        for _ in 0..requests {
            window.record(second, ms(1), false);
        }
    }
    let rates = window.summary(160).requests_per_second;
    assert_eq!(rates.len(), WINDOW_SECONDS);
    assert_eq!((rates[0], rates[1], rates[59]), (3, 5, 7));
    assert_eq!(rates.iter().sum::<u32>(), 15);
}

#[test]
fn what_is_older_than_a_minute_is_forgotten_but_the_totals_stay() {
    let mut window = Window::default();
    window.record(5, ms(900), true);
    let summary = window.summary(66);
    assert_eq!(summary.requests_per_second.iter().sum::<u32>(), 0);
    assert_eq!((summary.p50_ms, summary.p99_ms), (0.0, 0.0));
    assert_eq!((summary.total, summary.errors), (1, 1));
    // The ring's place of second 5 is used again by second 66.
    window.record(66, ms(1), false);
    assert_eq!(window.summary(67).requests_per_second[59], 1);
}

#[test]
fn the_first_seconds_of_a_server_are_shown_too() {
    let mut window = Window::default();
    window.record(0, ms(1), false);
    assert_eq!(window.summary(0).requests_per_second.iter().sum::<u32>(), 0);
    assert_eq!(window.summary(1).requests_per_second[59], 1);
}

#[test]
fn percentiles_are_within_their_step() {
    let mut window = Window::default();
    for millisecond in 1..=1000 {
        window.record(1, ms(millisecond), false);
    }
    let summary = window.summary(2);
    for (got, want) in [(summary.p50_ms, 500.0), (summary.p99_ms, 990.0)] {
        assert!(want <= got && got <= want * 1.1, "{got} for {want}");
    }
}

#[test]
fn extreme_latencies_have_a_place() {
    let mut window = Window::default();
    window.record(1, Duration::ZERO, false);
    assert!(window.summary(1).p99_ms <= 0.01);
    window.record(1, Duration::from_secs(10_000), false);
    assert!(60_000.0 < window.summary(1).p99_ms);
}
