//! Points in time as people write them, UTC.

use std::ops::Range;

use bms_wire::{Code, Error, Result};
use toml::value::{Date, Datetime, Offset, Time};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Reads `2027-01-31` or `2027-01-31T12:00:00Z`.
///
/// # Errors
/// [`Code::InvalidRequest`].
pub(crate) fn parse(text: &str) -> Result<i64> {
    let wrong = || {
        Error::new(Code::InvalidRequest, format!("{text:?} is not a date"))
            .hint("Write it as 2027-01-31 or 2027-01-31T12:00:00Z.")
    };
    let datetime: Datetime = text.trim().parse().map_err(|e| wrong().because(e))?;
    from_toml(&datetime).ok_or_else(wrong)
}

/// Milliseconds since 1970; without a time midnight, without an offset UTC. `None` for a time of day alone, and for what its
/// offset moves out of the years that can be written.
pub(crate) fn from_toml(datetime: &Datetime) -> Option<i64> {
    let date = datetime.date?;
    let days = days_from_civil(i64::from(date.year), i64::from(date.month), i64::from(date.day));
    let of_day = datetime.time.map_or(0, |time| {
        let seconds = (i64::from(time.hour) * 60 + i64::from(time.minute)) * 60 + i64::from(time.second);
        seconds * 1000 + i64::from(time.nanosecond / 1_000_000)
    });
    let offset = match datetime.offset {
        Some(Offset::Custom { minutes }) => i64::from(minutes) * 60_000,
        Some(Offset::Z) | None => 0,
    };
    let at_ms = days * DAY_MS + of_day - offset;
    let written = days_from_civil(0, 1, 1) * DAY_MS..days_from_civil(10_000, 1, 1) * DAY_MS;
    written.contains(&at_ms).then_some(at_ms)
}

/// The time as TOML writes it, to the millisecond.
pub(crate) fn to_toml(at_ms: i64) -> Datetime {
    let (year, month, day) = civil_from_days(at_ms.div_euclid(DAY_MS));
    let of_day = at_ms.rem_euclid(DAY_MS);
    let second = of_day / 1000;
    // Within the range that was read or the clock gives; years past that would be shown wrong, not stored wrong.
    let part = |value: i64| u8::try_from(value).unwrap_or(0);
    Datetime {
        date: Some(Date {
            year: u16::try_from(year).unwrap_or(u16::MAX),
            month: part(month),
            day: part(day),
        }),
        time: Some(Time {
            hour: part(second / 3600),
            minute: part(second / 60 % 60),
            second: part(second % 60),
            nanosecond: (of_day % 1000) as u32 * 1_000_000,
        }),
        offset: Some(Offset::Z),
    }
}

/// The time for people, to the second.
pub(crate) fn to_text(at_ms: i64) -> String {
    to_toml(at_ms.div_euclid(1000) * 1000).to_string()
}

/// The days of the calendar month that a day is in; both are counted from 1970-01-01.
pub(crate) fn month_around(day: i64) -> Range<i64> {
    let (year, month, _) = civil_from_days(day);
    let (next_year, next) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    days_from_civil(year, month, 1)..days_from_civil(next_year, next, 1)
}

/// Days since 1970-01-01 in the Gregorian calendar. Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms",
/// <https://howardhinnant.github.io/date_algorithms.html>.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The inverse of [`days_from_civil`], from the same source.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests;
