use super::*;

fn counts(at: Instant, slots: &[(u64, Counted)]) -> Counts {
    Counts { at, slots: slots.iter().copied().collect() }
}

#[test]
fn rates_are_of_slots_that_were_there_both_times() {
    let (now, then) = (Instant::now(), Counted { tokens: 100, queued: 10, queued_ns: 0, waiting: 3 });
    let later = Counted { tokens: 500, queued: 14, queued_ns: 0, waiting: 8 };
    let fresh = Counted { tokens: 9, ..later };
    let before = counts(now, &[(1, then), (2, later)]);
    let after = counts(now + Duration::from_secs(2), &[(1, later), (3, fresh), (2, Counted::default())]);
    let engines = between(&before, &after);
    assert!((engines.tokens - 200.0).abs() < 1e-9, "{engines:?}");
    // Eight wait, two are answered in a second.
    assert!((engines.queue_seconds - 4.0).abs() < 1e-9, "{engines:?}");
    let measured = Counted { queued: 20, queued_ns: 2_000_000_000, ..Counted::default() };
    let engines = between(&counts(now, &[(1, Counted::default())]), &counts(now + EVERY, &[(1, measured)]));
    assert!((engines.queue_seconds - 0.1).abs() < 1e-9, "{engines:?}");
}
