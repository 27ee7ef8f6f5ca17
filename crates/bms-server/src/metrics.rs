//! What Prometheus reads from `/metrics`.

mod keys;
pub(crate) mod language;

use bms_wire::api::{Memory, SlotState};
use bms_wire::{Code, Error, Result};
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
    core::Collector,
};

/// Content type of the text exposition format.
pub(crate) const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Seconds: from a fraction of what a small model takes to the deadline of a request to a language model.
const LATENCY_BUCKETS: [f64; 20] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0,
    120.0, 300.0, 600.0,
];

/// The model label of requests for a model that is not deployed: names that clients make up must not
/// become time series.
pub(crate) const UNKNOWN_MODEL: &str = "";

/// Every metric of one server.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) requests: IntCounterVec,
    pub(crate) latency: HistogramVec,
    pub(crate) in_flight: IntGaugeVec,
    pub(crate) queue_depth: IntGaugeVec,
    pub(crate) retries: IntCounterVec,
    pub(crate) continuations: IntCounterVec,
    pub(crate) restarts: IntCounterVec,
    pub(crate) refusals: IntCounterVec,
    pub(crate) scaling: ScaleMetrics,
    pub(crate) denials: IntCounterVec,
    pub(crate) cached: IntCounterVec,
    cached_bytes: IntGauge,
    pub(crate) keys: keys::KeyMetrics,
    pub(crate) rollouts: RolloutMetrics,
    pub(crate) store: StoreMetrics,
    slots: SlotGauges,
}

/// One slot as the metrics show it.
#[derive(Clone, Debug)]
pub(crate) struct SlotReading {
    pub(crate) model: String,
    pub(crate) version: u64,
    pub(crate) state: SlotState,
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) progress_age_seconds: Option<f64>,
}

impl Metrics {
    pub(crate) fn new() -> Result<Self> {
        Self::build().map_err(|e| Error::new(Code::Internal, "the metrics contradict each other").because(e))
    }

    fn build() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let build = gauge(&registry, "bms_build_info", "Always 1; the label is the version.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Metrics {
            requests: counter(
                &registry,
                "bms_requests_total",
                "Inference requests answered, by HTTP status code; 499 when the client left first.",
                &["model", "version", "code"],
            )?,
            latency: histogram(
                &registry,
                "bms_request_duration_seconds",
                "Time from the first byte of an inference request to its answer, retries included.",
                &["model", "version"],
            )?,
            in_flight: gauge(
                &registry,
                "bms_requests_in_flight",
                "Inference requests admitted and not answered yet.",
                &["model"],
            )?,
            queue_depth: gauge(
                &registry,
                "bms_queue_depth",
                "Inference requests admitted and waiting for their slot.",
                &["model"],
            )?,
            retries: counter(
                &registry,
                "bms_request_retries_total",
                "Times a request was sent again because its slot had gone.",
                &["model"],
            )?,
            continuations: counter(
                &registry,
                "bms_stream_continuations_total",
                "Times the stream of a language model went on in a fresh slot because its slot had gone.",
                &["model"],
            )?,
            restarts: counter(
                &registry,
                "bms_slot_restarts_total",
                "Times a slot was started again, by reason: ended, hung, spinning, overdue, unhealthy for an engine elsewhere, or start when it did not get ready.",
                &["model", "version", "reason"],
            )?,
            refusals: counter(
                &registry,
                "bms_slot_refusals_total",
                "Versions the gate or the engine refused to load, by error code.",
                &["model", "code"],
            )?,
            denials: counter(
                &registry,
                "bms_sandbox_denied_total",
                "Calls of slot processes that were denied, by the call's name: a model tried what it may not.",
                &["model", "call"],
            )?,
            cached: cached(&registry)?,
            cached_bytes: cached_bytes(&registry)?,
            keys: keys::KeyMetrics::new(&registry)?,
            scaling: ScaleMetrics::new(&registry)?,
            rollouts: RolloutMetrics::new(&registry)?,
            store: StoreMetrics::new(&registry)?,
            slots: SlotGauges::new(&registry)?,
            registry,
        })
    }

    /// When the certificate clients are shown expires. Only a server that has one has this.
    pub(crate) fn certificate_expiry(&self) -> Result<IntGauge> {
        let help = "When the certificate that clients are shown expires, in seconds since 1970.";
        number(&self.registry, "bms_tls_certificate_expires_seconds", help)
            .map_err(|e| Error::new(Code::Internal, "a metric was made twice").because(e))
    }

    /// The text exposition, with the slots as they stand now.
    pub(crate) fn render(&self, slots: &[SlotReading], memory: &Memory, cached_bytes: u64) -> Result<String> {
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.scaling.budget.set(bytes(memory.budget_bytes.unwrap_or(0)));
        self.cached_bytes.set(bytes(cached_bytes));
        self.scaling.used.set(bytes(memory.used_bytes));
        self.slots.show(slots);
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .map_err(|e| Error::new(Code::Internal, "the metrics cannot be written").because(e))
    }
}

/// Slots come and go, so their gauges are filled as they stand.
#[derive(Debug)]
struct SlotGauges {
    states: IntGaugeVec,
    memory: IntGaugeVec,
    progress: GaugeVec,
}

impl SlotGauges {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(SlotGauges {
            states: gauge(registry, "bms_slots", "Slots by state.", &["model", "version", "state"])?,
            memory: gauge(
                registry,
                "bms_slot_resident_memory_bytes",
                "Resident memory of the slot's process.",
                &["model", "version"],
            )?,
            progress: ages(
                registry,
                "bms_slot_progress_age_seconds",
                "Seconds for which the slot's requests have waited while nothing moved: no answer, no step, no work. 0 when nothing waits.",
                &["model", "version"],
            )?,
        })
    }

    fn show(&self, slots: &[SlotReading]) {
        self.states.reset();
        self.memory.reset();
        self.progress.reset();
        for slot in slots {
            let version = slot.version.to_string();
            self.states.with_label_values(&[&slot.model, &version, slot.state.as_str()]).inc();
            if let Some(bytes) = slot.resident_bytes {
                let gauge = self.memory.with_label_values(&[&slot.model, &version]);
                gauge.add(i64::try_from(bytes).unwrap_or(i64::MAX));
            }
            if let Some(age) = slot.progress_age_seconds {
                let gauge = self.progress.with_label_values(&[&slot.model, &version]);
                gauge.set(gauge.get().max(age));
            }
        }
    }
}

fn cached(registry: &Registry) -> prometheus::Result<IntCounterVec> {
    let help = "Requests whose answer could be kept from before: it was (hit) or a slot was asked (miss).";
    counter(registry, "bms_cache_requests_total", help, &["model", "outcome"])
}

fn cached_bytes(registry: &Registry) -> prometheus::Result<IntGauge> {
    number(registry, "bms_cache_bytes", "Bytes that kept answers take.")
}

/// How the number of slots changes, and the memory they take.
#[derive(Debug)]
pub(crate) struct ScaleMetrics {
    pub(crate) scalings: IntCounterVec,
    pub(crate) wake_ups: HistogramVec,
    pub(crate) lacks: IntCounterVec,
    budget: IntGauge,
    used: IntGauge,
}

impl ScaleMetrics {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(ScaleMetrics {
            scalings: counter(
                registry,
                "bms_scalings_total",
                "Times more (up) or fewer (down) slots of a model were wanted than before.",
                &["model", "way"],
            )?,
            wake_ups: histogram(
                registry,
                "bms_model_wake_seconds",
                "Time from the start of the first slot of a model that had none to the first request in it.",
                &["model"],
            )?,
            lacks: counter(
                registry,
                "bms_slots_without_room_total",
                "Times a slot that was wanted did not fit into the memory there is.",
                &["model"],
            )?,
            budget: number(
                registry,
                "bms_memory_budget_bytes",
                "Bytes all slots may take together; 0 when nothing bounds them.",
            )?,
            used: number(
                registry,
                "bms_memory_used_bytes",
                "Bytes spoken for by slots, those that start with what they are expected to take.",
            )?,
        })
    }
}

/// What becomes of versions that are tried.
#[derive(Debug)]
pub(crate) struct RolloutMetrics {
    pub(crate) candidate_failures: IntCounterVec,
    pub(crate) moves: IntCounterVec,
}

impl RolloutMetrics {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(RolloutMetrics {
            candidate_failures: counter(
                registry,
                "bms_candidate_failures_total",
                "Requests that fell to a rollout's candidate, which did not answer them well; the stable version did.",
                &["model", "version"],
            )?,
            moves: counter(
                registry,
                "bms_rollout_moves_total",
                "Decisions of this replica about rollouts: step, promoted or rolled_back.",
                &["model", "version", "to"],
            )?,
        })
    }
}

/// What rounds over the store found.
#[derive(Debug)]
pub(crate) struct StoreMetrics {
    pub(crate) scrubs: IntCounterVec,
    pub(crate) problems: IntCounterVec,
    pub(crate) damaged: IntGauge,
    pub(crate) bytes: IntGauge,
}

impl StoreMetrics {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(StoreMetrics {
            scrubs: counter(
                registry,
                "bms_store_scrubs_total",
                "Rounds over the whole store, by result: healthy, damaged, or failed before its end.",
                &["result"],
            )?,
            problems: counter(
                registry,
                "bms_store_problems_total",
                "What these rounds found rotten in the store, by whether it was repaired.",
                &["repaired"],
            )?,
            damaged: number(
                registry,
                "bms_store_damaged_files",
                "Files that could not be read when the last round ended.",
            )?,
            bytes: number(
                registry,
                "bms_store_bytes",
                "Bytes of packs in the store when the last round ended.",
            )?,
        })
    }
}

fn counter(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntCounterVec> {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}

fn gauge(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
    register(registry, IntGaugeVec::new(Opts::new(name, help), labels)?)
}

fn ages(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
    register(registry, GaugeVec::new(Opts::new(name, help), labels)?)
}

fn number(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntGauge> {
    register(registry, IntGauge::new(name, help)?)
}

fn histogram(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<HistogramVec> {
    let options = HistogramOpts::new(name, help).buckets(LATENCY_BUCKETS.to_vec());
    register(registry, HistogramVec::new(options, labels)?)
}

fn register<M: Collector + Clone + 'static>(registry: &Registry, metric: M) -> prometheus::Result<M> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

#[cfg(test)]
mod tests;
