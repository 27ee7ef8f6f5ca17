//! Warming versions up: before one takes traffic it answers a few requests that nobody waits for.
//!
//! They are the last requests of the same model that were answered well, kept in memory for this; on a model nobody has
//! asked yet, zeros in the shape its metadata says.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bms_wire::api::SlotState;
use bms_wire::oip::{Datatype, InferRequest, InferTensor, ModelMetadata, Parameters};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, header};
use http_body_util::Full;
use tokio::time::Instant;

use crate::gateway::{Once, ask_once};
use crate::slots::{Launcher, Slot};

/// Requests kept of one model.
const SAMPLES_MAX: usize = 4;
/// Bytes of a request that is kept.
const SAMPLE_BYTES_MAX: usize = 256 << 10;
/// Models of which requests are kept.
const MODELS_MAX: usize = 1000;
/// A request is kept no more often than this.
const KEEP_EVERY: Duration = Duration::from_secs(1);
/// How long all of a warm-up may take; what is not answered by then is not waited for.
const WITHIN: Duration = Duration::from_secs(60);
/// Elements of a tensor that is made up.
const ELEMENTS_MAX: i64 = 1 << 20;

/// How warm a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Warm {
    /// Not yet.
    Coming,
    /// It has answered.
    Yes,
    /// It was asked and answered with errors of its own, or not at all.
    Failed,
}

/// A request as a slot gets it.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// The path at the slot when it is a language model's; else inference.
    pub(crate) path: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Which slots are warm, and what warms them.
#[derive(Debug, Default)]
pub(crate) struct Warmth {
    slots: Mutex<Vec<(Weak<Slot>, Arc<AtomicU8>)>>,
    samples: Mutex<BTreeMap<String, Samples>>,
}

#[derive(Debug)]
struct Samples {
    kept: VecDeque<Sample>,
    at: Instant,
}

const IDLE: u8 = 0;
const BUSY: u8 = 1;
const WARM: u8 = 2;
const FAILED: u8 = 3;

impl Warmth {
    /// Keeps a request that was answered well.
    pub(crate) fn keep(&self, model: &str, sample: impl FnOnce() -> Sample, bytes: usize) {
        if SAMPLE_BYTES_MAX < bytes {
            return;
        }
        // Whoever has to wait for the lock keeps nothing this time.
        let Ok(mut all) = self.samples.try_lock() else { return };
        if let Some(samples) = all.get_mut(model) {
            if KEEP_EVERY <= samples.at.elapsed() {
                samples.kept.truncate(SAMPLES_MAX - 1);
                samples.kept.push_front(sample());
                samples.at = Instant::now();
            }
        } else if all.len() < MODELS_MAX {
            let samples = Samples { kept: VecDeque::from([sample()]), at: Instant::now() };
            all.insert(model.to_owned(), samples);
        }
    }

    /// How warm a slot is. One that is ready and was not warmed up begins to be.
    pub(crate) fn of(self: &Arc<Self>, slot: &Arc<Slot>, launcher: &Arc<Launcher>) -> Warm {
        let state = self.state(slot);
        if slot.state() == SlotState::Ready
            && state.compare_exchange(IDLE, BUSY, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        {
            let (warmth, slot, launcher, state) =
                (self.clone(), slot.clone(), launcher.clone(), state.clone());
            tokio::spawn(async move {
                let done = warmth.warm_up(&slot, launcher.launch.hung_after).await;
                state.store(if done { WARM } else { FAILED }, Ordering::SeqCst);
                slot.note_warmed();
                launcher.changed.notify_one();
            });
        }
        match state.load(Ordering::SeqCst) {
            WARM => Warm::Yes,
            FAILED => Warm::Failed,
            _ => Warm::Coming,
        }
    }

    fn state(&self, slot: &Arc<Slot>) -> Arc<AtomicU8> {
        let mut slots = lock(&self.slots);
        slots.retain(|(slot, _)| 0 < slot.strong_count());
        let known = slots.iter().find(|(known, _)| known.as_ptr() == Arc::as_ptr(slot));
        if let Some((_, state)) = known {
            return state.clone();
        }
        let state = Arc::new(AtomicU8::new(IDLE));
        slots.push((Arc::downgrade(slot), state.clone()));
        state
    }

    /// Has the slot answer requests. False when it was asked and none of its answers is worth anything.
    async fn warm_up(&self, slot: &Arc<Slot>, hung_after: Duration) -> bool {
        let deadline = Instant::now() + WITHIN;
        let kept = lock(&self.samples).get(&slot.of().model).map(|samples| samples.kept.clone());
        let mut requests: Vec<Sample> = kept.into_iter().flatten().collect();
        if requests.is_empty() && !slot.is_language_model() {
            requests.extend(made_up(slot, deadline, hung_after).await);
        }
        let began = Instant::now();
        let (mut good, mut bad) = (0, 0);
        for sample in &requests {
            let path = sample.path.as_deref();
            let leased = match path {
                Some(_) => slot.lease_unseated(deadline).await,
                None => slot.lease(deadline).await,
            };
            match ask_once(leased, path, &sample.headers, sample.body.clone(), deadline, hung_after).await {
                Once::Answered(answer) if answer.status().as_u16() < 500 => good += 1,
                Once::NotReady => {}
                Once::Answered(_) | Once::Failed(_) => bad += 1,
            }
        }
        let took_ms = began.elapsed().as_millis() as u64;
        tracing::info!(slot = %slot.of(), good, bad, took_ms, "slot warmed up");
        0 < good || bad == 0
    }
}

/// Zeros as the model's metadata asks for them; nothing when it takes something else than numbers.
async fn made_up(slot: &Arc<Slot>, deadline: Instant, hung_after: Duration) -> Option<Sample> {
    let of = slot.of();
    let path = format!("/v2/models/{}/versions/{}", of.model, of.version);
    let request = Request::get(path).header(header::HOST, "slot").body(Full::new(Bytes::new())).ok()?;
    let lease = slot.lease(deadline).await.ok()?;
    let answer = lease.exchange(request, deadline, hung_after).await?.ok()?;
    let metadata: ModelMetadata = serde_json::from_slice(answer.body()).ok()?;
    drop(lease);
    let mut inputs = Vec::with_capacity(metadata.inputs.len());
    for input in metadata.inputs {
        if input.datatype == Datatype::Bytes {
            return None;
        }
        let shape: Vec<i64> = input.shape.iter().map(|d| if *d < 0 { 1 } else { *d }).collect();
        let elements =
            shape.iter().try_fold(1_i64, |n, d| n.checked_mul(*d)).filter(|n| *n <= ELEMENTS_MAX)?;
        let zero =
            if input.datatype == Datatype::Bool { serde_json::json!(false) } else { serde_json::json!(0) };
        let data = serde_json::Value::Array(vec![zero; usize::try_from(elements).ok()?]);
        let (name, datatype) = (input.name, input.datatype);
        inputs.push(InferTensor { name, shape, datatype, parameters: Parameters::new(), data });
    }
    let request = InferRequest { id: None, parameters: Parameters::new(), inputs, outputs: Vec::new() };
    let body = serde_json::to_vec(&request).ok()?;
    let json = HeaderValue::from_static("application/json");
    Some(Sample {
        path: None,
        headers: HeaderMap::from_iter([(header::CONTENT_TYPE, json)]),
        body: body.into(),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
