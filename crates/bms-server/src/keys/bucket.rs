//! A token bucket that can be overdrawn: what a request really used is known when it is over, and what other replicas let in
//! is known a second later. Crates that limit rates (`governor` and its like) decide on admission alone and take nothing off
//! afterwards.

use std::time::{Duration, Instant};

/// How fast a bucket fills, and how much is in it at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// So much a minute, over all replicas.
    pub(super) per_minute: u64,
    /// Of a burst each replica has its share.
    pub(super) replicas: u64,
}

impl Rate {
    /// At least one, so that something can be let in at all.
    fn capacity(self) -> f64 {
        (self.per_minute as f64 / self.replicas as f64).max(1.0)
    }

    fn per_second(self) -> f64 {
        self.per_minute as f64 / 60.0
    }

    fn seconds_for(self, amount: f64) -> Duration {
        Duration::try_from_secs_f64(amount.max(0.0) / self.per_second()).unwrap_or(Duration::MAX)
    }
}

/// What is left of one limit.
#[derive(Debug)]
pub(super) struct Bucket {
    level: f64,
    at: Instant,
}

/// How a limit stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Standing {
    /// So much a minute.
    pub(crate) limit: u64,
    /// What could be taken now.
    pub(crate) remaining: u64,
    /// How long until it is full.
    pub(crate) reset: Duration,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(now: Instant) -> Self {
        Bucket { level: f64::INFINITY, at: now }
    }

    fn fill(&mut self, rate: Rate, now: Instant) {
        let more = now.saturating_duration_since(self.at).as_secs_f64() * rate.per_second();
        (self.level, self.at) = ((self.level + more).min(rate.capacity()), now);
    }

    /// Takes so much out, or says how long it takes until that is there. More than a full bucket holds is let in when it is
    /// full, and leaves it overdrawn.
    pub(super) fn take(&mut self, amount: u64, rate: Rate, now: Instant) -> Result<(), Duration> {
        self.fill(rate, now);
        let needed = (amount as f64).min(rate.capacity());
        if self.level < needed {
            return Err(rate.seconds_for(needed - self.level));
        }
        self.level -= amount as f64;
        Ok(())
    }

    /// Takes out what was used already, or puts back what was not, which is negative.
    pub(super) fn settle(&mut self, amount: f64, rate: Rate, now: Instant) {
        self.fill(rate, now);
        self.level = (self.level - amount).min(rate.capacity());
    }

    pub(super) fn standing(&mut self, rate: Rate, now: Instant) -> Standing {
        self.fill(rate, now);
        Standing {
            limit: rate.per_minute,
            remaining: self.level.max(0.0) as u64,
            reset: rate.seconds_for(rate.capacity() - self.level),
        }
    }
}

#[cfg(test)]
mod tests;
