//! One kind of work over many pieces, on all processors.

use std::sync::{Mutex, PoisonError};

/// Does `work` on every piece, each on one of as many threads as there are processors. `ready` makes what a thread keeps from
/// piece to piece. Pieces are begun in their order; after an error none is.
///
/// # Errors
/// One of those of `work`.
pub(super) fn each_piece<P: Send, K, E: Send>(
    pieces: Vec<P>,
    ready: impl Fn() -> K + Sync,
    work: impl Fn(&mut K, P) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(pieces.len());
    let pieces = Mutex::new(pieces.into_iter());
    let left = || pieces.lock().unwrap_or_else(PoisonError::into_inner);
    let run = || {
        let mut kept = ready();
        loop {
            // In a statement of its own, so that the lock is not held while the work is done.
            let piece = left().next();
            let Some(piece) = piece else { return Ok(()) };
            if let Err(error) = work(&mut kept, piece) {
                left().by_ref().for_each(drop);
                return Err(error);
            }
        }
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(run)).collect();
        let own = run();
        let joined = others
            .into_iter()
            .map(|other| other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.fold(own, Result::and)
    })
}

#[cfg(test)]
mod tests;
