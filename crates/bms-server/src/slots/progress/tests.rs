use bms_wire::limits;

use super::*;

const HUNG: Duration = Duration::from_secs(3);
const SPINNING: Duration = Duration::from_secs(limits::SLOT_SPIN_SECONDS_MAX);
const LOOK: Duration = Duration::from_millis(375);

/// Looks until `seen` brings a verdict, or for ten minutes; after how long it did.
fn verdict(mut seen: impl FnMut(Duration) -> Seen) -> Option<(Duration, Verdict)> {
    let begin = Instant::now();
    let mut watchdog = Watchdog::new(HUNG, SPINNING, begin);
    let mut since = Duration::ZERO;
    while since < Duration::from_secs(600) {
        since += LOOK;
        if let (_, Some(verdict)) = watchdog.look(seen(since), begin + since) {
            return Some((since, verdict));
        }
    }
    None
}

/// Nothing has moved since the beginning.
fn still(since: Duration) -> Seen {
    Seen { waits: true, moved_ago: since, used: Duration::ZERO, faults: 0, would_run: false }
}

#[test]
fn what_stands_still_while_requests_wait_is_hung_within_five_seconds() {
    let (after, verdict) = verdict(still).unwrap();
    assert!(after <= Duration::from_secs(5), "{after:?}");
    assert!(matches!(verdict, Verdict::Hung(_)), "{verdict:?}");
}

#[test]
fn nothing_is_hung_without_requests() {
    assert_eq!(verdict(|since| Seen { waits: false, ..still(since) }), None);
}

#[test]
fn a_prefill_of_any_length_goes_on_while_its_steps_do() {
    // A step every two seconds for ten minutes, on a process whose processor time cannot be read.
    let moved_ago = |since: Duration| Duration::from_millis((since.as_millis() % 2000) as u64);
    assert_eq!(verdict(|since| Seen { moved_ago: moved_ago(since), ..still(since) }), None);
}

#[test]
fn a_long_run_goes_on_while_it_computes_up_to_the_limit() {
    let (after, verdict) = verdict(|since| Seen { used: since / 2, ..still(since) }).unwrap();
    assert!((SPINNING..SPINNING + LOOK).contains(&after), "{after:?}");
    assert!(matches!(verdict, Verdict::Spinning(_)), "{verdict:?}");
}

#[test]
fn housekeeping_is_no_work() {
    // Two hundredths of a processor: threads that wake up to look.
    let (after, _) = verdict(|since| Seen { used: since / 50, ..still(since) }).unwrap();
    assert!(after <= Duration::from_secs(5), "{after:?}");
}

#[test]
fn waiting_for_a_processor_or_the_disk_is_work() {
    let ten = Duration::from_secs(10);
    let starved = verdict(|since| Seen { would_run: since < ten, ..still(since) });
    assert!(ten + HUNG - LOOK <= starved.unwrap().0);
    let paging = verdict(|since| Seen { faults: since.min(ten).as_secs(), ..still(since) });
    assert!(ten + HUNG - Duration::from_secs(1) <= paging.unwrap().0);
}

#[test]
fn a_watchdog_that_was_stopped_itself_judges_nothing_at_once() {
    let begin = Instant::now();
    let mut watchdog = Watchdog::new(HUNG, SPINNING, begin);
    let minute = Duration::from_secs(60);
    assert_eq!(watchdog.look(still(minute), begin + minute).1, None);
    let later = minute + HUNG;
    let verdicts: Vec<_> =
        (1..=8).map(|look| watchdog.look(still(later), begin + minute + look * LOOK).1).collect();
    assert!(verdicts[..7].iter().all(Option::is_none) && verdicts[7].is_some(), "{verdicts:?}");
}

#[test]
fn reports_are_told_from_other_lines() {
    let reports = Reports::default();
    assert!(reports.last().is_none() && !reports.heard_within(HUNG));
    for line in [
        "a library says hello",
        "{\"progress\":",
        "{\"progress\":{\"steps\":-1,\"waiting\":0}}",
        "{\"ready\":true}",
    ] {
        reports.hear(line.as_bytes());
        assert!(reports.last().is_none(), "{line}");
    }
    let said = Progress { steps: 7, waiting: 2 };
    reports.hear(&serde_json::to_vec(&Report::from(said)).unwrap());
    assert_eq!(reports.last(), Some(said));
    assert!(reports.heard_within(HUNG));
}
