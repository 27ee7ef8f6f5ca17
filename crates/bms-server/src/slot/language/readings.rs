//! What the engine has done, for the server's metrics.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use bms_engine::lm::{self, LanguageMetrics};
use bms_wire::language::{Finished, Histogram, Reading, WeightReading};

use super::{Language, answered, json};
use crate::failure::Dialect;

/// The readings as they stand.
pub(super) async fn read(State(language): State<Arc<Language>>) -> Response {
    answered(Dialect::Own, json(&reading(&language.engine.metrics())))
}

fn reading(metrics: &LanguageMetrics) -> Reading {
    let finished = [
        ("stop", metrics.finished_stop),
        ("length", metrics.finished_length),
        ("abort", metrics.cancelled),
        ("deadline", metrics.overdue),
        ("error", metrics.failed),
    ];
    Reading {
        running: metrics.running as u64,
        waiting: metrics.waiting as u64,
        kv_pages_used: metrics.kv_pages_used as u64,
        kv_pages: metrics.kv_pages_total as u64,
        prefix_hit_tokens: metrics.prefix_hit_tokens,
        prefix_queried_tokens: metrics.prefix_queried_tokens,
        prompt_tokens: metrics.prompt_tokens,
        generation_tokens: metrics.generated_tokens,
        preemptions: metrics.preemptions,
        drafted_tokens: metrics.drafted_tokens,
        accepted_tokens: metrics.accepted_tokens,
        weights: WeightReading {
            passes: metrics.weights_audit_passes,
            audited_bytes: metrics.weights_audited_bytes,
            faults: metrics.weights_faults,
            repaired: metrics.weights_repaired,
            last_pass_seconds: metrics.weights_last_pass.as_secs_f64(),
        },
        finished: finished
            .map(|(reason, requests)| Finished { reason: reason.to_owned(), requests })
            .to_vec(),
        time_to_first_token: histogram(&metrics.ttft),
        inter_token_latency: histogram(&metrics.inter_token),
        request_latency: histogram(&metrics.e2e),
    }
}

fn histogram(counted: &lm::Histogram) -> Histogram {
    Histogram { edges: lm::Histogram::bounds().to_vec(), counts: counted.counts.to_vec(), sum: counted.sum }
}
