//! Trying again: what may pass, and after which pause.

use std::time::Duration;

use bms_wire::{Code, Error, Result, limits};

/// The longest pause between two tries that nobody asked for.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// How often and how slowly.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tries {
    /// Pause after the first failure; doubles.
    pub(crate) pause: Duration,
    /// Failures in a row without a byte of progress.
    in_row: u32,
    /// All failures.
    all: u32,
}

/// Why a try failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Trying again may help, after this pause when the server named one.
    Passing(Error, Option<Duration>),
    /// It will not.
    Lasting(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Lasting(error)
    }
}

impl Tries {
    pub(crate) fn new(pause: Duration) -> Tries {
        Tries { pause, in_row: 0, all: 0 }
    }

    /// Something arrived: the next failure counts as the first.
    pub(crate) fn progressed(&mut self) {
        self.in_row = 0;
    }

    /// Waits before the next try, or gives up.
    ///
    /// # Errors
    /// The failure's, when there is no further try.
    pub(crate) fn again(&mut self, failure: Failure) -> Result<()> {
        let (error, asked) = match failure {
            Failure::Lasting(error) => return Err(error),
            Failure::Passing(error, asked) => (error, asked),
        };
        self.in_row += 1;
        self.all += 1;
        if limits::PULL_TRIES_MAX < self.in_row || limits::PULL_RESUMPTIONS_MAX < self.all {
            return Err(error);
        }
        if asked.is_some_and(|asked| limits::PULL_PAUSE_SECONDS_MAX < asked.as_secs()) {
            let seconds = asked.map_or(0, |asked| asked.as_secs());
            return Err(Error::new(Code::Unavailable, format!("{error}; it asks to wait {seconds} s"))
                .hint("Run the same command again then: it goes on where it stopped."));
        }
        let own = self.pause.saturating_mul(1 << (self.in_row - 1).min(10)).min(PAUSE_MAX);
        std::thread::sleep(asked.unwrap_or(own).max(own.min(self.pause)));
        Ok(())
    }
}
