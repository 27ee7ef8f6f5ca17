//! Answers that are kept: an equal request of the same version is answered without asking a slot.
//!
//! Off unless the operator turns it on. Only whole answers of what has no effects are kept: inference, and what language models
//! say that would say it again (see `language::remember`). Equal requests that come at the same time are asked once: the others
//! wait for a document, and read a stream along (see `shared`). A version's number says which bytes run, so nothing has
//! to be thrown away when an alias moves; a rollout's requests neither read nor fill it.

mod renewed;
mod shared;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bms_wire::Result;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use quick_cache::sync::{Cache, DefaultLifecycle, PlaceholderGuard};
use quick_cache::{DefaultHashBuilder, Weighter};
use tokio::time::Instant;

use super::{Call, Gateway, Record, too_late};
use crate::slots::{REQUEST_HEADERS, VersionName};

pub(super) use renewed::{Ended, Renewal};
pub(super) use shared::{Origin, Shared};

/// Says whether an answer was kept from before.
pub(super) const CACHED: HeaderName = HeaderName::from_static("x-bms-cache");
/// What an entry takes beside its bytes, about.
const ENTRY_BYTES: u64 = 512;
/// The share of the memory one answer may take.
const LARGEST_SHARE: u64 = 8;
/// The share of the memory that streams may take which are still coming.
const COMING_SHARE: u64 = 4;
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

/// What makes requests equal, see [`Asked`].
pub(super) type Key = [u8; 32];
type Guard<'a> = PlaceholderGuard<'a, Key, Kept, Weigh, DefaultHashBuilder, DefaultLifecycle<Key, Kept>>;

/// The answers that are kept.
#[derive(Debug)]
pub(super) struct Answers {
    settings: CacheSettings,
    kept: Cache<Key, Kept, Weigh>,
    /// Bytes of streams that are still coming.
    coming: AtomicU64,
}

#[derive(Clone, Debug)]
struct Kept {
    at: Instant,
    of: VersionName,
    answer: Answer,
}

#[derive(Clone, Debug)]
enum Answer {
    Whole(Response<Bytes>),
    /// A stream, as long as somebody reads it.
    Coming(Weak<Shared>),
}

#[derive(Clone, Debug)]
struct Weigh;

impl Weighter<Key, Kept> for Weigh {
    fn weight(&self, _: &Key, kept: &Kept) -> u64 {
        ENTRY_BYTES
            + match &kept.answer {
                Answer::Whole(answer) => answer.body().len() as u64,
                Answer::Coming(_) => 0,
            }
    }
}

/// What is known of a request.
pub(super) enum Found<'a> {
    /// Its answer, of this version.
    Kept(VersionName, Response<Bytes>),
    /// A stream that is its answer.
    Coming(VersionName, shared::Reader),
    /// Nothing: whoever finds that fills the place, and equal requests wait for that.
    Nothing(Empty<'a>),
}

/// A place for an answer. Dropping it, also by leaving, lets the next one ask.
pub(super) struct Empty<'a> {
    answers: &'a Arc<Answers>,
    key: Key,
    guard: Guard<'a>,
}

impl Empty<'_> {
    /// Keeps a whole answer if it is small enough.
    pub(super) fn keep(self, of: &VersionName, answer: &Response<Bytes>) {
        if self.answers.is_small(answer.body().len() as u64) {
            let answer = Answer::Whole(answer.clone());
            // It may have been thrown out meanwhile; then it is not kept.
            let _ = self.guard.insert(Kept { at: Instant::now(), of: of.clone(), answer });
        }
    }

    /// Lets others read a stream along, and keeps it once it is whole. Gives its first reader.
    pub(super) fn share(self, of: &VersionName, origin: Origin) -> shared::Reader {
        let (shared, first) = Shared::begin(self.answers.clone(), self.key, of.clone(), origin);
        let answer = Answer::Coming(Arc::downgrade(&shared));
        let _ = self.guard.insert(Kept { at: Instant::now(), of: of.clone(), answer });
        first
    }
}

impl Answers {
    pub(super) fn new(settings: CacheSettings) -> Arc<Answers> {
        let entries = usize::try_from(settings.memory / USUAL_BYTES).unwrap_or(usize::MAX).max(16);
        let whole = settings.memory - settings.memory / COMING_SHARE;
        let kept = Cache::with_weighter(entries, whole, Weigh);
        Arc::new(Answers { settings, kept, coming: AtomicU64::new(0) })
    }

    /// Bytes it takes.
    pub(super) fn bytes(&self) -> u64 {
        self.kept.weight() + self.coming.load(Ordering::Relaxed)
    }

    fn is_small(&self, bytes: u64) -> bool {
        bytes < self.settings.memory / LARGEST_SHARE
    }

    /// The answer to a request, if it is there.
    pub(super) fn look(&self, key: &Key) -> Option<(VersionName, Response<Bytes>)> {
        let kept = self.kept.get(key).filter(|kept| kept.at.elapsed() < self.settings.age)?;
        match kept.answer {
            Answer::Whole(answer) => Some((kept.of, answer)),
            Answer::Coming(_) => None,
        }
    }

    /// Looks for the answer to a request, and waits while an equal one is being asked.
    pub(super) async fn find(self: &Arc<Self>, key: Key) -> Found<'_> {
        loop {
            let kept = match self.kept.get_value_or_guard_async(&key).await {
                Err(guard) => return Found::Nothing(Empty { answers: self, key, guard }),
                Ok(kept) => kept,
            };
            match kept.answer {
                Answer::Whole(answer) if kept.at.elapsed() < self.settings.age => {
                    return Found::Kept(kept.of, answer);
                }
                Answer::Whole(_) => drop(self.kept.remove_if(&key, |found| found.at == kept.at)),
                Answer::Coming(coming) => match coming.upgrade().and_then(|shared| shared.join()) {
                    Some(reader) => return Found::Coming(kept.of, reader),
                    None => self.forget(&key, &coming),
                },
            }
        }
    }

    /// Forgets a stream nobody can read along any more, unless there is another answer in its place.
    fn forget(&self, key: &Key, coming: &Weak<Shared>) {
        let is_it = |kept: &Kept| matches!(&kept.answer, Answer::Coming(found) if found.ptr_eq(coming));
        drop(self.kept.remove_if(key, is_it));
    }

    /// Keeps what a stream has become.
    fn put(&self, key: Key, of: VersionName, answer: Response<Bytes>) {
        self.kept.insert(key, Kept { at: Instant::now(), of, answer: Answer::Whole(answer) });
    }

    /// Whether answers of this model are kept, and the caller wants such.
    pub(super) fn is_for(&self, model: &str, headers: &HeaderMap) -> bool {
        let models = &self.settings.models;
        let is_wanted = models.is_empty() || models.iter().any(|known| known == model);
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

/// What makes two requests equal: the version and what runs it, whose key they carry, and what else is said here.
pub(super) struct Asked(blake3::Hasher);

impl Asked {
    pub(super) fn of(of: &VersionName, engine: &str, caller: &str) -> Self {
        Asked(blake3::Hasher::new())
            .with(of.model.as_bytes())
            .with(&of.version.to_le_bytes())
            .with(engine.as_bytes())
            .with(caller.as_bytes())
    }

    pub(super) fn with(mut self, part: &[u8]) -> Self {
        self.0.update(&(part.len() as u64).to_le_bytes()).update(part);
        self
    }

    pub(super) fn key(&self) -> Key {
        *self.0.finalize().as_bytes()
    }
}

/// Of inference also the headers a slot sees, and every byte of the body.
fn digest(of: &VersionName, engine: &str, headers: &HeaderMap, body: &[u8], caller: &str) -> Key {
    let mut asked = Asked::of(of, engine, caller);
    for name in REQUEST_HEADERS {
        asked = asked.with(headers.get(&name).map_or(&b""[..], HeaderValue::as_bytes));
    }
    asked.with(body).key()
}

impl Gateway {
    /// The answer that is kept of an equal request, or one that is then kept.
    pub(super) async fn ask_or_remember(
        &self,
        call: &Call<'_>,
        record: &mut Record,
    ) -> Result<Response<Bytes>> {
        match &self.answers {
            Some(answers) if answers.is_for(call.target.model, call.headers) => {
                Box::pin(self.remember(answers, call, record)).await
            }
            _ => self.ask(call, record).await,
        }
    }

    async fn remember(
        &self,
        answers: &Arc<Answers>,
        call: &Call<'_>,
        record: &mut Record,
    ) -> Result<Response<Bytes>> {
        let &Call { target, headers, ref body, time, .. } = call;
        let pool = self.fleet.route(target.model, target.version)?.pool;
        let key = digest(pool.of(), pool.engine_name(), headers, body, record.caller());
        let found = tokio::time::timeout_at(time.deadline(), answers.find(key)).await;
        let place = match found.map_err(|_| too_late(target, time))? {
            Found::Kept(of, answer) => {
                self.looked_up(target.model, "hit");
                record.answered_by(&of);
                return Ok(marked(answer, "hit"));
            }
            Found::Nothing(place) => Some(place),
            // No stream is an answer to inference.
            Found::Coming(..) => None,
        };
        self.looked_up(target.model, "miss");
        let answer = self.ask(call, record).await?;
        // An alias may have moved while it was asked.
        if answer.status() == StatusCode::OK
            && record.is_answered_by(pool.of())
            && let Some(place) = place
        {
            place.keep(pool.of(), &answer);
        }
        Ok(marked(answer, "miss"))
    }

    /// Counts whether an answer was kept.
    pub(super) fn looked_up(&self, model: &str, outcome: &str) {
        self.metrics.cached.with_label_values(&[model, outcome]).inc();
    }

    /// Bytes that kept answers take.
    pub(crate) fn answers_bytes(&self) -> u64 {
        self.answers.as_ref().map_or(0, |answers| answers.bytes())
    }
}

/// An answer that says whether it was kept.
pub(super) fn marked<B>(mut answer: Response<B>, said: &'static str) -> Response<B> {
    answer.headers_mut().insert(CACHED, HeaderValue::from_static(said));
    answer
}

#[cfg(test)]
mod tests;
