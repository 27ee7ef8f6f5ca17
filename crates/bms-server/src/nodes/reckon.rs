//! What a slot of a version is reckoned with: its files say it, until slots of the version show what they take; and no less
//! than its operator asks for.

use std::collections::BTreeMap;

use crate::slots::VersionName;

/// Of what a slot was seen to take, what is kept for it beyond that, as a divisor: a quarter. One that has just become ready
/// has not seen its largest request yet.
const MARGIN: u64 = 4;

/// What a figure rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Basis {
    /// The size of the model's files, and what a slot takes beside them.
    Files,
    /// What slots of the version take.
    Seen,
    /// The deployment's operator.
    Asked,
}

impl Basis {
    /// As people read it behind a figure.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Basis::Files => "reckoned from its files",
            Basis::Seen => "as a slot of it takes, and a quarter",
            Basis::Asked => "as asked for",
        }
    }
}

/// Bytes of memory of a slot, and what that rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reckoned {
    pub(crate) bytes: u64,
    pub(crate) by: Basis,
}

/// What a slot is reckoned with that by its files is `expected` to take so much, when the most that one took is `seen`. One
/// that `grows` takes more than is seen in the end: the keys and values of a language model come with its conversations.
pub(super) fn reckon(expected: u64, seen: Option<u64>, grows: bool, asked: Option<u64>) -> Reckoned {
    let by_files = Reckoned { bytes: expected, by: Basis::Files };
    let found = match seen.map(|seen| seen.saturating_add(seen / MARGIN)) {
        Some(bytes) if expected < bytes || !grows => Reckoned { bytes, by: Basis::Seen },
        _ => by_files,
    };
    match asked {
        Some(bytes) if found.bytes < bytes => Reckoned { bytes, by: Basis::Asked },
        _ => found,
    }
}

/// The most that a slot of each version was seen to take. What a slot takes goes up and down; what is kept for the next one
/// only goes up, so that a quiet hour does not make room for what a busy one needs.
#[derive(Debug, Default)]
pub(super) struct Seen(BTreeMap<VersionName, u64>);

impl Seen {
    /// A slot of this version takes so much.
    pub(super) fn note(&mut self, of: VersionName, bytes: u64) {
        let most = self.0.entry(of).or_default();
        *most = bytes.max(*most);
    }

    /// Forgets the versions that are not wanted any more.
    pub(super) fn keep(&mut self, is_wanted: impl Fn(&VersionName) -> bool) {
        self.0.retain(|of, _| is_wanted(of));
    }

    /// The most that was seen of this version.
    pub(super) fn of(&self, of: &VersionName) -> Option<u64> {
        self.0.get(of).copied()
    }
}

#[cfg(test)]
mod tests;
