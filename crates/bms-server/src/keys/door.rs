//! Every request passes here first: who makes it, whether it may be made, and what is left of its limits.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::IntoResponse;
use bms_wire::api::PERSON_HEADER;
use bms_wire::{Error, Result};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use super::access::{self, Access};
use super::bucket::Standing;
use super::caller::{Caller, Ticket};
use super::counted::Counted;
use super::{Keys, KeysMode};
use crate::body;
use crate::failure::Dialect;
use crate::grpc;

/// What is said of limits, as OpenAI's API names it: of requests, and of tokens.
const LIMITS: [[HeaderName; 3]; 2] = [
    [
        HeaderName::from_static("x-ratelimit-limit-requests"),
        HeaderName::from_static("x-ratelimit-remaining-requests"),
        HeaderName::from_static("x-ratelimit-reset-requests"),
    ],
    [
        HeaderName::from_static("x-ratelimit-limit-tokens"),
        HeaderName::from_static("x-ratelimit-remaining-tokens"),
        HeaderName::from_static("x-ratelimit-reset-tokens"),
    ],
];

/// Who makes a request, among its extensions.
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    caller: Arc<Caller>,
    ticket: Option<Arc<Ticket>>,
}

impl Asking {
    /// The ticket of a request, a new one for each of a stream.
    ///
    /// # Errors
    /// [`bms_wire::Code::RateLimited`] when the key has used what it may.
    pub(crate) fn ticket(&self) -> Result<Arc<Ticket>> {
        match &self.ticket {
            Some(ticket) => Ok(ticket.clone()),
            None => self.caller.admit(),
        }
    }

    /// Counts what a whole answer says it took.
    pub(crate) fn said(&self, answer: &[u8]) {
        if let Some(ticket) = &self.ticket {
            ticket.said(answer);
        }
    }
}

/// Somebody whose request was let in.
struct Entered {
    caller: Arc<Caller>,
    /// What they ask by, if it counts.
    asking: Option<Asking>,
}

/// A request that is not let in.
#[derive(Debug)]
pub(crate) struct Refused {
    error: Error,
    /// Who made it, when it is over their limits.
    caller: Option<Arc<Caller>>,
}

impl Refused {
    /// The refusal as `said` makes it of the error, with how the limits stand.
    pub(crate) fn answer<B>(self, said: impl FnOnce(Error) -> Response<B>) -> Response<B> {
        let mut response = said(self.error);
        if let Some(caller) = &self.caller {
            tell(caller, response.headers_mut());
        }
        response
    }
}

impl Keys {
    /// Lets a request in that asks a model, as [`door`] does. Who makes it, if that is known.
    ///
    /// # Errors
    /// Why it is not let in.
    pub(crate) fn enter_to_ask(&self, headers: &HeaderMap) -> Result<Option<Asking>, Refused> {
        match self.mode() {
            KeysMode::Off => Ok(None),
            mode => Ok(self.enter(mode, Access::Ask, headers)?.and_then(|entered| entered.asking)),
        }
    }

    /// Lets a request in. Who makes it, if that is known.
    fn enter(&self, mode: KeysMode, access: Access, headers: &HeaderMap) -> Result<Option<Entered>, Refused> {
        let admitted = self.admit(mode, access, headers).map_err(|error| {
            self.shared.metrics.keys.denials.with_label_values(&[error.code().as_str()]).inc();
            Refused { error, caller: None }
        });
        let Some(caller) = admitted? else { return Ok(None) };
        let ticket = match access {
            Access::Ask => Some(caller.admit()),
            Access::AskMany => None,
            _ => return Ok(Some(Entered { caller, asking: None })),
        };
        match ticket.transpose() {
            Ok(ticket) => {
                let asking = Some(Asking { caller: caller.clone(), ticket });
                Ok(Some(Entered { caller, asking }))
            }
            Err(error) => Err(Refused { error, caller: Some(caller) }),
        }
    }

    /// Counts an answer to somebody, and says in it how their limits stand.
    pub(crate) fn answered(&self, asking: &Asking, status: StatusCode, headers: &mut HeaderMap) {
        if let Some(ticket) = asking.ticket.as_ref().filter(|_| !status.is_success()) {
            ticket.failed();
        }
        self.shared.metrics.keys.answered(asking.caller.name(), status);
        tell(&asking.caller, headers);
    }
}

/// Lets a request through, or refuses it.
pub(crate) async fn door(
    State(keys): State<Arc<Keys>>,
    matched: Option<MatchedPath>,
    mut request: Request,
    next: Next,
) -> Response<Body> {
    let mode = keys.mode();
    if mode == KeysMode::Off {
        return next.run(request).await;
    }
    let route = matched.as_ref().map_or("", MatchedPath::as_str);
    let access = match route.is_empty() {
        // There is nothing there, which who has a key is told.
        true => Access::Metrics,
        false => access::of(route, request.uri().path(), request.method()),
    };
    let Entered { caller, asking } = match keys.enter(mode, access, request.headers()) {
        Ok(Some(entered)) => entered,
        Ok(None) => return next.run(request).await,
        Err(refused) => return refused.answer(|error| refuse(request, error)),
    };
    // Names of keys hold nothing that a header cannot.
    if let Ok(name) = HeaderValue::from_str(caller.name()) {
        request.headers_mut().insert(PERSON_HEADER, name);
    }
    let Some(asking) = asking else { return next.run(request).await };
    request.extensions_mut().insert(asking.clone());
    let mut response = next.run(request).await;
    // Of a stream each request was counted by itself.
    let Some(ticket) = asking.ticket.clone() else { return response };
    keys.answered(&asking, response.status(), response.headers_mut());
    response.map(|body| Body::new(Counted { body, ticket }))
}

/// A refusal in the words of the protocol that was spoken. The body is read and thrown away.
fn refuse(request: Request, error: Error) -> Response<Body> {
    let path = request.uri().path().to_owned();
    body::linger(request);
    match grpc::is_path(&path) {
        true => grpc::refusal(error),
        false => Dialect::at(&path).failure(error).into_response(),
    }
}

/// Says how the limits stand.
fn tell(caller: &Caller, headers: &mut HeaderMap) {
    for (names, standing) in LIMITS.into_iter().zip(caller.standings()) {
        let Some(Standing { limit, remaining, reset }) = standing else { continue };
        let [limit_name, remaining_name, reset_name] = names;
        headers.insert(limit_name, HeaderValue::from(limit));
        headers.insert(remaining_name, HeaderValue::from(remaining));
        if let Ok(reset) = HeaderValue::from_str(&shown(reset)) {
            headers.insert(reset_name, reset);
        }
    }
}

/// A time as OpenAI's API writes it: `1m30s`, `2.5s`.
fn shown(time: Duration) -> String {
    let (minutes, seconds) = (time.as_secs() / 60, time.as_secs_f64() % 60.0);
    let seconds = (seconds * 1000.0).round() / 1000.0;
    if minutes == 0 { format!("{seconds}s") } else { format!("{minutes}m{seconds}s") }
}
