//! What language models say that they would say again.
//!
//! An answer is kept when its request leaves nothing to chance: the temperature is 0, or one token is drawn from, or the draw has
//! a seed; and whatever is embedded. Two requests are equal when the model's version, what runs it, its adapters, the route, the
//! key and all fields are, whatever the order of the fields and whoever it is for. A stream is kept as a stream and a document as
//! a document.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bms_wire::Result;
use http::{HeaderValue, StatusCode, header};

use super::{Ask, EMBEDDINGS, GENERATING, Gateway, MESSAGES, RESPONSES, Target, too_late, whole};
use crate::fleet::Route;
use crate::gateway::Room;
use crate::gateway::answers::{Asked, Empty, Ended, Found, Key, Origin, Renewal, marked};
use crate::gateway::record::Record;
use crate::keys::Ticket;
use crate::slots::{VersionName, splice};

/// Fields that say for whom an answer is, where it is billed, when it is written and how its computation may be shared. Some have
/// a place in OpenAI's newer protocol, whose answers repeat them.
const NOT_OF_THE_ANSWER: [&str; 6] =
    ["user", "safety_identifier", "metadata", "prompt_cache_key", "priority", "timeout"];
/// Fields that, unless they are `false` or `null`, make an answer depend on what is stored, or store it.
const STORED: [&str; 4] = ["store", "background", "previous_response_id", "conversation"];

/// A request whose equals have the same answer.
#[derive(Debug, PartialEq, Eq)]
struct Question<'a>(Vec<(Cow<'a, str>, &'a [u8])>);

impl<'a> Question<'a> {
    /// `None` when it leaves something to chance, and when what it says is not clear.
    fn of(path: &str, body: &'a [u8]) -> Option<Question<'a>> {
        if !GENERATING.contains(&path) {
            return None;
        }
        let named = |(name, value)| Some((serde_json::from_slice::<Cow<'_, str>>(name).ok()?, value));
        let fields: Option<Vec<_>> = splice::fields(body)?.into_iter().map(named).collect();
        let mut fields = fields?;
        fields.sort_unstable();
        let is_clear = fields.windows(2).all(|two| two[0].0 != two[1].0);
        let says_no = |value: &[u8]| matches!(value, b"false" | b"null");
        let is_stored = fields.iter().any(|(name, value)| STORED.contains(&&**name) && !says_no(value));
        if !is_clear || is_stored || (path != EMBEDDINGS && !leaves_nothing_to_chance(&fields)) {
            return None;
        }
        fields.retain(|(name, value)| match &**name {
            "stream" => !says_no(value),
            "metadata" => path == RESPONSES,
            name => !NOT_OF_THE_ANSWER.contains(&name),
        });
        Some(Question(fields))
    }
}

impl Question<'_> {
    /// What makes requests equal.
    fn key(&self, asked: Asked, ask: &Ask<'_>, adapters: u64) -> Key {
        let mut asked = asked.with(ask.path.as_bytes()).with(&adapters.to_le_bytes());
        for name in super::REQUEST_HEADERS {
            asked = asked.with(ask.headers.get(&name).map_or(&b""[..], HeaderValue::as_bytes));
        }
        for (name, value) in &self.0 {
            asked = asked.with(name.as_bytes()).with(value);
        }
        asked.key()
    }
}

fn leaves_nothing_to_chance(fields: &[(Cow<'_, str>, &[u8])]) -> bool {
    fields.iter().any(|(name, value)| match &**name {
        "temperature" => serde_json::from_slice::<f64>(value).is_ok_and(|temperature| temperature == 0.0),
        "top_k" => *value == b"1",
        "seed" => serde_json::from_slice::<i64>(value).is_ok(),
        _ => false,
    })
}

/// How a stream ends that was asked for at this path.
fn ended(path: &str) -> Ended {
    match path {
        MESSAGES => Ended::MessageStop,
        RESPONSES => Ended::Response,
        _ => Ended::Done,
    }
}

impl Gateway {
    /// The answer that is kept of an equal request, or one that is then kept.
    pub(super) async fn answer_or_remember(
        self: &Arc<Self>,
        ask: &Ask<'_>,
        target: &Target,
        record: &mut Option<Record>,
        room: &mut Option<Room>,
    ) -> Result<Response> {
        let wanted = self.answers.as_ref().filter(|answers| answers.is_for(&target.model, &ask.headers));
        let question = wanted.and_then(|answers| Some((answers, Question::of(ask.path, ask.body)?)));
        let Some((answers, question)) = question else {
            return self.answer_language(ask, target, record, room).await;
        };
        let Route { door, pool, .. } = self.language_route(target)?;
        let ticket = record.as_ref().and_then(Record::ticket);
        let caller = ticket.as_ref().map_or("", |ticket| ticket.key());
        let key =
            question.key(Asked::of(pool.of(), pool.engine_name(), caller), ask, self.adapters.changes());
        let found = match answers.look(&key) {
            Some((of, answer)) => Found::Kept(of, answer),
            None => {
                // Who waits for another one's answer is one of those the model has open.
                let waiting = door.wait_language()?;
                let found = tokio::time::timeout_at(ask.time.deadline(), answers.find(key)).await;
                match found.map_err(|_| too_late(target, ask))? {
                    Found::Coming(of, reader) => Found::Coming(of, reader.by(ticket.clone(), waiting)),
                    found => found,
                }
            }
        };
        let (of, response) = match found {
            Found::Nothing(place) => {
                self.looked_up(&target.model, "miss");
                let response = self.answer_language(ask, target, record, room).await?;
                let filled = filled(place, pool.of(), response, ended(ask.path), ticket).await;
                return filled.map(|response| marked(response, "miss"));
            }
            Found::Kept(of, answer) => {
                ticket.iter().for_each(|ticket| ticket.costs_nothing());
                (of, again(answer))
            }
            Found::Coming(of, reader) => {
                let mut response = Response::new(Body::empty());
                *response.headers_mut() = reader.headers();
                (of, response.map(|_| Body::new(reader)))
            }
        };
        self.looked_up(&target.model, "hit");
        if let Some(record) = record {
            record.answered_by(&of);
        }
        Ok(marked(response, "hit"))
    }
}

/// A kept answer, as another one.
fn again(answer: http::Response<bytes::Bytes>) -> Response {
    let renewal = match streams(answer.headers()) {
        true => Renewal::of_stream(answer.body()),
        false => Some(Renewal::of_document(answer.body())),
    };
    answer.map(|body| match renewal {
        Some(renewal) => Body::from(renewal.apply(&body)),
        None => Body::from(body),
    })
}

/// Keeps an answer in the place for it, if it is one.
async fn filled(
    place: Empty<'_>,
    of: &VersionName,
    response: Response,
    ended: Ended,
    ticket: Option<Arc<Ticket>>,
) -> Result<Response> {
    // An alias may have moved while it was asked.
    if response.status() != StatusCode::OK || response.extensions().get() != Some(of) {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    if streams(&parts.headers) {
        let reader = place.share(of, Origin { headers: parts.headers.clone(), body, ended, ticket });
        return Ok(Response::from_parts(parts, Body::new(reader)));
    }
    let body = whole(body).await?;
    let mut answer = http::Response::new(body.clone());
    *answer.headers_mut() = parts.headers.clone();
    place.keep(of, &answer);
    Ok(Response::from_parts(parts, Body::from(body)))
}

fn streams(headers: &http::HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

#[cfg(test)]
mod tests;
