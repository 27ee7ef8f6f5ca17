//! What is counted of a key, or of a model within a key, and whether one more request is within its quota.
//!
//! Quotas of a month are sums of days: what is left of one when a day begins is a quota of that day.

use std::time::{Duration, Instant};

use bms_bundle::month_around;
use bms_registry::{OthersUse, Spent};
use bms_wire::api::Quota;

use super::bucket::{Bucket, Rate, Standing};
use super::now_ms;
use super::share::{self, Others};

const DAY_SECONDS: i64 = 24 * 3600;
/// When somebody may try again whose open requests are too many, or for whom this replica holds nothing more at the moment.
const PAUSE: Duration = Duration::from_secs(1);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Requests,
    Tokens,
}

/// In what time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span {
    Minute,
    Day,
    Month,
    /// At a time: open requests.
    Once,
}

/// The time and who else serves, as this process knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Days since 1970, in UTC.
    pub(super) day: i64,
    pub(super) replicas: u64,
    pub(super) now: Instant,
}

/// Why a request is not let in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    pub(super) kind: Kind,
    pub(super) span: Span,
    pub(super) limit: u64,
    pub(super) wait: Duration,
    /// There is something left, which others hold.
    pub(super) is_elsewhere: bool,
}

impl Refusal {
    pub(super) fn open(limit: u64) -> Self {
        Refusal { kind: Kind::Requests, span: Span::Once, limit, wait: PAUSE, is_elsewhere: false }
    }

    fn minute(kind: Kind, rate: Rate, wait: Duration) -> Self {
        Refusal { kind, span: Span::Minute, limit: rate.per_minute, wait, is_elsewhere: false }
    }

    /// The limit's name in the metrics.
    pub(super) fn label(&self, of_model: bool) -> &'static str {
        match (self.kind, self.span, of_model) {
            (_, Span::Once, false) => "concurrent",
            (_, Span::Once, true) => "model_concurrent",
            (Kind::Requests, Span::Minute, false) => "requests_per_minute",
            (Kind::Requests, Span::Minute, true) => "model_requests_per_minute",
            (Kind::Requests, Span::Day, false) => "requests_per_day",
            (Kind::Requests, Span::Day, true) => "model_requests_per_day",
            (Kind::Requests, Span::Month, false) => "requests_per_month",
            (Kind::Requests, Span::Month, true) => "model_requests_per_month",
            (Kind::Tokens, Span::Minute, false) => "tokens_per_minute",
            (Kind::Tokens, Span::Minute, true) => "model_tokens_per_minute",
            (Kind::Tokens, Span::Day, false) => "tokens_per_day",
            (Kind::Tokens, Span::Day, true) => "model_tokens_per_day",
            (Kind::Tokens, Span::Month, false) => "tokens_per_month",
            (Kind::Tokens, Span::Month, true) => "model_tokens_per_month",
        }
    }

    /// What is said of it, after who and before of which model.
    pub(super) fn said(&self) -> String {
        let what = match self.kind {
            Kind::Requests => "requests",
            Kind::Tokens => "tokens",
        };
        let limit = self.limit;
        let of = match self.span {
            Span::Once => return format!("has {limit} requests open already"),
            Span::Minute => return format!("may use {limit} {what} a minute"),
            Span::Day => "today",
            Span::Month => "this month",
        };
        match self.is_elsewhere {
            false => format!("has used its {limit} {what} of {of} (UTC)"),
            true => format!("has used its share at this replica of what is left of {limit} {what} of {of}"),
        }
    }
}

/// Requests and tokens of a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Used {
    day: i64,
    requests: u64,
    tokens: u64,
}

impl Used {
    fn of(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Requests => self.requests,
            Kind::Tokens => self.tokens,
        }
    }
}

/// Up to what this process may count today, where it has written that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held {
    requests: Option<u64>,
    tokens: Option<u64>,
}

impl Held {
    fn of(self, kind: Kind) -> Option<u64> {
        match kind {
            Kind::Requests => self.requests,
            Kind::Tokens => self.tokens,
        }
    }

    /// Of each the smaller: what holds whether the new one is written or not.
    fn min(self, other: Held) -> Held {
        let min =
            |one: Option<u64>, two: Option<u64>| one.zip(two).map_or(one.or(two), |(a, b)| Some(a.min(b)));
        Held { requests: min(self.requests, other.requests), tokens: min(self.tokens, other.tokens) }
    }
}

/// What is written of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) day: i64,
    pub(super) requests: Spent,
    pub(super) tokens: Spent,
}

/// What this process counted, and what it heard.
#[derive(Debug)]
pub(super) struct Tally {
    requests: Bucket,
    tokens: Bucket,
    /// What this process counted on this day.
    today: Used,
    /// What it counted on days before and has not written down yet.
    before: Vec<Used>,
    /// It has counted since it was written down last.
    is_dirty: bool,
    /// Something of this day was given to be written.
    is_told: bool,
    /// What the others counted today; not known at first.
    others: Option<(i64, OthersUse)>,
    /// What all counted in this month before this day.
    earlier: Used,
    held: Held,
    /// It has counted today as the only replica, which holds nothing.
    was_alone: bool,
    /// What is being written.
    telling: Option<Telling>,
}

/// What was given to be written.
#[derive(Clone, Copy, Debug)]
struct Telling {
    held: Held,
    /// So many of the days before.
    before: usize,
}

impl Tally {
    pub(super) fn new(day: i64) -> Self {
        Tally {
            requests: Bucket::new(Instant::now()),
            tokens: Bucket::new(Instant::now()),
            today: Used { day, ..Used::default() },
            before: Vec::new(),
            is_dirty: false,
            is_told: false,
            others: None,
            earlier: Used { day, ..Used::default() },
            held: Held::default(),
            was_alone: false,
            telling: None,
        }
    }

    /// Begins a new day if it is one.
    fn turn(&mut self, day: i64) {
        if day <= self.today.day {
            return;
        }
        let (of, others) = (self.today, self.others.map(|(_, others)| others).unwrap_or_default());
        self.earlier = match month_around(day).contains(&of.day) {
            true => Used {
                day,
                requests: self.earlier.requests + of.requests + others.requests.used,
                tokens: self.earlier.tokens + of.tokens + others.tokens.used,
            },
            false => Used { day, ..Used::default() },
        };
        if self.is_dirty || self.telling.is_some() {
            self.before.push(of);
        }
        self.today = Used { day, ..Used::default() };
        self.others = self.others.map(|_| (day, OthersUse::default()));
        (self.is_dirty, self.is_told, self.was_alone) = (false, false, false);
        self.held = Held::default();
    }

    fn others(&self, kind: Kind) -> Others {
        let (_, others) = self.others.unwrap_or_default();
        let Spent { used, held } = match kind {
            Kind::Requests => others.requests,
            Kind::Tokens => others.tokens,
        };
        Others { used, held, writing: others.counting }
    }

    /// What may be used today, because of which limit.
    fn budget(&self, quota: &Quota, kind: Kind) -> Option<(u64, Span, u64)> {
        let (day, month) = match kind {
            Kind::Requests => (quota.requests_per_day, quota.requests_per_month),
            Kind::Tokens => (quota.tokens_per_day, quota.tokens_per_month),
        };
        let month = month.map(|limit| (limit.saturating_sub(self.earlier.of(kind)), Span::Month, limit));
        let day = day.map(|limit| (limit, Span::Day, limit));
        // Of two that end together the one that ends for longer.
        month.into_iter().chain(day).min_by_key(|(budget, ..)| *budget)
    }

    /// Whether nothing more may be used of a quota of a day or a month.
    fn is_used_up(&self, quota: &Quota, kind: Kind, moment: Moment) -> Result<(), Refusal> {
        let Some((budget, span, limit)) = self.budget(quota, kind) else { return Ok(()) };
        let (own, others) = (self.today.of(kind), self.others(kind));
        if budget <= own.saturating_add(others.used) {
            let wait = until_end(span, self.today.day, now_ms());
            return Err(Refusal { kind, span, limit, wait, is_elsewhere: false });
        }
        let held = || self.held.of(kind).unwrap_or_else(|| share::unwritten(budget, moment.replicas));
        if 1 < moment.replicas && held() <= own {
            return Err(Refusal { kind, span, limit, wait: PAUSE, is_elsewhere: true });
        }
        Ok(())
    }

    /// Takes one request, or nothing when it is beyond the quota.
    pub(super) fn admit(&mut self, quota: &Quota, moment: Moment) -> Result<(), Refusal> {
        self.turn(moment.day);
        self.is_used_up(quota, Kind::Requests, moment)?;
        self.is_used_up(quota, Kind::Tokens, moment)?;
        // Somebody who is overdrawn waits; how many tokens this one takes is known once it was read.
        if let Some(rate) = rate(quota.tokens_per_minute, moment) {
            let took = self.tokens.take(0, rate, moment.now);
            took.map_err(|wait| Refusal::minute(Kind::Tokens, rate, wait))?;
        }
        if let Some(rate) = rate(quota.requests_per_minute, moment) {
            let took = self.requests.take(1, rate, moment.now);
            took.map_err(|wait| Refusal::minute(Kind::Requests, rate, wait))?;
        }
        self.today.requests += 1;
        self.is_dirty = true;
        self.was_alone |= moment.replicas <= 1;
        Ok(())
    }

    /// A request that was let in is refused after all: it does not count as one.
    pub(super) fn give_back(&mut self, quota: &Quota, moment: Moment) {
        self.turn(moment.day);
        self.today.requests = self.today.requests.saturating_sub(1);
        self.is_dirty = true;
        if let Some(rate) = rate(quota.requests_per_minute, moment) {
            self.requests.settle(-1.0, rate, moment.now);
        }
    }

    /// Takes so many tokens off the limit of a minute.
    pub(super) fn take_tokens(&mut self, tokens: u64, quota: &Quota, moment: Moment) -> Result<(), Refusal> {
        let Some(rate) = rate(quota.tokens_per_minute, moment) else { return Ok(()) };
        let took = self.tokens.take(tokens, rate, moment.now);
        took.map_err(|wait| Refusal::minute(Kind::Tokens, rate, wait))
    }

    /// Puts back what [`Tally::take_tokens`] took.
    pub(super) fn return_tokens(&mut self, tokens: u64, quota: &Quota, moment: Moment) {
        if let Some(rate) = rate(quota.tokens_per_minute, moment) {
            self.tokens.settle(-(tokens as f64), rate, moment.now);
        }
    }

    /// A request is over that used so many tokens, and took so many when it came.
    pub(super) fn settle(&mut self, used: u64, taken: u64, quota: &Quota, moment: Moment) {
        self.turn(moment.day);
        if let Some(rate) = rate(quota.tokens_per_minute, moment) {
            self.tokens.settle(used as f64 - taken as f64, rate, moment.now);
        }
        self.today.tokens += used;
        self.is_dirty |= used != 0;
    }

    /// How its limits of a minute stand: of requests, and of tokens.
    pub(super) fn standings(&mut self, quota: &Quota, moment: Moment) -> [Option<Standing>; 2] {
        let (requests, tokens) =
            (rate(quota.requests_per_minute, moment), rate(quota.tokens_per_minute, moment));
        [
            requests.map(|rate| self.requests.standing(rate, moment.now)),
            tokens.map(|rate| self.tokens.standing(rate, moment.now)),
        ]
    }

    /// Takes over what the others counted today. What they let in since the last time is taken off the limits of a minute here.
    pub(super) fn hear(&mut self, heard: OthersUse, quota: &Quota, moment: Moment) {
        self.turn(moment.day);
        let last = self.others.replace((moment.day, heard));
        if 1 < moment.replicas && std::mem::take(&mut self.was_alone) {
            // It has counted while it was alone. Until this is written the others do not know of it, for the once.
            let wanted = self.wanted(quota, moment);
            let is_new = wanted.requests.is_some() && self.held.requests.is_none()
                || wanted.tokens.is_some() && self.held.tokens.is_none();
            self.held.requests = self.held.requests.or(wanted.requests);
            self.held.tokens = self.held.tokens.or(wanted.tokens);
            self.is_dirty |= is_new;
        }
        let Some((_, last)) = last.filter(|(day, _)| *day == moment.day) else { return };
        if let Some(rate) = rate(quota.requests_per_minute, moment) {
            let more = heard.requests.used.saturating_sub(last.requests.used);
            self.requests.settle(more as f64, rate, moment.now);
        }
        if let Some(rate) = rate(quota.tokens_per_minute, moment) {
            let more = heard.tokens.used.saturating_sub(last.tokens.used);
            self.tokens.settle(more as f64, rate, moment.now);
        }
    }

    /// Takes over what all counted in the month before this day.
    pub(super) fn hear_earlier(&mut self, day: i64, (requests, tokens): (u64, u64)) {
        if day == self.today.day {
            self.earlier = Used { day, requests, tokens };
        }
    }

    /// What it should hold, by what was heard.
    fn wanted(&self, quota: &Quota, moment: Moment) -> Held {
        let held = |kind| {
            let (budget, ..) = self.budget(quota, kind)?;
            Some(share::held(budget, self.today.of(kind), self.others(kind), moment.replicas))
        };
        match moment.replicas {
            0 | 1 => Held::default(),
            _ => Held { requests: held(Kind::Requests), tokens: held(Kind::Tokens) },
        }
    }

    /// Whether there is something to write down: what it counted, or another share than was written.
    pub(super) fn has_to_tell(&self, quota: &Quota, moment: Moment) -> bool {
        if self.has_unwritten() || moment.replicas <= 1 {
            return self.has_unwritten();
        }
        let is_wanted = |kind| {
            let budget = self.budget(quota, kind);
            budget.is_some_and(|(budget, ..)| share::is_wanted(budget, self.others(kind)))
        };
        let writes = self.is_told || is_wanted(Kind::Requests) || is_wanted(Kind::Tokens);
        writes && self.wanted(quota, moment) != self.held
    }

    pub(super) fn has_unwritten(&self) -> bool {
        // What is being written may not get there.
        self.is_dirty || !self.before.is_empty() || self.telling.is_some()
    }

    /// What is to be written down, of days before and of today.
    pub(super) fn tell(&mut self, quota: &Quota, moment: Moment) -> Vec<Line> {
        self.turn(moment.day);
        if !self.has_to_tell(quota, moment) {
            return Vec::new();
        }
        let held = self.wanted(quota, moment);
        let line = |used: &Used, held: Held| Line {
            day: used.day,
            requests: Spent { used: used.requests, held: held.requests.unwrap_or(0) },
            tokens: Spent { used: used.tokens, held: held.tokens.unwrap_or(0) },
        };
        let before = self.before.iter().map(|before| line(before, Held::default()));
        let lines = before.chain([line(&self.today, held)]).collect();
        // What comes while it is written makes it dirty again, and is within what others know whether it gets written or not.
        (self.is_dirty, self.is_told) = (false, true);
        let now = |kind| {
            let first =
                self.budget(quota, kind).map(|(budget, ..)| share::unwritten(budget, moment.replicas));
            self.held.of(kind).or(first)
        };
        self.held = match moment.replicas {
            0 | 1 => held,
            _ => held.min(Held { requests: now(Kind::Requests), tokens: now(Kind::Tokens) }),
        };
        self.telling = Some(Telling { held, before: self.before.len() });
        lines
    }

    /// What [`Tally::tell`] gave is written down, or is not.
    pub(super) fn was_written(&mut self, written: bool) {
        let Some(Telling { held, before }) = self.telling.take() else { return };
        match written {
            false => self.is_dirty = true,
            true => {
                // A day that ended meanwhile comes after them.
                self.before.drain(..before);
                if self.is_told {
                    self.held = held;
                }
            }
        }
    }

    /// Whether it holds nothing that a new one would not: it counted nothing today, and all before is written.
    pub(super) fn is_blank(&self, day: i64) -> bool {
        !self.has_unwritten() && (self.today.day < day || !self.is_told)
    }
}

fn rate(per_minute: Option<u64>, moment: Moment) -> Option<Rate> {
    per_minute.map(|per_minute| Rate { per_minute, replicas: moment.replicas })
}

/// How long until the day, or the month it is in, is over. At least a second: the clock here may be ahead of the database's.
fn until_end(span: Span, day: i64, now_ms: i64) -> Duration {
    let end = match span {
        Span::Month => month_around(day).end,
        Span::Day | Span::Minute | Span::Once => day + 1,
    };
    let seconds = end * DAY_SECONDS - now_ms.div_euclid(1000);
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default().max(1))
}

#[cfg(test)]
mod tests;
