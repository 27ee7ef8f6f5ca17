//! How soon a request wants to run.

use bms_wire::{Code, Error, Result, limits};

/// A level from 1, which goes first, to [`limits::PRIORITY_LEVELS`]. Requests of one level keep their order; of several,
/// those of the first level run as long as there are any, and the deadlines of the others bound how long they wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority(u64);

impl Priority {
    /// A level; 0 stands for the one in the middle.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when there is no such level.
    pub fn new(level: u64) -> Result<Priority> {
        match level {
            0 => Ok(Priority::default()),
            1..=limits::PRIORITY_LEVELS => Ok(Priority(level)),
            _ => {
                let what = format!("there is no priority {level}");
                Err(Error::new(Code::InvalidRequest, what).hint(format!(
                    "The levels are 1, which goes first, to {}; 0 is the one in the middle.",
                    limits::PRIORITY_LEVELS
                )))
            }
        }
    }
}

impl Default for Priority {
    fn default() -> Self {
        Priority(limits::PRIORITY_LEVELS.div_ceil(2))
    }
}
