//! What one replica may count of a quota by itself, until it has talked to the others again.
//!
//! Each holds a share of what is left, and what all hold together is no more than the quota: whoever takes a share reads what the
//! others hold in the transaction that writes it. Near the end, where less is left than there are replicas, each may count one
//! more: otherwise the last one would be held by a replica that nobody asks. So N replicas pass a quota by 2 (N - 1) at most,
//! two of them by 1: each of the others may have one such left, and shares of what was less than N when they were taken.
//!
//! A replica that has not counted anything of a quota on a day has written nothing, and still lets the first ones in at once: half of
//! a quota is divided among all for that. Once half is gone it writes what it holds, too, or others would leave its part to it.

/// What the others did with a quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Others {
    /// What they used.
    pub(super) used: u64,
    /// What they used or hold, of those that have written it.
    pub(super) held: u64,
    /// How many of those that serve have written it.
    pub(super) writing: u64,
}

/// What a replica may count that has written nothing yet, of what was left when the day began.
pub(super) fn unwritten(budget: u64, replicas: u64) -> u64 {
    (budget / (2 * replicas)).max(1).min(budget)
}

/// Whether a replica that has written nothing yet has to write what it holds, since its part is wanted.
pub(super) fn is_wanted(budget: u64, others: Others) -> bool {
    budget / 2 < others.used
}

/// Up to what a replica may count that has counted `own`.
pub(super) fn held(budget: u64, own: u64, others: Others, replicas: u64) -> u64 {
    let left = budget.saturating_sub(own).saturating_sub(others.used);
    let silent = replicas.saturating_sub(1).saturating_sub(others.writing);
    let by_others = others.held.saturating_add(silent.saturating_mul(unwritten(budget, replicas)));
    let free = budget.saturating_sub(own).saturating_sub(by_others);
    let share = match left / replicas {
        0 => left.min(1),
        share => share.min(free),
    };
    own + share
}

#[cfg(test)]
mod tests;
