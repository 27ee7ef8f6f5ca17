//! What the engines of a version's slots say of their queues and tokens, for the deployments that have targets of these.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bms_wire::language::Reading;
use bms_wire::oip::about::Statistics;
use tokio::time::Instant;

use super::Pool;
use super::scaling::Engines;
use crate::gateway::ask_slot;
use crate::slots::Slot;

/// The time between two readings of a version.
const EVERY: Duration = Duration::from_secs(1);

/// What one slot has counted since it started.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    tokens: u64,
    /// Requests that have waited in it, and the nanoseconds that took.
    queued: u64,
    queued_ns: u64,
    /// Requests that wait in it now.
    waiting: u64,
}

/// What the slots of one version had counted at a time.
#[derive(Debug)]
pub(super) struct Counts {
    at: Instant,
    slots: HashMap<u64, Counted>,
}

/// Reads what a version's slots have counted, when its deployment asks for it, and notes what that means. Takes a while.
pub(super) async fn read(pool: Arc<Pool>) {
    tokio::time::sleep(EVERY).await;
    let scale = pool.scale();
    let (queue, tokens) = (scale.target_queue_ms != 0, 0.0 < scale.target_tokens);
    let is_language = pool.is_language_model();
    if scale.max_slots < 2 || !(queue || (tokens && is_language)) {
        return;
    }
    let mut asking = tokio::task::JoinSet::new();
    for slot in pool.ready() {
        asking.spawn(async move {
            let counted = if is_language { of_language(&slot).await } else { of_graph(&slot).await };
            counted.map(|counted| (slot.number(), counted))
        });
    }
    let slots: HashMap<u64, Counted> = asking.join_all().await.into_iter().flatten().collect();
    pool.note_counts(Counts { at: Instant::now(), slots });
}

async fn of_language(slot: &Arc<Slot>) -> Option<Counted> {
    let reading: Reading = ask_slot(slot, "/v2/readings").await?;
    let tokens = reading.prompt_tokens + reading.generation_tokens;
    let answered = reading.finished.iter().map(|finished| finished.requests).sum();
    Some(Counted { tokens, queued: answered, queued_ns: 0, waiting: reading.waiting })
}

async fn of_graph(slot: &Arc<Slot>) -> Option<Counted> {
    let of = slot.of();
    let path = format!("/v2/models/{}/versions/{}/stats", of.model, of.version);
    let statistics: Statistics = ask_slot(slot, &path).await?;
    let queue = statistics.model_stats.first()?.inference_stats.queue;
    Some(Counted { tokens: 0, queued: queue.count, queued_ns: queue.ns, waiting: 0 })
}

/// What happened between two readings. A slot that is in one of them alone counts for nothing.
pub(super) fn between(before: &Counts, after: &Counts) -> Engines {
    let seconds = after.at.duration_since(before.at).as_secs_f64().max(1e-3);
    let (mut tokens, mut queued, mut ns, mut waiting) = (0, 0, 0, 0);
    for (number, now) in &after.slots {
        let Some(then) = before.slots.get(number) else { continue };
        // Less than before: another process counts by now.
        tokens += now.tokens.saturating_sub(then.tokens);
        queued += now.queued.saturating_sub(then.queued);
        ns += now.queued_ns.saturating_sub(then.queued_ns);
        waiting += now.waiting;
    }
    let measured = ns as f64 / 1e9 / queued.max(1) as f64;
    // Little's law, for engines that say how many wait and not for how long.
    let by_law = waiting as f64 * seconds / queued.max(1) as f64;
    Engines { queue_seconds: measured + by_law, tokens: tokens as f64 / seconds }
}

#[cfg(test)]
mod tests;
