use std::time::Duration;

use super::{PAUSE_MAX, pause_after};

#[test]
fn pauses_double_up_to_the_longest() {
    let millis: Vec<u128> = (0..6).map(|n| pause_after(n).as_millis()).collect();
    assert_eq!(millis, [0, 0, 100, 200, 400, 800]);
    assert_eq!(pause_after(9), PAUSE_MAX);
    assert_eq!(pause_after(u32::MAX), PAUSE_MAX);
    assert!(Duration::ZERO < pause_after(2));
}
