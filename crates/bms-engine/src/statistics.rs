//! What a loaded model has done: how many rows and runs, and where the time went.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bms_wire::oip::about::{BatchStatistics, Duration as Counted, InferStatistics, ModelStatistics};

/// Sizes of batch that are told apart. Rows of a model whose requests run alone can be any number.
const SIZES_MAX: usize = 128;

/// Where the time of one batch went.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spent {
    pub(crate) input: Duration,
    pub(crate) infer: Duration,
    pub(crate) output: Duration,
    /// Rows of each run of the graph.
    pub(crate) runs: Vec<usize>,
}

/// How long one request of a batch waited, and took in all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waited {
    pub(crate) rows: usize,
    pub(crate) queue: Duration,
    pub(crate) total: Duration,
}

/// Counts since the model was loaded.
#[derive(Debug, Default)]
pub(crate) struct Statistics(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    last_inference_ms: u64,
    inference_count: u64,
    execution_count: u64,
    infer: InferStatistics,
    batches: BTreeMap<u64, BatchStatistics>,
}

impl Statistics {
    /// A batch was answered.
    pub(crate) fn answered(&self, spent: &Spent, requests: impl Iterator<Item = Waited>) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock before 1970 is a clock that was never set.
        counts.last_inference_ms =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        for request in requests {
            counts.inference_count += request.rows as u64;
            let infer = &mut counts.infer;
            add(&mut infer.success, request.total);
            add(&mut infer.queue, request.queue);
            add(&mut infer.compute_input, spent.input);
            add(&mut infer.compute_infer, spent.infer);
            add(&mut infer.compute_output, spent.output);
        }
        counts.execution_count += spent.runs.len() as u64;
        let share = |time: Duration| time / u32::try_from(spent.runs.len()).unwrap_or(u32::MAX).max(1);
        for &rows in &spent.runs {
            let rows = rows as u64;
            if counts.batches.len() == SIZES_MAX && !counts.batches.contains_key(&rows) {
                continue;
            }
            let batch = counts.batches.entry(rows).or_default();
            batch.batch_size = rows;
            add(&mut batch.compute_input, share(spent.input));
            add(&mut batch.compute_infer, share(spent.infer));
            add(&mut batch.compute_output, share(spent.output));
        }
    }

    /// The model failed on a request.
    pub(crate) fn failed(&self, total: Duration) {
        add(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).infer.fail, total);
    }

    /// As the protocol tells them, but for the model's name.
    pub(crate) fn now(&self) -> ModelStatistics {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ModelStatistics {
            name: String::new(),
            version: String::new(),
            last_inference: counts.last_inference_ms,
            inference_count: counts.inference_count,
            execution_count: counts.execution_count,
            inference_stats: counts.infer,
            batch_stats: counts.batches.values().copied().collect(),
        }
    }
}

fn add(counted: &mut Counted, time: Duration) {
    counted.count += 1;
    counted.ns = counted.ns.saturating_add(nanos(time));
}

/// Nanoseconds, as many as fit.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
