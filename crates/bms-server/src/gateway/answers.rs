//! Answers that are kept: an equal request of the same version is answered without asking a slot.
//!
//! Off unless the operator turns it on. Only whole answers of inference are kept, which has no effects. Equal requests that come at
//! the same time are asked once, the others wait for that answer. A version's number says which bytes run, so nothing has
//! to be thrown away when an alias moves; a rollout's requests neither read nor fill it.

use std::time::Duration;

use bms_wire::Result;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::time::Instant;

use super::{Call, Gateway, REQUEST_HEADERS, Record, Target, too_late};
use crate::slots::VersionName;

/// Says whether an answer was kept from before.
pub(super) const CACHED: HeaderName = HeaderName::from_static("x-bms-cache");
/// What an entry takes beside its bytes, about.
const ENTRY_BYTES: u64 = 512;
/// The share of the memory one answer may take.
const LARGEST_SHARE: u64 = 8;
/// Entries that places are made for at first, by how much memory each would have.
const USUAL_BYTES: u64 = 16 << 10;

/// How answers are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// Bytes all answers may take.
    pub memory: u64,
    /// How long an answer is good.
    pub age: Duration,
    /// The models whose answers are kept; all when there are none.
    pub models: Vec<String>,
}

/// The answers that are kept.
#[derive(Debug)]
pub(super) struct Answers {
    settings: CacheSettings,
    kept: Cache<[u8; 32], Kept, Weigh>,
}

#[derive(Clone, Debug)]
struct Kept {
    at: Instant,
    of: VersionName,
    answer: Response<Bytes>,
}

#[derive(Clone, Debug)]
struct Weigh;

impl Weighter<[u8; 32], Kept> for Weigh {
    fn weight(&self, _: &[u8; 32], kept: &Kept) -> u64 {
        ENTRY_BYTES + kept.answer.body().len() as u64
    }
}

impl Answers {
    pub(super) fn new(settings: CacheSettings) -> Answers {
        let entries = usize::try_from(settings.memory / USUAL_BYTES).unwrap_or(usize::MAX).max(16);
        let kept = Cache::with_weighter(entries, settings.memory, Weigh);
        Answers { settings, kept }
    }

    /// Bytes it takes.
    pub(super) fn bytes(&self) -> u64 {
        self.kept.weight()
    }

    fn is_for(&self, target: &Target<'_>, headers: &HeaderMap) -> bool {
        let models = &self.settings.models;
        let is_wanted = models.is_empty() || models.iter().any(|model| model == target.model);
        is_wanted && !headers.get_all(header::CACHE_CONTROL).iter().any(refuses)
    }
}

/// Whether a caller wants an answer of its own.
fn refuses(said: &HeaderValue) -> bool {
    let said = said.to_str().unwrap_or_default();
    said.split(',').any(|part| {
        let part = part.trim();
        part.eq_ignore_ascii_case("no-cache") || part.eq_ignore_ascii_case("no-store")
    })
}

/// What makes two requests equal: the version and what runs it, the headers a slot sees, every byte of the body, and whose key they carry.
fn digest(of: &VersionName, engine: &str, headers: &HeaderMap, body: &[u8], caller: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(of.model.as_bytes());
    part(&of.version.to_le_bytes());
    part(engine.as_bytes());
    part(caller.as_bytes());
    for name in REQUEST_HEADERS {
        part(headers.get(&name).map_or(&b""[..], HeaderValue::as_bytes));
    }
    part(body);
    *hasher.finalize().as_bytes()
}

impl Gateway {
    /// The answer that is kept of an equal request, or one that is then kept.
    pub(super) async fn ask_or_remember(
        &self,
        call: &Call<'_>,
        record: &mut Record,
    ) -> Result<Response<Bytes>> {
        let &Call { target, headers, ref body, time, .. } = call;
        let Some(answers) = self.answers.as_ref().filter(|answers| answers.is_for(target, headers)) else {
            return self.ask(call, record).await;
        };
        let pool = self.fleet.route(target.model, target.version)?.pool;
        let key = digest(pool.of(), pool.engine_name(), headers, body, record.caller());
        let outcomes = &self.metrics.cached;
        loop {
            let found = answers.kept.get_value_or_guard_async(&key);
            let found = tokio::time::timeout_at(time.deadline(), found).await;
            match found.map_err(|_| too_late(target, time))? {
                Ok(kept) if kept.at.elapsed() < answers.settings.age => {
                    outcomes.with_label_values(&[target.model, "hit"]).inc();
                    record.answered_by(&kept.of);
                    return Ok(marked(kept.answer, "hit"));
                }
                Ok(old) => drop(answers.kept.remove_if(&key, |kept| kept.at == old.at)),
                // Whoever drops the guard, also by leaving, lets the next one ask.
                Err(guard) => {
                    outcomes.with_label_values(&[target.model, "miss"]).inc();
                    let answer = self.ask(call, record).await?;
                    let is_small = (answer.body().len() as u64) < answers.settings.memory / LARGEST_SHARE;
                    if answer.status() == StatusCode::OK && is_small {
                        let kept = Kept { at: Instant::now(), of: pool.of().clone(), answer: answer.clone() };
                        // It may have been thrown out meanwhile; then it is not kept.
                        let _ = guard.insert(kept);
                    }
                    return Ok(marked(answer, "miss"));
                }
            }
        }
    }

    /// Bytes that kept answers take.
    pub(crate) fn answers_bytes(&self) -> u64 {
        self.answers.as_ref().map_or(0, Answers::bytes)
    }
}

fn marked(mut answer: Response<Bytes>, said: &'static str) -> Response<Bytes> {
    answer.headers_mut().insert(CACHED, HeaderValue::from_static(said));
    answer
}

#[cfg(test)]
mod tests;
