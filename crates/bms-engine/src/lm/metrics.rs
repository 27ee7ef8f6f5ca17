//! What an engine has done, counted: a snapshot for `/metrics` and the dashboard.

use std::time::Duration;

/// Upper bounds of the histograms' buckets, in seconds.
const SECONDS: [f64; 18] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    300.0,
];

/// Durations, counted in buckets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Durations in each bucket of [`Histogram::bounds`], and in the last one those beyond; not cumulative.
    pub counts: [u64; SECONDS.len() + 1],
    /// Their sum, in seconds.
    pub sum: f64,
}

impl Histogram {
    /// Upper bounds of the buckets, in seconds.
    pub fn bounds() -> &'static [f64] {
        &SECONDS
    }

    /// Durations counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The upper bound of the bucket that the `share` smallest durations reach, in seconds; 0 when there are none.
    pub fn quantile(&self, share: f64) -> f64 {
        let wanted = (share.clamp(0.0, 1.0) * self.count() as f64).ceil() as u64;
        let mut seen = 0;
        for (count, bound) in self.counts.iter().zip(SECONDS) {
            seen += count;
            if wanted <= seen {
                return if seen == 0 { 0.0 } else { bound };
            }
        }
        f64::INFINITY
    }

    pub(crate) fn add(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = SECONDS.iter().position(|bound| seconds <= *bound).unwrap_or(SECONDS.len());
        self.counts[bucket] += 1;
        self.sum += seconds;
    }
}

/// A snapshot. Totals count since the engine started.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LanguageMetrics {
    /// Answers being computed.
    pub running: usize,
    /// Answers that wait for their turn or for memory.
    pub waiting: usize,
    /// Pages of the cache that running answers hold.
    pub kv_pages_used: usize,
    /// Pages that hold finished prefixes for later requests; given up when others need them.
    pub kv_pages_cached: usize,
    /// Pages of the cache.
    pub kv_pages_total: usize,
    /// Prompt tokens looked up in the prefix tree.
    pub prefix_queried_tokens: u64,
    /// Of these, found.
    pub prefix_hit_tokens: u64,
    /// Prompt tokens computed or found.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub generated_tokens: u64,
    /// Times an answer gave its memory to another and was computed again.
    pub preemptions: u64,
    /// Steps of the engine; a number that moves shows progress.
    pub steps: u64,
    /// Requests taken.
    pub requests: u64,
    /// Requests refused because the queue was full.
    pub refused: u64,
    /// Answers that the model ended, with an end token, a stop string or a complete form.
    pub finished_stop: u64,
    /// Answers that reached their length.
    pub finished_length: u64,
    /// Answers whose caller left.
    pub cancelled: u64,
    /// Answers whose deadline passed.
    pub overdue: u64,
    /// Answers that failed.
    pub failed: u64,
    /// Draft tokens tried.
    pub drafted_tokens: u64,
    /// Of these, accepted.
    pub accepted_tokens: u64,
    /// Inputs embedded.
    pub embedded: u64,
    /// Passes of the audit over all weights, the first of which records them.
    pub weights_audit_passes: u64,
    /// Bytes of weights it has looked at.
    pub weights_audited_bytes: u64,
    /// Blocks of weights that were not what was loaded.
    pub weights_faults: u64,
    /// Of these, put back.
    pub weights_repaired: u64,
    /// How long the last pass took, from its first block to its last.
    pub weights_last_pass: Duration,
    /// From submission to the first token.
    pub ttft: Histogram,
    /// Between two tokens of one answer.
    pub inter_token: Histogram,
    /// From submission to the end of an answer.
    pub e2e: Histogram,
    /// From submission to the first step that worked on it.
    pub queue: Histogram,
    /// One step of the engine.
    pub step: Histogram,
}

#[cfg(test)]
mod tests;
