//! What Prometheus reads from `/metrics`, in its text exposition format, version 0.0.4.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bms_wire::Code;

use crate::node::Node;

/// Content type of the format.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds, seconds: from a fraction of what a small model takes to the deadline of a request.
const LATENCY_BUCKETS: [f64; 13] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// What happened since the start.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Inference requests answered.
    pub(crate) answers: AtomicU64,
    /// Those answered while the centre could not be reached.
    pub(crate) offline_answers: AtomicU64,
    /// Pictures answered below the threshold.
    pub(crate) hard_samples: AtomicU64,
    pub(crate) samples_delivered: AtomicU64,
    /// Samples the centre will never take.
    pub(crate) samples_refused: AtomicU64,
    /// Versions that were brought in.
    pub(crate) updates: AtomicU64,
    /// Versions that did not pass the gate, load, or pass their test.
    pub(crate) updates_refused: AtomicU64,
    /// Starts on which the version before had to stand in.
    pub(crate) rollbacks: AtomicU64,
    failures: Mutex<BTreeMap<&'static str, u64>>,
    latency: Histogram,
}

#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; LATENCY_BUCKETS.len()],
    count: AtomicU64,
    sum_us: AtomicU64,
}

impl Metrics {
    /// Counts an inference request that was answered, and whether without the centre.
    pub(crate) fn answered(&self, took: Duration, offline: bool) {
        self.answers.fetch_add(1, Ordering::Relaxed);
        self.offline_answers.fetch_add(u64::from(offline), Ordering::Relaxed);
        self.latency.observe(took);
    }

    /// Counts an inference request that failed.
    pub(crate) fn failed(&self, code: Code) {
        *self.failures.lock().unwrap_or_else(PoisonError::into_inner).entry(code.as_str()).or_default() += 1;
    }

    pub(crate) fn failures(&self) -> u64 {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }
}

impl Histogram {
    fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        // Each bucket counts its own; rendering adds them up.
        if let Some(at) = LATENCY_BUCKETS.iter().position(|bound| seconds <= *bound) {
            self.buckets[at].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
    }

    fn render(&self, page: &mut Page, name: &str, help: &str) {
        page.head(name, help, "histogram");
        let mut below = 0;
        for (bound, bucket) in LATENCY_BUCKETS.iter().zip(&self.buckets) {
            below += bucket.load(Ordering::Relaxed);
            page.value(&format!("{name}_bucket{{le=\"{bound}\"}}"), below);
        }
        // An observation in flight may be in a bucket and not counted yet.
        let count = self.count.load(Ordering::Relaxed).max(below);
        page.value(&format!("{name}_bucket{{le=\"+Inf\"}}"), count);
        page.value(&format!("{name}_sum"), self.sum_us.load(Ordering::Relaxed) as f64 / 1e6);
        page.value(&format!("{name}_count"), count);
    }
}

/// The text being written.
#[derive(Default)]
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn value(&mut self, series: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{series} {value}");
    }

    fn counter(&mut self, name: &str, help: &str, value: &AtomicU64) {
        self.head(name, help, "counter");
        self.value(name, value.load(Ordering::Relaxed));
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, "gauge");
        self.value(name, value);
    }
}

/// The page. Label values need no escaping: they are checked names, numbers and digests.
pub(crate) fn render(node: &Node) -> String {
    let mut page = Page::default();
    page.head("bms_build_info", "Always 1; the label is the program's version.", "gauge");
    page.value(&format!("bms_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1);
    answers(&mut page, node);
    samples(&mut page, node);
    model(&mut page, node);
    page.0
}

fn answers(page: &mut Page, node: &Node) {
    let metrics = &node.metrics;
    page.counter("bms_edge_answers_total", "Inference requests answered.", &metrics.answers);
    let help = "Inference requests answered while the centre could not be reached.";
    page.counter("bms_edge_offline_answers_total", help, &metrics.offline_answers);
    page.head("bms_edge_failures_total", "Inference requests that failed, by code.", "counter");
    for (code, count) in metrics.failures.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        page.value(&format!("bms_edge_failures_total{{code=\"{code}\"}}"), count);
    }
    let help = "Time from an inference request's body to its answer.";
    metrics.latency.render(page, "bms_edge_request_duration_seconds", help);
}

fn samples(page: &mut Page, node: &Node) {
    let (metrics, counts) = (&node.metrics, node.outbox.counts());
    let help = "Pictures answered with a confidence below the threshold.";
    page.counter("bms_edge_hard_samples_total", help, &metrics.hard_samples);
    page.gauge("bms_edge_outbox_samples", "Samples waiting for the centre.", node.outbox.len() as u64);
    page.gauge("bms_edge_outbox_bytes", "Bytes of the outbox on disk.", node.outbox.bytes());
    page.counter("bms_edge_samples_delivered_total", "Samples the centre took.", &metrics.samples_delivered);
    page.head("bms_edge_samples_dropped_total", "Samples that were not kept, by reason.", "counter");
    let reasons = [
        ("outbox_full", &counts.full),
        ("too_large", &counts.too_large),
        ("disk_failed", &counts.failed),
        ("refused_by_centre", &metrics.samples_refused),
    ];
    for (reason, count) in reasons {
        let series = format!("bms_edge_samples_dropped_total{{reason=\"{reason}\"}}");
        page.value(&series, count.load(Ordering::Relaxed));
    }
    let help = "Damaged or unfinished stretches found in the outbox.";
    page.counter("bms_edge_outbox_damaged_total", help, &counts.damaged);
}

fn model(page: &mut Page, node: &Node) {
    let metrics = &node.metrics;
    page.gauge("bms_edge_centre_up", "1 when the centre can be reached.", u64::from(node.link.is_up()));
    page.counter("bms_edge_updates_total", "Versions brought in.", &metrics.updates);
    let help = "Versions that did not pass the gate, load, or pass their test.";
    page.counter("bms_edge_updates_refused_total", help, &metrics.updates_refused);
    let help = "Starts on which the version before stood in for a broken one.";
    page.counter("bms_edge_rollbacks_total", help, &metrics.rollbacks);
    page.head("bms_edge_model_info", "Always 1; the labels are the version that answers.", "gauge");
    if let Some(live) = node.live() {
        let (model, digest) = (&node.settings.model, &live.version.digest);
        let version = live.version.version;
        let runtime = live.engine.describe().runtime.as_str();
        page.value(
            &format!(
                "bms_edge_model_info{{model=\"{model}\",version=\"{version}\",digest=\"{digest}\",\
                 runtime=\"{runtime}\"}}"
            ),
            1,
        );
    }
}
