//! The time one request has.

use std::sync::LazyLock;
use std::time::Duration;

use bms_wire::oip::binary;
use http::HeaderMap;
use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::slots::INFERENCE_HEADER_LENGTH;

/// When a request came and by when it shall be answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time {
    began: Instant,
    allowed: Duration,
}

impl Time {
    /// So much from now on.
    pub(crate) fn of(allowed: Duration) -> Self {
        Time { began: Instant::now(), allowed }
    }

    /// No more than so much in all, when something is said.
    pub(crate) fn within(self, allowed: Option<Duration>) -> Self {
        Time { allowed: allowed.map_or(self.allowed, |most| most.min(self.allowed)), ..self }
    }

    pub(crate) fn deadline(self) -> Instant {
        self.began + self.allowed
    }

    pub(crate) fn allowed(self) -> Duration {
        self.allowed
    }

    /// What is left of it.
    pub(super) fn left(self) -> Duration {
        self.deadline().saturating_duration_since(Instant::now())
    }
}

/// Headers of the clients of OpenAI and Anthropic: after so many seconds without a byte they give up.
const PATIENCE: [&str; 2] = ["x-stainless-read-timeout", "x-stainless-timeout"];

/// How long the client of a language model waits for its answer to begin, as it says in its body's `timeout`, seconds, or
/// its headers; the shortest counts. What is no time says nothing.
pub(super) fn waits_for(headers: &HeaderMap, timeout: &Value) -> Option<Duration> {
    let said = |name: &&str| headers.get(*name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let said = PATIENCE.iter().filter_map(said).chain(timeout.as_f64());
    let times = said.filter(|seconds| 0.0 < *seconds).filter_map(|s| Duration::try_from_secs_f64(s).ok());
    times.filter(|time| !time.is_zero()).min()
}

/// The word by which a request limits its time.
static TIMEOUT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"timeout\""));

/// What of a request says how long it may take.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    parameters: Parameters,
}

#[derive(Default, Deserialize)]
struct Parameters {
    timeout: Option<u64>,
}

/// The time a request allows itself, in its parameter `timeout`, microseconds. What is wrong with the request is for its slot
/// to say.
pub(super) fn asked_for(headers: &HeaderMap, body: &[u8]) -> Option<Duration> {
    let head_bytes = headers.get(&INFERENCE_HEADER_LENGTH);
    let head_bytes = head_bytes.map_or(Some(body.len()), |v| binary::header_length(v.as_bytes()).ok())?;
    let head = body.get(..head_bytes)?;
    // Few requests have one, and looking for the word is much cheaper than reading the JSON twice.
    TIMEOUT.find(head)?;
    let head: Head = serde_json::from_slice(head).ok()?;
    head.parameters.timeout.filter(|timeout| *timeout != 0).map(Duration::from_micros)
}

#[cfg(test)]
mod tests;
