use super::{month_around, parse};

#[track_caller]
fn expect(within: &str, first: &str, next: &str) {
    let day = |text| parse(text).unwrap() / super::DAY_MS;
    assert_eq!(month_around(day(within)), day(first)..day(next), "{within}");
}

#[test]
fn months_begin_and_end_as_in_the_calendar() {
    expect("2026-11-28", "2026-11-01", "2026-12-01");
    expect("2026-11-01", "2026-11-01", "2026-12-01");
    expect("2026-10-31", "2026-10-01", "2026-11-01");
    expect("2026-12-31", "2026-12-01", "2027-01-01");
    expect("2027-01-01", "2027-01-01", "2027-02-01");
    expect("2028-02-29", "2028-02-01", "2028-03-01");
    expect("2027-02-28", "2027-02-01", "2027-03-01");
    expect("2000-02-29", "2000-02-01", "2000-03-01");
    expect("2100-02-28", "2100-02-01", "2100-03-01");
    expect("1970-01-01", "1970-01-01", "1970-02-01");
}

#[test]
fn every_day_is_in_one_month() {
    let mut day = 0;
    while day < 200_000 {
        let month = month_around(day);
        assert!(month.start == day && (28..=31).contains(&(month.end - month.start)), "{month:?}");
        assert!(month.clone().all(|day| month_around(day) == month));
        day = month.end;
    }
}
