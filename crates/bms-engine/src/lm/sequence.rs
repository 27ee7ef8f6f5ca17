//! Requests and answers under way.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::lm::answer::Answer;
use crate::lm::cache::Chain;
use crate::lm::constraint::Form;
use crate::lm::prefixes::NodeId;
use crate::lm::speculate::Guess;
use crate::lm::ticket::Interest;
use crate::lm::{Event, Request, TokenOut};

/// The order of answers under way: higher priorities first, then the older, then the lower index. Memory is taken from
/// the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Rank {
    priority: Reverse<i32>,
    pub(crate) group: u64,
    pub(crate) index: usize,
}

impl Rank {
    pub(crate) fn new(priority: i32, group: u64, index: usize) -> Rank {
        Rank { priority: Reverse(priority), group, index }
    }

    pub(crate) fn priority(&self) -> i32 {
        self.priority.0
    }
}

type Sink = Box<dyn FnMut(Event) -> bool + Send>;

/// Who hears the events of one request.
#[derive(Clone)]
pub(crate) struct Listener {
    sink: Arc<Mutex<Sink>>,
    pub(crate) interest: Interest,
}

impl Listener {
    pub(crate) fn new(sink: impl FnMut(Event) -> bool + Send + 'static) -> Listener {
        Listener { sink: Arc::new(Mutex::new(Box::new(sink))), interest: Interest::default() }
    }

    /// Tells it. One that panics or no longer listens loses interest.
    pub(crate) fn hear(&self, event: Event) {
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        let heard = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sink(event)));
        if !heard.unwrap_or(false) {
            self.interest.lose();
        }
    }
}

/// A place in the queue, given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat(Arc<AtomicUsize>);

impl Seat {
    /// Takes one of `most` places; `None` when there is none.
    pub(crate) fn take(taken: &Arc<AtomicUsize>, most: usize) -> Option<Seat> {
        let more = |count: usize| (count < most).then_some(count + 1);
        taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Seat(taken.clone()))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A request that passed its checks.
pub(crate) struct Submission {
    pub(crate) request: Request,
    pub(crate) form: Option<Form>,
    pub(crate) adapter: Option<usize>,
    pub(crate) listener: Listener,
    pub(crate) submitted: Instant,
    pub(crate) seat: Seat,
}

/// A request of which answers are under way.
pub(crate) struct Group {
    pub(crate) request: Request,
    pub(crate) listener: Listener,
    pub(crate) submitted: Instant,
    /// Answers that are not done.
    pub(crate) open: usize,
    /// Tokens of the prompt.
    pub(crate) prompt: usize,
    /// Of these, found in the cache; `None` until known.
    pub(crate) cached: Option<usize>,
    /// The prompt's tokens with their log-probabilities, as far as computed.
    pub(crate) prompt_out: Vec<TokenOut>,
    /// Whether the prompt is computed and its answers were forked.
    pub(crate) begun: bool,
}

/// An answer under way: its tokens, and where their keys and values are.
pub(crate) struct Sequence {
    /// Prompt and answer.
    pub(crate) tokens: Vec<u32>,
    pub(crate) chain: Chain,
    pub(crate) adapter: Option<usize>,
    pub(crate) answer: Answer,
    pub(crate) guess: Guess,
    /// What it waits for: a page that another one computes.
    pub(crate) waits: Option<NodeId>,
    /// Whether it took its place among the prefixes.
    pub(crate) placed: bool,
    /// When its last tokens came.
    pub(crate) last: Option<Instant>,
}

impl Sequence {
    /// Tokens whose keys and values are to be computed.
    pub(crate) fn pending(&self) -> usize {
        self.tokens.len() - self.chain.computed
    }
}
