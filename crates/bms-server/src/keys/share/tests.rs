use super::{Others, held, is_wanted, unwritten};

#[test]
fn a_share_is_what_is_left_by_replicas_and_never_what_others_hold() {
    let others = |used, held, writing| Others { used, held, writing };
    // Nothing was used, the other holds nothing it has written: a quarter is kept for it.
    assert_eq!(held(100, 0, others(0, 0, 0), 2), 50);
    assert_eq!(held(100, 60, others(0, 0, 0), 2), 75, "a quarter is kept, and 15 are free");
    assert_eq!(held(100, 20, others(30, 55, 1), 2), 45, "half of the 50 that are left");
    assert_eq!(held(100, 20, others(30, 80, 1), 2), 20, "the other holds all");
    assert_eq!(held(100, 49, others(50, 51, 1), 2), 50, "the last one is for whoever is asked first");
    assert_eq!(held(100, 50, others(50, 50, 1), 2), 50);
    assert_eq!(held(100, 70, others(50, 50, 1), 2), 70, "passed already, as by a limit that was lowered");
    assert_eq!(held(u64::MAX, 5, others(9, u64::MAX, 1), 3), 5);
}

#[test]
fn half_is_divided_among_those_that_have_written_nothing() {
    assert_eq!((unwritten(100, 2), unwritten(100, 5), unwritten(3, 5), unwritten(0, 5)), (25, 10, 1, 0));
    let others = |used| Others { used, ..Others::default() };
    assert!(!is_wanted(100, others(50)) && is_wanted(100, others(51)));
}
