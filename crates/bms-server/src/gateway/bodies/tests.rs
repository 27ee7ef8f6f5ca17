use bms_wire::Code;

use super::{BYTES_MAX, Bodies, UNIT_BYTES};

#[test]
fn a_body_that_grows_byte_by_byte_takes_no_more_room_than_it_has_bytes() {
    let bodies = Bodies::default();
    let free = bodies.0.available_permits();
    let mut room = bodies.room();
    for size in 1..=3 * UNIT_BYTES + 1 {
        room.widen(size).unwrap();
    }
    assert_eq!(free - bodies.0.available_permits(), 4);
    drop(room);
    assert_eq!(bodies.0.available_permits(), free);
}

#[test]
fn bodies_that_are_too_many_together_are_refused_until_one_is_gone() {
    let bodies = Bodies::default();
    let (mut first, mut second) = (bodies.room(), bodies.room());
    first.widen(BYTES_MAX - UNIT_BYTES).unwrap();
    second.widen(UNIT_BYTES).unwrap();
    assert_eq!(second.widen(UNIT_BYTES + 1).unwrap_err().code(), Code::QueueFull);
    drop(first);
    second.widen(BYTES_MAX).unwrap();
}
