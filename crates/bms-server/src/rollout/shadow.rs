//! Copies of requests for a candidate, and the comparison of its answers with those that were given.
//!
//! A copy is made after the real answer is complete. Copies wait in a short queue and are dropped, and counted, when it
//! is full: whatever the candidate does, no caller waits for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bms_wire::limits;
use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::mpsc;

use super::compare;
use super::{Side, Split};
use crate::gateway::Gateway;

/// How long the candidate may take for a copy.
const WITHIN: Duration = Duration::from_secs(30);

/// A request that was answered, for the candidate to answer as well.
#[derive(Debug)]
pub(crate) struct Copied {
    pub(crate) split: Arc<Split>,
    /// The path at the slot when it is a language model's; else inference.
    pub(crate) path: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) served: http::Response<Bytes>,
}

/// The queue of copies.
#[derive(Debug)]
pub(crate) struct Shadows {
    queue: mpsc::Sender<Copied>,
    /// Until the worker takes it.
    waiting: Mutex<Option<mpsc::Receiver<Copied>>>,
}

impl Default for Shadows {
    fn default() -> Self {
        let (queue, waiting) = mpsc::channel(limits::SHADOW_QUEUE_MAX);
        Shadows { queue, waiting: Mutex::new(Some(waiting)) }
    }
}

impl Shadows {
    /// Queues a copy, or drops it.
    pub(crate) fn send(&self, copied: Copied) {
        let split = copied.split.clone();
        let is_large = limits::SHADOW_BYTES_MAX < copied.body.len() + copied.served.body().len();
        if is_large || self.queue.try_send(copied).is_err() {
            split.count_dropped();
        }
    }
}

/// Has candidates answer copies, one after the other, for ever; to be dropped when the server stops.
pub(crate) async fn work(gateway: Arc<Gateway>) {
    let waiting = gateway.rollouts.shadows.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut waiting) = waiting else { return };
    while let Some(copied) = waiting.recv().await {
        let began = Instant::now();
        let answer = gateway.ask_candidate_copy(&copied, tokio::time::Instant::now() + WITHIN).await;
        // A candidate that is not ready answers nothing, which says nothing about its answers.
        let Some(answer) = answer else {
            copied.split.count_dropped();
            continue;
        };
        let tolerance = copied.split.rollout.plan.tolerance;
        let is_language = copied.path.is_some();
        let served = copied.served;
        let agrees = answer.is_ok_and(|answer| match is_language {
            true => compare::texts_agree(served.body(), answer.body()),
            false => compare::tensors_agree(&served, &answer, tolerance),
        });
        copied.split.count(Side::Shadow, !agrees, began.elapsed());
    }
}
