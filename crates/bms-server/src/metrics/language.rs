//! What the engines of language models count, as Prometheus reads it. The numbers are the slots'; the names are those
//! that users of other servers know, with this program's prefix.

use std::fmt::Write;

use bms_wire::language::{Histogram, Reading};

use crate::slots::VersionName;

/// One metric with its value in a reading.
type Number = (&'static str, &'static str, &'static str, fn(&Reading) -> f64);
/// One histogram with its place in a reading.
type Spread = (&'static str, &'static str, fn(&Reading) -> &Histogram);

const NUMBERS: [Number; 16] = [
    ("bms_llm_requests_running", "gauge", "Requests being generated.", |r| r.running as f64),
    ("bms_llm_requests_waiting", "gauge", "Requests waiting to be.", |r| r.waiting as f64),
    ("bms_llm_kv_cache_usage_ratio", "gauge", "Share of the key-value cache in use, 1 is all of it.", |r| {
        if r.kv_pages == 0 { 0.0 } else { r.kv_pages_used as f64 / r.kv_pages as f64 }
    }),
    ("bms_llm_kv_cache_pages", "gauge", "Pages of the key-value cache.", |r| r.kv_pages as f64),
    (
        "bms_llm_prefix_cache_queried_tokens_total",
        "counter",
        "Prompt tokens looked up in the prefix cache.",
        |r| r.prefix_queried_tokens as f64,
    ),
    ("bms_llm_prefix_cache_hit_tokens_total", "counter", "Prompt tokens found in the prefix cache.", |r| {
        r.prefix_hit_tokens as f64
    }),
    ("bms_llm_prompt_tokens_total", "counter", "Tokens of prompts.", |r| r.prompt_tokens as f64),
    ("bms_llm_generation_tokens_total", "counter", "Tokens generated.", |r| r.generation_tokens as f64),
    ("bms_llm_preemptions_total", "counter", "Times a request had to make room for others.", |r| {
        r.preemptions as f64
    }),
    ("bms_llm_spec_decode_draft_tokens_total", "counter", "Tokens drafted by speculation.", |r| {
        r.drafted_tokens as f64
    }),
    ("bms_llm_spec_decode_accepted_tokens_total", "counter", "Drafted tokens that were right.", |r| {
        r.accepted_tokens as f64
    }),
    ("bms_weights_audit_passes_total", "counter", "Passes over all weights in memory.", |r| {
        r.weights.passes as f64
    }),
    ("bms_weights_audited_bytes_total", "counter", "Bytes of weights looked at for flipped bits.", |r| {
        r.weights.audited_bytes as f64
    }),
    ("bms_weights_faults_total", "counter", "Blocks of weights that were not what was loaded.", |r| {
        r.weights.faults as f64
    }),
    ("bms_weights_repaired_total", "counter", "Of them, those that were put back.", |r| {
        r.weights.repaired as f64
    }),
    ("bms_weights_audit_last_pass_seconds", "gauge", "How long the last pass over all weights took.", |r| {
        r.weights.last_pass_seconds
    }),
];

const SPREADS: [Spread; 3] = [
    ("bms_llm_time_to_first_token_seconds", "Time from a request to its first token.", |r| {
        &r.time_to_first_token
    }),
    ("bms_llm_inter_token_latency_seconds", "Time from one token to the next.", |r| &r.inter_token_latency),
    ("bms_llm_e2e_request_latency_seconds", "Time from a request to its end.", |r| &r.request_latency),
];

/// The text exposition of what the slots said, empty without language models.
pub(crate) fn render(readings: &[(VersionName, Reading)]) -> String {
    let mut out = String::new();
    if readings.is_empty() {
        return out;
    }
    // Writing to a string cannot fail.
    let _ = write(&mut out, readings);
    out
}

fn write(out: &mut String, readings: &[(VersionName, Reading)]) -> std::fmt::Result {
    for (name, kind, help, value) in NUMBERS {
        head(out, name, kind, help)?;
        for (of, reading) in readings {
            writeln!(out, "{name}{{{}}} {}", labels(of), value(reading))?;
        }
    }
    head(out, "bms_llm_requests_finished_total", "counter", "Requests that ended, by reason.")?;
    for (of, reading) in readings {
        for finished in &reading.finished {
            let (labels, reason) = (labels(of), &finished.reason);
            let requests = finished.requests;
            writeln!(
                out,
                "bms_llm_requests_finished_total{{{labels},finished_reason={reason:?}}} {requests}"
            )?;
        }
    }
    for (name, help, histogram) in SPREADS {
        head(out, name, "histogram", help)?;
        for (of, reading) in readings {
            spread(out, name, &labels(of), histogram(reading))?;
        }
    }
    Ok(())
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) -> std::fmt::Result {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

fn spread(out: &mut String, name: &str, labels: &str, histogram: &Histogram) -> std::fmt::Result {
    let mut total = 0u64;
    for (at, count) in histogram.counts.iter().enumerate() {
        total = total.saturating_add(*count);
        if let Some(edge) = histogram.edges.get(at) {
            writeln!(out, "{name}_bucket{{{labels},le=\"{edge}\"}} {total}")?;
        }
    }
    writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {total}")?;
    writeln!(out, "{name}_sum{{{labels}}} {}\n{name}_count{{{labels}}} {total}", histogram.sum)
}

/// Names of models hold nothing that would have to be escaped.
fn labels(of: &VersionName) -> String {
    format!("model=\"{}\",version=\"{}\"", of.model, of.version)
}

#[cfg(test)]
mod tests;
