//! How many bytes of request bodies are held at a time, all models together.

use std::sync::Arc;

use bms_wire::{Code, Error, Result, limits};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of request bodies held at a time.
const BYTES_MAX: usize = 512 << 20;
/// The unit in which they are counted.
const UNIT_BYTES: usize = 1 << 10;
const _: () = assert!(limits::TENSOR_BODY_BYTES_MAX <= BYTES_MAX, "the largest body fits");

/// The bytes of all request bodies.
#[derive(Debug)]
pub(super) struct Bodies(Arc<Semaphore>);

/// The bytes of one body, given back when dropped.
#[derive(Debug)]
pub(crate) struct Room {
    all: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

impl Default for Bodies {
    fn default() -> Self {
        Bodies(Arc::new(Semaphore::new(BYTES_MAX / UNIT_BYTES)))
    }
}

impl Bodies {
    /// Room for one body, of no bytes yet.
    pub(super) fn room(&self) -> Room {
        Room { all: self.0.clone(), held: None }
    }
}

impl Room {
    /// Makes sure that it is enough for `size` bytes.
    ///
    /// # Errors
    /// [`Code::QueueFull`] when others hold too much.
    pub(crate) fn widen(&mut self, size: usize) -> Result<()> {
        let has = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = size.div_ceil(UNIT_BYTES).saturating_sub(has);
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let permit = self.all.clone().try_acquire_many_owned(more).map_err(|_| {
            Error::new(Code::QueueFull, "too many bytes of requests are waiting")
                .hint("Send the request again after a pause, or send smaller ones.")
        })?;
        match &mut self.held {
            Some(held) => held.merge(permit),
            None => self.held = Some(permit),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
