//! Work that does not belong on a thread that talks to the network.

use bms_wire::{Code, Error, Result};

/// Does work on a thread that may take its time.
///
/// # Errors
/// What the work returns, and [`Code::Internal`] when it panics.
pub(crate) async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(Error::new(Code::Internal, "the request broke its handler").because(e)))
}
