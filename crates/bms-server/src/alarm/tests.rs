use std::future::poll_fn;
use std::time::Duration;

use tokio::time::Instant;

use super::Alarm;

/// Waits until a limit passes that is so many milliseconds from now; it must not pass before.
async fn passes(alarm: &mut Alarm, limit: u64) {
    let limit = Instant::now() + Duration::from_millis(limit);
    let passed = poll_fn(|context| alarm.poll_passed(limit, context));
    tokio::time::timeout(Duration::from_secs(20), passed).await.expect("it never passes");
    assert!(limit <= Instant::now(), "it passed before");
}

#[tokio::test]
async fn a_limit_passes_when_it_is_due_whatever_the_timer_was_set_to_before() {
    let mut alarm = Alarm::new();
    for limit in [50, 5, 200, 20, 20, 0, 7] {
        passes(&mut alarm, limit).await;
    }
}

#[tokio::test]
async fn a_limit_that_moved_on_passes_at_its_new_time_and_not_before() {
    let mut alarm = Alarm::new();
    for request in 0..50 {
        // Each is answered long before its limit, which the timer of an earlier one comes before.
        let limit = Instant::now() + Duration::from_secs(if request == 0 { 0 } else { 20 });
        let answered = tokio::time::sleep(Duration::from_millis(1));
        tokio::select! {
            () = poll_fn(|context| alarm.poll_passed(limit, context)) => assert_eq!(request, 0, "it was cut off"),
            () = answered => {}
        }
    }
    passes(&mut alarm, 10).await;
}

#[tokio::test]
async fn an_earlier_limit_passes_first() {
    let mut alarm = Alarm::new();
    let far = Instant::now() + Duration::from_secs(3600);
    tokio::select! {
        biased;
        () = poll_fn(|context| alarm.poll_passed(far, context)) => panic!("not yet"),
        () = std::future::ready(()) => {}
    }
    passes(&mut alarm, 50).await;
}
