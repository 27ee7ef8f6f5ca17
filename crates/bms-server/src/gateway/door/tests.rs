use bms_wire::{Code, limits};

use super::Door;
use crate::metrics::Metrics;

const ALLOWED: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

#[test]
fn a_full_queue_refuses_and_takes_again_when_one_leaves() {
    let metrics = Metrics::new().unwrap();
    let door = Door::new("digits", &metrics);
    let mut places: Vec<_> = (0..limits::QUEUE_ROWS_MAX).map(|_| door.enter(ALLOWED).unwrap()).collect();
    let in_flight = metrics.in_flight.with_label_values(&["digits"]);
    assert_eq!(in_flight.get(), limits::QUEUE_ROWS_MAX as i64);
    assert_eq!(door.enter(ALLOWED).unwrap_err().code(), Code::QueueFull);
    places.pop();
    let waiting = door.waiting();
    drop(door.enter(ALLOWED).unwrap());
    assert_eq!(metrics.queue_depth.with_label_values(&["digits"]).get(), 1);
    drop((waiting, places));
    assert_eq!((in_flight.get(), metrics.queue_depth.with_label_values(&["digits"]).get()), (0, 0));
}

#[test]
fn a_conversation_is_let_in_when_it_is_likely_to_begin_in_the_time_it_has() {
    let door = Door::new("chat", &Metrics::new().unwrap());
    let mut places: Vec<_> = (0..60).map(|_| door.enter_language(Some(ALLOWED)).unwrap()).collect();
    // About twenty a second begin.
    for place in &mut places[..10] {
        place.begins();
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let brief = std::time::Duration::from_millis(500);
    let refused = door.enter_language(Some(brief)).unwrap_err();
    assert_eq!(refused.code(), Code::QueueFull);
    assert!(refused.message().contains("within 0.5 s"), "{refused}");
    door.enter_language(Some(ALLOWED)).unwrap();
    door.enter_language(None).unwrap();
    drop(places);
    door.enter_language(Some(brief)).unwrap();
}
