//! What was measured, as a table or JSON.

use serde_json::{Value, json};

use super::Serve;
use super::tally::{Tally, Times};
use crate::output::{self, Output};

/// The percentiles that are told.
const PERCENTILES: [f64; 5] = [50.0, 90.0, 95.0, 99.0, 99.9];
/// The share of a processor from which on this program may be what limits.
const BUSY: f64 = 0.9;

pub(super) fn print(output: &Output, options: &Serve, tally: &Tally) {
    let value = value(options, tally);
    let mut table = output::table(&["milliseconds", "p50", "p90", "p95", "p99", "p99.9", "longest", "mean"]);
    let rows = [
        ("answer", &tally.latency),
        ("first token", &tally.first_token),
        ("between tokens", &tally.gap),
        ("refusal", &tally.refusal),
    ];
    for (name, times) in rows.into_iter().filter(|(_, times)| !times.is_empty()) {
        let figures = PERCENTILES.iter().map(|p| times.percentile(*p)).chain([times.max(), times.mean()]);
        table.add_row([name.to_owned()].into_iter().chain(figures.map(|figure| format!("{figure:.3}"))));
    }
    output.result(format!("{}\n{table}", head(options, tally)), &value);
    if BUSY * f64::from(options.client_threads) < tally.own_share {
        output.warning(
            "this program used up a processor for each of its threads: the server may be faster than this says",
        );
    }
}

/// The counts, in lines.
fn head(options: &Serve, tally: &Tally) -> String {
    let answers = tally.latency.len();
    let mut lines = vec![format!(
        "{answers} answers in {:.1} s: {:.1} a second",
        tally.took.as_secs_f64(),
        tally.per_second(answers)
    )];
    if let Some(within) = options.within {
        lines.push(format!("within {within} ms: {:.1} a second", tally.per_second(tally.good)));
    }
    if 0 < tally.tokens {
        lines.push(format!("{} tokens: {:.1} a second", tally.tokens, tally.per_second(tally.tokens)));
    }
    if 0 < tally.sent_again {
        let (moved, again) = (tally.moved, tally.sent_again);
        lines.push(format!("{moved} answers after the request was sent again, {again} times together"));
    }
    lines.extend(tally.refused.iter().map(|(status, count)| format!("{count} refused with status {status}")));
    lines.extend(tally.failed.iter().map(|(why, count)| format!("{count} failed: {why}")));
    lines.join("\n")
}

fn value(options: &Serve, tally: &Tally) -> Value {
    let answers = tally.latency.len();
    let protocol = format!("{:?}", options.protocol).to_lowercase();
    let servers = if options.in_process.is_some() { &[][..] } else { &options.server };
    let course = tally.course.iter().map(|second| {
        json!({
            "answered": second.answered, "refused": second.refused, "failed": second.failed,
            "longest_ms": second.longest.as_secs_f64() * 1e3,
        })
    });
    json!({
        "servers": servers, "in_process": options.in_process, "model": options.model, "protocol": protocol,
        "loop": if options.rate.is_some() { "open" } else { "closed" },
        "connections": options.connections, "rate": options.rate, "seconds": tally.took.as_secs_f64(),
        "requests": tally.requests(), "answered": answers, "refused": tally.refused, "failed": tally.failed,
        "answers_per_second": tally.per_second(answers),
        "moved": tally.moved, "sent_again": tally.sent_again, "sent_most": tally.sent_most,
        "within_ms": options.within, "good_per_second": tally.per_second(tally.good),
        "tokens": tally.tokens, "tokens_per_second": tally.per_second(tally.tokens),
        "latency_ms": times(&tally.latency), "first_token_ms": times(&tally.first_token),
        "between_tokens_ms": times(&tally.gap), "refusal_ms": times(&tally.refusal),
        "waited_for_connection_ms": times(&tally.waited),
        "latency_histogram": tally.latency.classes().collect::<Vec<_>>(),
        "course": course.collect::<Vec<_>>(), "own_processor_share": tally.own_share,
    })
}

fn times(times: &Times) -> Value {
    if times.is_empty() {
        return Value::Null;
    }
    let mut value = json!({"count": times.len(), "mean": times.mean(), "max": times.max()});
    for percent in PERCENTILES {
        value[format!("p{percent}")] = json!(times.percentile(percent));
    }
    value
}
