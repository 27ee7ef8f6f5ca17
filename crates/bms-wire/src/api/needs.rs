//! What one slot of a deployment needs of its machine.

use serde::{Deserialize, Serialize};

use crate::{Code, Error, Result, limits};

/// What the operator says that one slot needs. What is not said is reckoned: memory from the model's files and from what
/// slots of it were seen to take, and one processor.
///
/// In a change, what is absent stays as it was, and 0 takes back what was said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SlotNeeds {
    /// Processors: so many threads it is started with, and so many it takes of a worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<u64>,
    /// Bytes of memory that are kept for it at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

impl SlotNeeds {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == SlotNeeds::default()
    }

    /// What these become by a change.
    #[must_use]
    pub fn changed_by(&self, change: &SlotNeeds) -> SlotNeeds {
        let of = |before: Option<u64>, change: Option<u64>| match change {
            None => before,
            change => change.filter(|number| *number != 0),
        };
        SlotNeeds {
            cores: of(self.cores, change.cores),
            memory_bytes: of(self.memory_bytes, change.memory_bytes),
        }
    }

    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] with the value at fault.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: String, hint: String| Err(Error::new(Code::InvalidRequest, what).hint(hint));
        if let Some(cores) = self.cores.filter(|cores| !(1..=limits::SLOT_CORES_MAX).contains(cores)) {
            let hint = format!("Say 1 to {}, or 0 for none in particular.", limits::SLOT_CORES_MAX);
            return wrong(format!("{cores} cores for a slot"), hint);
        }
        let least_and_most = limits::SLOT_MEMORY_BYTES_MIN..=limits::SLOT_MEMORY_BYTES_MAX;
        if let Some(bytes) = self.memory_bytes.filter(|bytes| !least_and_most.contains(bytes)) {
            let hint = format!(
                "Say {} MiB to {} GiB, or 0 for none in particular.",
                limits::SLOT_MEMORY_BYTES_MIN >> 20,
                limits::SLOT_MEMORY_BYTES_MAX >> 30
            );
            return wrong(format!("{bytes} bytes of memory for a slot"), hint);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
