//! What this process takes of the processors.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Processor time this process has used, all its threads together.
pub(crate) fn processor_time() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap_or_default()
}
