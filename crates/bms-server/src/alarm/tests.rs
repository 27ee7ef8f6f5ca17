use std::future::poll_fn;
use std::time::Duration;

use tokio::time::Instant;

use super::Alarm;

/// How long it takes until a limit passes that is so many milliseconds from now.
async fn passes(alarm: &mut Alarm, limit: u64) -> u128 {
    let began = Instant::now();
    let limit = began + Duration::from_millis(limit);
    poll_fn(|context| alarm.poll_passed(limit, context)).await;
    began.elapsed().as_millis()
}

#[tokio::test(start_paused = true)]
async fn a_limit_passes_when_it_is_due_whatever_the_timer_was_set_to_before() {
    let mut alarm = Alarm::new();
    for limit in [100, 5, 3000, 20, 20, 0, 7] {
        let took = passes(&mut alarm, limit).await;
        assert!((u128::from(limit)..=u128::from(limit) + 1).contains(&took), "{limit}: {took}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_moved_on_passes_at_its_new_time_and_not_before() {
    let mut alarm = Alarm::new();
    let began = Instant::now();
    for request in 0..50 {
        // Each is answered after a millisecond, with ten to spare.
        let limit = began + Duration::from_millis(request + 10);
        let answered = tokio::time::sleep(Duration::from_millis(1));
        tokio::select! {
            () = poll_fn(|context| alarm.poll_passed(limit, context)) => panic!("request {request} was cut off"),
            () = answered => {}
        }
    }
    assert!((10..=11).contains(&passes(&mut alarm, 10).await));
}

#[tokio::test(start_paused = true)]
async fn an_earlier_limit_passes_first() {
    let mut alarm = Alarm::new();
    let far = Instant::now() + Duration::from_secs(30);
    tokio::select! {
        biased;
        () = poll_fn(|context| alarm.poll_passed(far, context)) => panic!("not yet"),
        () = std::future::ready(()) => {}
    }
    assert!((50..=51).contains(&passes(&mut alarm, 50).await));
}
