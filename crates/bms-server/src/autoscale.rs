//! How many slots a version shall have: the control law, without clocks, processes or sockets.
//!
//! Load is measured in slots. A version whose requests number `L` (those that wait and those in a slot) and of whose
//! slots each is trusted with `c` needs `L / c` of them, and one whose slots are to read and write `g` tokens a second
//! needs `G / g`; the larger counts. Let `u` be the mean of that over the last [`FAST_SECONDS`].
//!
//! - **Up** to `ceil(u)` when that is more, at most to twice as many at a time; the next time after the longer of
//!   [`FAST_SECONDS`] and what a slot takes to start, so that what was started can show first.
//! - **Down** to `ceil(d / HEADROOM)` where `d` is the largest `u` of the last [`STABLE_SECONDS`], when that is less, at most to
//!   half as many at a time, [`DOWN_SECONDS`] apart, and not within [`STABLE_SECONDS`] of the last way up.
//! - **Queue time** above its target says that slots are trusted with too much: `c` falls below what they have now, a
//!   fifth at a time, or, when slots went shortly before and no more is answered than then, below what each had to take
//!   over. It comes back slowly.
//! - **To zero** after the time without requests that the terms say, from zero to one with the first request.
//!
//! Two things follow. *It does not flap*: a way down to `n` is followed by a way up only when `u` rises by more than
//! `1 / HEADROOM` over all it was in the [`STABLE_SECONDS`] before, since `u > n >= d / HEADROOM`; constant load moves
//! nothing. That holds for terms whose `c` is no more than a slot works on at once: beyond that, slots that are full look
//! idle, and only a queue time says otherwise. *It is there in time*: see [`ready_within`].

use std::collections::VecDeque;

pub mod simulation;

/// The time over which load is averaged, in seconds.
pub const FAST_SECONDS: f64 = 3.0;
/// How long load must have been lower before slots go, in seconds.
pub const STABLE_SECONDS: f64 = 60.0;
/// The time between two ways down, in seconds.
pub const DOWN_SECONDS: f64 = 10.0;
/// The share of what the remaining slots are trusted with that the load may be after a way down.
pub const HEADROOM: f64 = 0.8;
/// How long it takes until three fifths of the trust that a missed queue time took are back, in seconds.
const TRUST_SECONDS: f64 = 3600.0;
/// The share of the concurrency asked for below which trust does not fall.
const TRUST_MIN: f64 = 1.0 / 16.0;
/// Answers a second that are no more than this share of those before slots went are the same flow.
const SAME_FLOW: f64 = 1.1;
/// Looks closer together than this count as one, in seconds.
const LOOK_SECONDS: f64 = 0.2;

/// What a version's slots are to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// Slots at least.
    pub min: usize,
    /// Slots at most, one or more.
    pub max: usize,
    /// Seconds without a request after which the last slot goes, when `min` is 0.
    pub idle_seconds: f64,
    /// Requests one slot shall have at a time, waiting ones included.
    pub concurrency: f64,
    /// Seconds a request may wait before it is worked on.
    pub queue_seconds: Option<f64>,
    /// Tokens one slot shall read and write in a second.
    pub tokens: Option<f64>,
}

/// What is seen of a version at one look.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    /// Slots that answer.
    pub ready: usize,
    /// Requests that wait or have a slot.
    pub requests: usize,
    /// Seconds a request waits at present before it is worked on.
    pub queue_seconds: f64,
    /// Requests answered in a second by all slots.
    pub answers: f64,
    /// Tokens read and written in a second by all slots.
    pub tokens: f64,
    /// Seconds since the last request; 0 while there is one.
    pub idle_seconds: f64,
    /// Seconds a slot takes to start, as far as known.
    pub start_seconds: f64,
}

/// The law for one version, with what it remembers.
#[derive(Clone, Debug)]
pub struct Law {
    wanted: usize,
    /// What each look said, and since when it held: (until, seconds, slots needed, requests).
    fast: VecDeque<(f64, f64, f64, f64)>,
    /// The means of the fast window: (at, slots needed).
    stable: VecDeque<(f64, f64)>,
    looked: Option<f64>,
    up_at: f64,
    down_at: f64,
    /// When the first way up was; there is no pause before it.
    may_rise_at: f64,
    /// The share of the concurrency asked for that a slot is trusted with.
    trust: f64,
    doubted_at: f64,
    /// What there was at the last way down.
    fell: Option<Fall>,
}

/// A way down.
#[derive(Clone, Copy, Debug)]
struct Fall {
    at: f64,
    /// Slots that stayed.
    slots: usize,
    /// Requests that waited or had a slot.
    open: f64,
    /// Answers a second.
    answers: f64,
}

impl Law {
    /// A law that begins with so many slots.
    pub fn new(wanted: usize) -> Self {
        Law {
            wanted,
            fast: VecDeque::new(),
            stable: VecDeque::new(),
            looked: None,
            up_at: f64::NEG_INFINITY,
            down_at: f64::NEG_INFINITY,
            may_rise_at: f64::NEG_INFINITY,
            trust: 1.0,
            doubted_at: f64::NEG_INFINITY,
            fell: None,
        }
    }

    /// How many slots are wanted since the last step.
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    /// Has at least so many slots wanted, as after a change of version: they go again as any others.
    pub fn raise_to(&mut self, slots: usize, now: f64) {
        if self.wanted < slots {
            (self.wanted, self.up_at) = (slots, now);
        }
    }

    /// Takes a look into account. `now` is in seconds from anywhere and never falls. Gives how many slots are wanted.
    pub fn step(&mut self, now: f64, terms: &Terms, seen: &Seen) -> usize {
        let first = self.looked.is_none();
        let passed = now - self.looked.unwrap_or(now);
        self.looked = Some(now);
        if first {
            // What was before is not known, hence may have been as much as there are slots for.
            self.up_at = self.up_at.max(now);
        }
        let need = self.look(now, passed, terms, seen);
        let (min, max) = (terms.min.min(terms.max), terms.max.max(1));
        let before = self.wanted;
        if before == 0 && seen.requests != 0 {
            self.wanted = 1;
            self.rose(now, seen);
        } else if need.ceil() as usize > before && before != 0 && self.may_rise_at <= now {
            self.wanted = (need.ceil() as usize).min(before.saturating_mul(2));
            self.rose(now, seen);
        } else if min == 0 && seen.requests == 0 && terms.idle_seconds <= seen.idle_seconds {
            self.wanted = 0;
        } else if self.up_at + STABLE_SECONDS <= now && self.down_at + DOWN_SECONDS <= now {
            let most = self.stable.iter().map(|(_, need)| *need).fold(0.0, f64::max);
            let keep = ((most / HEADROOM).ceil() as usize).max(before.div_ceil(2)).max(before.min(1));
            if keep < before {
                (self.wanted, self.down_at) = (keep, now);
                self.fell = Some(Fall { at: now, slots: keep, open: self.open(), answers: seen.answers });
            }
        }
        self.wanted = self.wanted.clamp(min, max);
        self.wanted
    }

    fn rose(&mut self, now: f64, seen: &Seen) {
        self.up_at = now;
        self.may_rise_at = now + FAST_SECONDS.max(seen.start_seconds);
    }

    /// The mean of the fast window, in slots.
    fn look(&mut self, now: f64, passed: f64, terms: &Terms, seen: &Seen) -> f64 {
        self.trust = (self.trust * (passed / TRUST_SECONDS).exp()).min(1.0);
        let trusted = (terms.concurrency * self.trust).max(f64::MIN_POSITIVE);
        let tokens = terms.tokens.map_or(0.0, |tokens| seen.tokens / tokens);
        let need = (seen.requests as f64 / trusted).max(tokens);
        let requests = seen.requests as f64;
        match self.fast.back_mut() {
            // Of looks close together the last one holds for all of their time.
            Some((until, seconds, last, open)) if passed < LOOK_SECONDS && *seconds < LOOK_SECONDS => {
                *seconds += passed;
                (*until, *last, *open) = (now, need, requests);
            }
            _ => self.fast.push_back((now, passed, need, requests)),
        }
        while self.fast.front().is_some_and(|(until, ..)| *until + FAST_SECONDS < now) {
            self.fast.pop_front();
        }
        let mean = mean(self.fast.iter().map(|(_, seconds, need, _)| (*seconds, *need)));
        match self.stable.back_mut() {
            Some((at, most)) if now - *at < LOOK_SECONDS => *most = most.max(mean),
            _ => self.stable.push_back((now, mean)),
        }
        while self.stable.front().is_some_and(|(at, _)| *at + STABLE_SECONDS < now) {
            self.stable.pop_front();
        }
        self.doubt(now, terms, seen);
        mean
    }

    /// Requests that waited or had a slot, in the mean of the fast window.
    fn open(&self) -> f64 {
        mean(self.fast.iter().map(|(_, seconds, _, open)| (*seconds, *open)))
    }

    /// Trusts slots with less when requests wait for too long with what they have.
    fn doubt(&mut self, now: f64, terms: &Terms, seen: &Seen) {
        let is_missed = terms.queue_seconds.is_some_and(|target| target < seen.queue_seconds);
        // While slots start it says nothing that was not known.
        if !is_missed || seen.ready < self.wanted.max(1) || now < self.doubted_at + FAST_SECONDS {
            return;
        }
        let share = |open: f64, slots: usize| HEADROOM * open / slots.max(1) as f64 / terms.concurrency;
        let has = share(self.open(), seen.ready).max(self.trust * HEADROOM);
        // The same flow was worked on without waiting before slots went: these cannot hold what was open then.
        let fell = self.fell.filter(|fell| now <= fell.at + STABLE_SECONDS);
        let fell = fell.filter(|fell| seen.answers <= SAME_FLOW * fell.answers);
        let held = fell.map_or(1.0, |fell| share(fell.open, fell.slots));
        self.trust = self.trust.min(has).min(held).max(TRUST_MIN);
        self.doubted_at = now;
    }
}

/// The mean of values by the seconds for which they held; of a first look alone, its value.
fn mean(values: impl Iterator<Item = (f64, f64)> + Clone) -> f64 {
    let seconds: f64 = values.clone().map(|(seconds, _)| seconds).sum();
    match 0.0 < seconds {
        true => values.map(|(seconds, value)| seconds * value).sum::<f64>() / seconds,
        false => values.last().map_or(0.0, |(_, value)| value),
    }
}

/// The time in seconds after which `to` slots answer when load rises from what `from` slots are enough for to what
/// takes `to`, and with it the longest time by which a request is answered later than before, as long as `to` is not above
/// the terms' most:
///
/// `look + F + S + (k - 1) max(FAST_SECONDS, S)` with `F = max(FAST_SECONDS, 2 service)` and `k = ceil(log2(to / from))`.
///
/// `look` is the time between two looks, `S` what a slot takes to start, `service` what a request takes in a slot. It
/// takes one window until the load shows, `k` ways up that double at most, each after the one before could show, and the
/// start of the last slots. While too few slots answer, work piles up by what comes in excess of what they do; those
/// that come then do at least as much as comes, hence whoever comes last waits no longer than the pile took to grow.
/// Requests are taken to be worked on in the order in which they come, by slots that hold more than the terms'
/// concurrency when they are full.
pub fn ready_within(from: usize, to: usize, look: f64, start: f64, service: f64) -> f64 {
    let ways = (to.max(1) as f64 / from.max(1) as f64).log2().ceil().max(0.0);
    if from == 0 {
        // The first slot is started by the first request; the others follow.
        return look + start + ready_within(1, to, look, start, service);
    }
    if ways == 0.0 {
        return 0.0;
    }
    let shows = FAST_SECONDS.max(2.0 * service);
    look + shows + start + (ways - 1.0) * FAST_SECONDS.max(start)
}

#[cfg(test)]
mod tests;
