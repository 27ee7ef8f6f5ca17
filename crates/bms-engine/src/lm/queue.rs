//! Who is next: tenants share the engine evenly by the tokens they use, higher priorities come first.
//!
//! Deficit round robin over tokens. A tenant's turn lasts while it has credit; what its requests really use is charged
//! when it is known, so a tenant may run into debt and then sits out until the others caught up. Waiting raises a
//! request's priority slowly, so that none waits for ever.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Tokens of credit a tenant gets each round.
const QUANTUM: i64 = 512;
/// Waiting so long raises a request by one priority.
const AGEING: Duration = Duration::from_secs(10);
/// A tenant that was away so long starts anew, without debt.
const FORGET: Duration = Duration::from_secs(10);
/// Tenants remembered before the absent ones are forgotten.
const TENANTS_KEPT: usize = 256;

/// One that waits.
#[derive(Debug)]
pub(crate) struct Waiting<T> {
    pub(crate) tenant: String,
    pub(crate) priority: i32,
    pub(crate) since: Instant,
    pub(crate) item: T,
}

#[derive(Debug)]
struct Tenant<T> {
    /// By priority; those of one priority in order of arrival. No list is empty.
    waiting: BTreeMap<i32, VecDeque<Waiting<T>>>,
    credit: i64,
    seen: Instant,
}

/// The queue.
#[derive(Debug)]
pub(crate) struct FairQueue<T> {
    tenants: BTreeMap<String, Tenant<T>>,
    /// Whose turn it is, or was: the round goes on from this name.
    turn: String,
    length: usize,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        FairQueue { tenants: BTreeMap::new(), turn: String::new(), length: 0 }
    }
}

impl<T> FairQueue<T> {
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(crate) fn push(&mut self, waiting: Waiting<T>) {
        let now = waiting.since;
        if TENANTS_KEPT <= self.tenants.len() {
            self.tenants
                .retain(|_, t| !t.waiting.is_empty() || now.saturating_duration_since(t.seen) < FORGET);
        }
        let tenant = self.tenants.entry(waiting.tenant.clone()).or_insert_with(|| Tenant {
            waiting: BTreeMap::new(),
            credit: 0,
            seen: now,
        });
        if tenant.waiting.is_empty() {
            let away = now.saturating_duration_since(tenant.seen);
            // Credit is not saved up, and debt is not kept for ever.
            tenant.credit = if FORGET <= away { 0 } else { tenant.credit.min(0) };
        }
        tenant.seen = tenant.seen.max(now);
        tenant.waiting.entry(waiting.priority).or_default().push_back(waiting);
        self.length += 1;
    }

    /// The one that is next, and its priority with what waiting added.
    pub(crate) fn next(&mut self, now: Instant) -> Option<(&Waiting<T>, i32)> {
        let level = self.tenants.values().filter_map(|tenant| tenant.level(now)).max()?;
        self.turn = self.next_tenant(level, now)?;
        let tenant = self.tenants.get(&self.turn)?;
        let (_, priority) = tenant.first(now)?;
        tenant.waiting.get(&priority)?.front().map(|waiting| (waiting, level))
    }

    /// Takes the one that [`FairQueue::next`] showed for the same time, and its priority with what waiting added.
    pub(crate) fn take(&mut self, now: Instant) -> Option<(Waiting<T>, i32)> {
        let tenant = self.tenants.get_mut(&self.turn)?;
        let (level, priority) = tenant.first(now)?;
        let list = tenant.waiting.get_mut(&priority)?;
        let waiting = list.pop_front()?;
        if list.is_empty() {
            tenant.waiting.remove(&priority);
        }
        self.length -= 1;
        Some((waiting, level))
    }

    /// Charges a tenant for tokens it used.
    pub(crate) fn charge(&mut self, tenant: &str, tokens: usize, now: Instant) {
        if let Some(tenant) = self.tenants.get_mut(tenant) {
            tenant.credit = tenant.credit.saturating_sub(i64::try_from(tokens).unwrap_or(i64::MAX));
            tenant.seen = tenant.seen.max(now);
        }
    }

    /// Takes out all that `leaves` picks.
    pub(crate) fn remove(&mut self, mut leaves: impl FnMut(&Waiting<T>) -> bool) -> Vec<Waiting<T>> {
        let mut removed = Vec::new();
        for tenant in self.tenants.values_mut() {
            for list in tenant.waiting.values_mut() {
                let mut at = 0;
                while at < list.len() {
                    if leaves(&list[at]) {
                        removed.extend(list.remove(at));
                    } else {
                        at += 1;
                    }
                }
            }
            tenant.waiting.retain(|_, list| !list.is_empty());
        }
        self.length -= removed.len();
        removed
    }

    /// The tenant whose turn it is among those with a request of this level. Rounds are played until one has credit.
    fn next_tenant(&mut self, level: i32, now: Instant) -> Option<String> {
        let rounds = self.at(level, now).map(|(_, tenant)| tenant.rounds_to_credit()).min()?;
        if rounds != 0 {
            for tenant in self.tenants.values_mut().filter(|tenant| tenant.level(now) == Some(level)) {
                // Nobody saves more than a round's credit.
                tenant.credit = tenant.credit.saturating_add(rounds.saturating_mul(QUANTUM)).min(QUANTUM);
            }
            // The one whose turn it was has used it up.
            let turn = self.turn.clone();
            let after = self.at(level, now).filter(|(name, tenant)| **name > turn && 0 < tenant.credit);
            let all = self.at(level, now).filter(|(_, tenant)| 0 < tenant.credit);
            return after.chain(all).map(|(name, _)| name.clone()).next();
        }
        let turn = self.turn.clone();
        let from = self.at(level, now).filter(|(name, tenant)| **name >= turn && 0 < tenant.credit);
        let all = self.at(level, now).filter(|(_, tenant)| 0 < tenant.credit);
        from.chain(all).map(|(name, _)| name.clone()).next()
    }

    fn at(&self, level: i32, now: Instant) -> impl Iterator<Item = (&String, &Tenant<T>)> {
        self.tenants.iter().filter(move |(_, tenant)| tenant.level(now) == Some(level))
    }
}

impl<T> Tenant<T> {
    /// The highest priority of its requests, with what waiting added.
    fn level(&self, now: Instant) -> Option<i32> {
        self.first(now).map(|(level, _)| level)
    }

    /// The same, and the priority under which that request stands; of equals the oldest request.
    fn first(&self, now: Instant) -> Option<(i32, i32)> {
        let fronts = self.waiting.iter().filter_map(|(priority, list)| {
            let front = list.front()?;
            let waited = now.saturating_duration_since(front.since).as_secs() / AGEING.as_secs();
            let level = priority.saturating_add(i32::try_from(waited).unwrap_or(i32::MAX));
            Some((level, std::cmp::Reverse(front.since), *priority))
        });
        fronts.max().map(|(level, _, priority)| (level, priority))
    }

    /// Rounds until its credit is positive.
    fn rounds_to_credit(&self) -> i64 {
        if 0 < self.credit { 0 } else { (1 - self.credit + QUANTUM - 1) / QUANTUM }
    }
}

#[cfg(test)]
mod tests;
