use std::time::{Duration, Instant};

use bms_registry::{OthersUse, Spent};
use bms_wire::api::Quota;

use super::{Moment, Refusal, Span, Tally, until_end};

const DAY: i64 = 20_000;

fn at(day: i64, replicas: u64) -> Moment {
    Moment { day, replicas, now: Instant::now() }
}

fn a_day(requests: u64) -> Quota {
    Quota { requests_per_day: Some(requests), ..Quota::default() }
}

fn a_month(requests: u64) -> Quota {
    Quota { requests_per_month: Some(requests), ..Quota::default() }
}

/// Days since 1970 of a date, as a test names it.
fn day(date: &str) -> i64 {
    bms_bundle::parse_time(date).unwrap() / (24 * 3_600_000)
}

fn let_in(tally: &mut Tally, quota: &Quota, moment: Moment) -> u64 {
    (0..100_000).take_while(|_| tally.admit(quota, moment).is_ok()).count() as u64
}

fn others(used: u64, held: u64, counting: u64) -> OthersUse {
    OthersUse { requests: Spent { used, held }, tokens: Spent::default(), counting }
}

/// Replicas with one quota, and the table through which they hear of each other.
struct Replicas {
    quota: Quota,
    tallies: Vec<Tally>,
    table: Vec<Option<Spent>>,
    let_in: Vec<u64>,
    seed: u64,
}

impl Replicas {
    fn new(count: usize, requests: u64, seed: u64) -> Self {
        let tallies = (0..count).map(|_| Tally::new(DAY)).collect();
        let (table, let_in) = (vec![None; count], vec![0; count]);
        Replicas { quota: a_day(requests), tallies, table, let_in, seed: seed * 2 + 1 }
    }

    fn moment(&self) -> Moment {
        at(DAY, self.tallies.len() as u64)
    }

    /// Xorshift64, below a bound.
    fn random(&mut self, bound: u64) -> u64 {
        for shift in [13, -7, 17] {
            self.seed ^= if 0 < shift { self.seed << shift } else { self.seed >> -shift };
        }
        self.seed % bound
    }

    /// So many ask one replica.
    fn ask(&mut self, replica: usize, requests: u64) {
        let (quota, moment) = (self.quota, self.moment());
        for _ in 0..requests {
            self.let_in[replica] += u64::from(self.tallies[replica].admit(&quota, moment).is_ok());
        }
    }

    /// A replica talks to the others, while it is asked on; what is written may fail, and may be there all the same.
    fn exchange(&mut self, replica: usize, meanwhile: u64, fails: bool, is_there: bool) {
        let (quota, moment) = (self.quota, self.moment());
        let mut heard = OthersUse::default();
        for (_, spent) in self.table.iter().enumerate().filter(|(other, _)| *other != replica) {
            let Some(spent) = spent else { continue };
            heard.requests.used += spent.used;
            heard.requests.held += spent.used.max(spent.held);
            heard.counting += 1;
        }
        let tally = &mut self.tallies[replica];
        tally.hear(heard, &quota, moment);
        let lines = tally.tell(&quota, moment);
        self.ask(replica, meanwhile);
        if let Some(line) = lines.last()
            && (!fails || is_there)
        {
            self.table[replica] = Some(line.requests);
        }
        self.tallies[replica].was_written(!fails);
    }

    fn total(&self) -> u64 {
        self.let_in.iter().sum()
    }
}

#[test]
fn replicas_pass_a_quota_by_two_for_each_other_one_at_most_and_two_replicas_by_one() {
    let mut passed = [0; 6];
    for seed in 0..240 {
        let count = 2 + (seed % 4) as usize;
        let limit = [1, 2, 3, 10, 200, 1000][(seed / 4 % 6) as usize];
        let mut replicas = Replicas::new(count, limit, seed + 1);
        for _ in 0..400 {
            let replica = replicas.random(count as u64) as usize;
            let burst = 1 + replicas.random(limit);
            match replicas.random(8) {
                0..=2 => replicas.ask(replica, burst),
                3 => replicas.ask(replica, 1),
                4 => replicas.exchange(replica, burst, true, burst.is_multiple_of(2)),
                _ => replicas.exchange(replica, burst, false, true),
            }
        }
        let over = replicas.total().saturating_sub(limit);
        passed[count] = over.max(passed[count]);
        let bound = if count == 2 { 1 } else { 2 * (count as u64 - 1) };
        assert!(over <= bound, "{count} replicas let in {} of {limit} (seed {seed})", replicas.total());
    }
    eprintln!("passed at most, by the number of replicas: {passed:?}");
}

#[test]
fn whoever_is_asked_gets_all_of_it_within_a_few_exchanges() {
    for (count, limit) in [(2, 200), (3, 200), (5, 100_000), (4, 3), (2, 1)] {
        let mut replicas = Replicas::new(count, limit, 7);
        let mut exchanges = 0;
        while replicas.total() < limit {
            replicas.ask(0, limit);
            (0..count).for_each(|replica| replicas.exchange(replica, 0, false, true));
            exchanges += 1;
            assert!(exchanges <= 100, "{count} replicas let in {} of {limit}", replicas.total());
        }
        eprintln!("{count} replicas, one of which is asked: {limit} in {exchanges} exchanges");
    }
}

#[test]
fn one_replica_lets_in_all_at_once_and_shares_when_another_comes() {
    let (quota, mut tally) = (a_day(100), Tally::new(DAY));
    assert_eq!(let_in(&mut tally, &quota, at(DAY, 1)), 100);
    let mut tally = Tally::new(DAY);
    for _ in 0..60 {
        tally.admit(&quota, at(DAY, 1)).unwrap();
    }
    let line = tally.tell(&quota, at(DAY, 1)).pop().unwrap();
    assert_eq!(line.requests, Spent { used: 60, held: 0 }, "alone it holds nothing");
    tally.was_written(true);
    assert!(!tally.has_to_tell(&quota, at(DAY, 1)));
    tally.hear(OthersUse::default(), &quota, at(DAY, 2));
    assert!(tally.has_to_tell(&quota, at(DAY, 2)));
    assert_eq!(
        let_in(&mut tally, &quota, at(DAY, 2)),
        15,
        "a quarter is the other's, half of the rest of 40 would be 20"
    );
    let refusal = tally.admit(&quota, at(DAY, 2)).unwrap_err();
    assert!(refusal.is_elsewhere && refusal.wait == Duration::from_secs(1), "{refusal:?}");
    assert!(refusal.said().contains("share"));
    tally.hear(others(25, 25, 1), &quota, at(DAY, 2));
    let refusal = tally.admit(&quota, at(DAY, 2)).unwrap_err();
    assert!(!refusal.is_elsewhere && refusal.span == Span::Day, "{refusal:?}");
}

#[test]
fn a_month_is_what_all_counted_on_its_days() {
    let (quota, mut tally) = (a_month(10), Tally::new(0));
    let last = day("2028-02-28");
    tally.hear(others(2, 2, 0), &quota, at(last, 1));
    tally.hear_earlier(last, (3, 0));
    assert_eq!(let_in(&mut tally, &quota, at(last, 1)), 5);
    let leap = last + 1;
    let refusal = tally.admit(&quota, at(leap, 1)).unwrap_err();
    assert_eq!(
        (refusal.span, refusal.limit),
        (Span::Month, 10),
        "the 29th is in the same month, whatever is not read yet"
    );
    tally.hear_earlier(leap, (8, 0));
    assert_eq!(let_in(&mut tally, &quota, at(leap, 1)), 2, "what was read counts");
    tally.hear_earlier(last, (0, 0));
    assert!(tally.admit(&quota, at(leap, 1)).is_err(), "what was read of another day does not");
    let march = day("2028-03-01");
    assert_eq!(let_in(&mut tally, &quota, at(march, 1)), 10);
    let written: Vec<_> =
        tally.tell(&quota, at(march, 1)).iter().map(|line| (line.day, line.requests.used)).collect();
    assert_eq!(written, [(last, 5), (leap, 2), (march, 10)], "nothing was written for two midnights");
    tally.was_written(false);
    assert_eq!(tally.tell(&quota, at(march, 1)).len(), 3);
    tally.was_written(true);
    assert_eq!(tally.tell(&quota, at(march, 1)), []);
}

#[test]
fn the_tighter_of_a_day_and_a_month_refuses() {
    let quota = Quota { requests_per_day: Some(4), ..a_month(6) };
    let mut tally = Tally::new(DAY);
    assert_eq!(let_in(&mut tally, &quota, at(DAY, 1)), 4);
    assert_eq!(tally.admit(&quota, at(DAY, 1)).unwrap_err().label(false), "requests_per_day");
    assert_eq!(let_in(&mut tally, &quota, at(DAY + 1, 1)), 2);
    assert_eq!(tally.admit(&quota, at(DAY + 1, 1)).unwrap_err().label(true), "model_requests_per_month");
}

#[test]
fn a_clock_that_is_set_back_brings_no_day_back() {
    let (quota, mut tally) = (a_day(3), Tally::new(DAY));
    assert_eq!(let_in(&mut tally, &quota, at(DAY, 1)), 3);
    assert!(tally.admit(&quota, at(DAY - 1, 1)).is_err() && tally.admit(&quota, at(DAY - 40, 1)).is_err());
    assert_eq!(tally.tell(&quota, at(DAY - 1, 1)).last().unwrap().day, DAY);
}

#[test]
fn refusals_last_until_the_day_or_the_month_is_over() {
    let midnight = |date: &str| bms_bundle::parse_time(date).unwrap();
    let hours = |span, date: &str, now: i64| until_end(span, day(date), now).as_secs() / 3600;
    assert_eq!(hours(Span::Day, "2026-12-31", midnight("2026-12-31") + 1000), 23);
    assert_eq!(hours(Span::Month, "2026-12-31", midnight("2026-12-31")), 24);
    assert_eq!(hours(Span::Month, "2028-02-01", midnight("2028-02-01")), 29 * 24);
    assert_eq!(hours(Span::Month, "2027-02-28", midnight("2027-02-01")), 28 * 24);
    // The clock here is ahead of the database's.
    assert_eq!(
        until_end(Span::Day, day("2027-02-28"), midnight("2027-03-01") + 5000),
        Duration::from_secs(1)
    );
}

#[test]
fn a_day_that_ends_while_it_is_written_is_written_again_when_that_fails() {
    for written in [true, false] {
        let (quota, mut tally) = (a_day(9), Tally::new(DAY));
        tally.admit(&quota, at(DAY, 1)).unwrap();
        assert_eq!(tally.tell(&quota, at(DAY, 1)).len(), 1);
        tally.admit(&quota, at(DAY, 1)).unwrap();
        tally.admit(&quota, at(DAY + 1, 1)).unwrap();
        tally.was_written(written);
        let lines = tally.tell(&quota, at(DAY + 1, 1));
        assert_eq!(
            lines.iter().map(|line| (line.day, line.requests.used)).collect::<Vec<_>>(),
            [(DAY, 2), (DAY + 1, 1)]
        );
    }
}

#[test]
fn limits_have_names_of_their_own() {
    let mut labels = Vec::new();
    for of_model in [false, true] {
        for kind in [super::Kind::Requests, super::Kind::Tokens] {
            for span in [Span::Minute, Span::Day, Span::Month] {
                let refusal = Refusal { kind, span, limit: 5, wait: Duration::ZERO, is_elsewhere: false };
                assert!(refusal.said().contains('5'));
                labels.push(refusal.label(of_model));
            }
        }
        labels.push(Refusal::open(5).label(of_model));
    }
    let count = labels.len();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!((count, labels.len()), (14, 14));
}
