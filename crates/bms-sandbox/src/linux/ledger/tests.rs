use super::*;

#[test]
fn the_first_is_told_at_once_and_the_rest_in_sums() {
    let mut ledger = Ledger::default();
    let first = ledger.note("execve", Some("/bin/sh".into())).unwrap();
    assert_eq!((first.call, first.target.as_deref(), first.times), ("execve", Some("/bin/sh"), 1));
    assert_eq!(ledger.note("execve", Some("/bin/sh".into())), None);
    assert_eq!(ledger.note("execve", Some("/bin/sh".into())), None);
    assert!(ledger.note("socket", None).is_some());
    let sums = ledger.sums();
    assert_eq!(sums, [Denied { call: "execve", target: Some("/bin/sh".into()), times: 2 }]);
    assert_eq!(ledger.sums(), []);
    assert_eq!(ledger.total(), 4);
}

#[test]
fn many_kinds_are_told_as_one_and_none_is_lost() {
    let mut ledger = Ledger::default();
    let mut told: u64 =
        (0..1000).filter_map(|n| ledger.note("openat", Some(format!("/secret/{n}")))).map(|d| d.times).sum();
    // Each call has its kind for the others.
    assert_eq!(told, KINDS_MAX as u64 + 1);
    told += ledger.sums().iter().map(|denied| denied.times).sum::<u64>();
    assert_eq!((told, ledger.total()), (1000, 1000));
}
