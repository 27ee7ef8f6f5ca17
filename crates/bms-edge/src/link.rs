//! Whether the centre can be reached.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bms_wire::{Code, Error};

/// What was last seen of the centre.
#[derive(Debug)]
pub(crate) struct Link {
    /// A centre that said nothing for longer counts as lost, even while a request hangs.
    patience: Duration,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Time of the last answer, while nothing failed since.
    heard: Option<Instant>,
    /// What failed, while nothing was heard since.
    failed: Option<(Code, String)>,
}

impl Link {
    /// Lost until first heard.
    pub(crate) fn new(patience: Duration) -> Link {
        Link { patience, seen: Mutex::default() }
    }

    pub(crate) fn heard(&self) {
        let now = Seen { heard: Some(Instant::now()), failed: None };
        let before = std::mem::replace(&mut *self.seen(), now);
        if before.heard.is_none() {
            tracing::info!("the centre can be reached");
        }
    }

    /// Notes that the centre does not answer, or refuses this node. Whether that is said depends on whether it is news.
    pub(crate) fn lost(&self, error: &Error) {
        let refuses = matches!(error.code(), Code::Unauthenticated | Code::PermissionDenied);
        let hint = error.body().hint.filter(|_| refuses).map(|hint| format!(" {hint}")).unwrap_or_default();
        let verb = if refuses { "refuses this node" } else { "cannot be reached" };
        let why = format!("the centre {verb}: {}.{hint}", error.message());
        let before = std::mem::replace(
            &mut *self.seen(),
            Seen { heard: None, failed: Some((error.code(), why.clone())) },
        );
        let is_news = before.failed.is_none_or(|(code, _)| code != error.code());
        match (is_news, refuses) {
            (false, _) => {}
            (true, true) => tracing::error!("{why} Versions and samples wait until it does not."),
            (true, false) => tracing::warn!("{why}"),
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.seen().heard.is_some_and(|at| at.elapsed() < self.patience)
    }

    /// Why the centre was of no use the last time, when it was not.
    pub(crate) fn problem(&self) -> Option<String> {
        self.seen().failed.as_ref().map(|(_, why)| why.clone())
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
