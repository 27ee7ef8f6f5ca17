//! What an engine has done and has to do, for whoever watches whether it moves.

/// Counts of one engine. Reading them takes no part in its work, so they can be read while it stands still.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Steps since it was loaded: passes of a language model over its batch, a piece of a long prompt each; begins and ends of
    /// batches of a graph. It never falls.
    pub steps: u64,
    /// Requests or rows it has taken and not answered.
    pub waiting: u64,
}
