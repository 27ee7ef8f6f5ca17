use std::sync::atomic::{AtomicUsize, Ordering};

use super::each_piece;

#[test]
fn every_piece_is_worked_on_once() {
    let mut numbers = vec![0; 1000];
    let done = each_piece(
        numbers.iter_mut().enumerate().collect(),
        || 1,
        |one, (at, number): (usize, &mut usize)| {
            *number += at + *one;
            Ok::<_, ()>(())
        },
    );
    assert_eq!(done, Ok(()));
    assert!(numbers.iter().enumerate().all(|(at, number)| *number == at + 1));
    assert_eq!(each_piece(Vec::<u8>::new(), || (), |(), _| Err(())), Ok(()), "nothing to do is done");
}

#[test]
fn an_error_is_said_and_ends_the_work() {
    let begun = AtomicUsize::new(0);
    let done = each_piece(
        (0..1_000_000).collect(),
        || (),
        |(), number| {
            begun.fetch_add(1, Ordering::Relaxed);
            if number == 3 { Err("three") } else { Ok(()) }
        },
    );
    assert_eq!(done, Err("three"));
    assert!(begun.load(Ordering::Relaxed) < 1_000_000);
}
