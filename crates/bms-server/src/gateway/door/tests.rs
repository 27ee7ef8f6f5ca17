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
