use super::*;

#[test]
fn repetitions_beyond_the_free_ones_are_a_share_of_the_requests() {
    let budget = Budget::default();
    for _ in 0..limits::RETRIES_FREE_MAX {
        budget.spend("m").unwrap();
    }
    let refused = budget.spend("m").unwrap_err();
    assert_eq!((refused.code(), refused.pause()), (Code::Unavailable, Some(PAUSE)));
    (0..1000).for_each(|_| budget.earn());
    let repeated = (0..1000).filter(|_| budget.spend("m").is_ok()).count();
    assert_eq!(repeated, 1000 * limits::RETRY_SHARE_PERCENT / 100);
}

#[test]
fn more_than_the_free_ones_is_never_saved_up() {
    let budget = Budget::default();
    (0..10).for_each(|_| budget.earn());
    let repeated = (0..2 * limits::RETRIES_FREE_MAX).filter(|_| budget.spend("m").is_ok()).count();
    assert_eq!(repeated, limits::RETRIES_FREE_MAX);
}
