use super::*;

#[test]
fn no_call_has_two_rules() {
    let mut calls: Vec<_> = rules().into_iter().map(|(call, _)| call).collect();
    calls.sort_unstable();
    let before = calls.len();
    calls.dedup();
    assert_eq!(calls.len(), before);
}

#[test]
fn calls_have_names() {
    assert_eq!(name(SYS_execve as i32), "execve");
    assert_eq!(name(SYS_io_uring_setup as i32), "io_uring_setup");
    assert_eq!(name(99_999), "unknown");
    assert!(known_max() > SYS_futex_waitv as u32 - 1);
    for (call, _) in rules() {
        assert_ne!(name(call as i32), "unknown", "{call}");
    }
}
