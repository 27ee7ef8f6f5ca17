//! Answering, and keeping what the model was unsure of.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bms_engine::oip::{self, Shown};
use bms_engine::{Answer, Classification, Input, Priority};
use bms_wire::oip::{InferRequest, InferResponse};
use bms_wire::{Code, Error, Result, limits};
use serde_json::json;

use crate::live::Live;
use crate::node::Node;
use crate::outbox::{Offered, Sample};

/// Parameter of a request: `false` answers without keeping what the model is unsure of, for measurements.
const COLLECT: &str = "collect";
/// Parameter of an answer: pictures in it that were below the threshold.
const HARD: &str = "hard_samples";
/// Parameter of an answer: those of them that are kept for the centre, whatever happens now.
const QUEUED: &str = "hard_samples_queued";

/// Pictures the model was unsure of, and how many of them are on disk.
#[derive(Clone, Copy, Debug, Default)]
struct Kept {
    hard: usize,
    queued: usize,
}

/// Answers one request, on a thread that may block. `left` says whether the caller is gone.
///
/// # Errors
/// [`Code::InvalidRequest`], [`Code::InvalidInput`], [`Code::QueueFull`], [`Code::DeadlineExceeded`],
/// and what the engine reports.
pub(crate) fn answer(node: &Node, live: &Live, body: &[u8], left: Arc<AtomicBool>) -> Result<Vec<u8>> {
    let started = Instant::now();
    let result = respond(node, live, body, left).and_then(|response| {
        serde_json::to_vec(&response)
            .map_err(|e| Error::new(Code::Internal, "the answer cannot be written as JSON").because(e))
    });
    match &result {
        Ok(_) => node.metrics.answered(started.elapsed(), !node.link.is_up()),
        Err(error) => node.metrics.failed(error.code()),
    }
    result
}

fn respond(node: &Node, live: &Live, body: &[u8], left: Arc<AtomicBool>) -> Result<InferResponse<Shown>> {
    let request: InferRequest = serde_json::from_slice(body).map_err(|e| {
        Error::new(Code::InvalidRequest, format!("the request's body is not the expected JSON: {e}"))
            .because(e)
    })?;
    let model = live.engine.describe();
    let collects = request.parameters.get(COLLECT) != Some(&json!(false));
    let (input, asked) = oip::request_to_input(model, request)?;
    if asked.wants_binary() {
        let what = "an edge node answers in JSON, not in binary form";
        return Err(Error::new(Code::NotSupported, what).hint("Leave `binary_data` out."));
    }
    let pictures = match &input {
        Input::Images(pictures) if collects && !model.labels().is_empty() => pictures.clone(),
        _ => Vec::new(),
    };
    let answer = ask(live, input, asked.priority, left)?;
    let kept = keep(node, live, pictures, answer.classes.as_deref().unwrap_or_default());
    let version = Some(live.version.version.to_string());
    let mut response = oip::answer_to_response(model, answer, &asked, version)?.head;
    if kept.hard != 0 {
        response.parameters.insert(HARD.to_owned(), json!(kept.hard));
        response.parameters.insert(QUEUED.to_owned(), json!(kept.queued));
    }
    Ok(response)
}

fn ask(live: &Live, input: Input, priority: Priority, left: Arc<AtomicBool>) -> Result<Answer> {
    let (sender, receiver) = sync_channel(1);
    let of_engine = left.clone();
    let wanted = move || !of_engine.load(Ordering::Relaxed);
    live.engine.submit_while(input, priority, wanted, move |answer| {
        // Nobody waits any more once the deadline passed.
        let _ = sender.send(answer);
    })?;
    match receiver.recv_timeout(Duration::from_millis(limits::INFER_DEADLINE_MS)) {
        Ok(answer) => answer,
        Err(RecvTimeoutError::Disconnected) => Err(Error::new(Code::Unavailable, "the request was given up")),
        Err(RecvTimeoutError::Timeout) => {
            left.store(true, Ordering::Relaxed);
            let message = format!("no answer within {} ms", limits::INFER_DEADLINE_MS);
            Err(Error::new(Code::DeadlineExceeded, message))
        }
    }
}

/// Offers every picture that was answered below the threshold to the outbox, and waits for the disk,
/// but no longer than the settings allow.
fn keep(node: &Node, live: &Live, pictures: Vec<Vec<u8>>, classes: &[Classification]) -> Kept {
    let mut kept = Kept::default();
    let mut writing = Vec::new();
    for (image, class) in pictures.into_iter().zip(classes) {
        let Some((label, confidence)) = class.ranked.first() else { continue };
        if node.settings.confidence_threshold <= *confidence {
            continue;
        }
        kept.hard += 1;
        let sample = Sample {
            image,
            label: label.clone(),
            confidence: *confidence,
            version: live.version.version,
            at_ms: now_ms(),
        };
        match node.outbox.offer(&sample) {
            Offered::Known(queued) => kept.queued += usize::from(queued),
            Offered::Writing(answer) => writing.push(answer),
            Offered::Refused => {}
        }
    }
    node.metrics.hard_samples.fetch_add(kept.hard as u64, Ordering::Relaxed);
    let deadline = Instant::now() + node.settings.queue_wait;
    for answer in writing {
        let left = deadline.saturating_duration_since(Instant::now());
        kept.queued += usize::from(answer.recv_timeout(left).unwrap_or(false));
    }
    kept
}

fn now_ms() -> i64 {
    // A clock before 1970 is a clock that was never set.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
