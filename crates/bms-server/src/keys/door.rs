//! Every request passes here first: who makes it, whether it may be made, and what is left of its limits.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bms_wire::api::PERSON_HEADER;
use bms_wire::{Error, Result};
use http::{HeaderName, HeaderValue};

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
}

/// Lets a request through, or refuses it.
pub(crate) async fn door(
    State(keys): State<Arc<Keys>>,
    matched: Option<MatchedPath>,
    mut request: Request,
    next: Next,
) -> Response {
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
    let caller = match keys.admit(mode, access, request.headers()) {
        Ok(Some(caller)) => caller,
        Ok(None) => return next.run(request).await,
        Err(error) => {
            keys.shared.metrics.keys.denials.with_label_values(&[error.code().as_str()]).inc();
            return refuse(request, error);
        }
    };
    // Names of keys hold nothing that a header cannot.
    if let Ok(name) = HeaderValue::from_str(caller.name()) {
        request.headers_mut().insert(PERSON_HEADER, name);
    }
    if access == Access::AskMany {
        request.extensions_mut().insert(Asking { caller, ticket: None });
        return next.run(request).await;
    }
    if access != Access::Ask {
        return next.run(request).await;
    }
    let ticket = match caller.admit() {
        Ok(ticket) => ticket,
        Err(error) => {
            let mut refused = refuse(request, error);
            tell(&caller, &mut refused);
            return refused;
        }
    };
    request.extensions_mut().insert(Asking { caller: caller.clone(), ticket: Some(ticket.clone()) });
    let mut response = next.run(request).await;
    if !response.status().is_success() {
        ticket.failed();
    }
    keys.shared.metrics.keys.answered(caller.name(), response.status());
    tell(&caller, &mut response);
    response.map(|body| Body::new(Counted { body, ticket }))
}

/// A refusal in the words of the protocol that was spoken. The body is read and thrown away.
fn refuse(request: Request, error: Error) -> Response {
    let path = request.uri().path().to_owned();
    body::linger(request);
    match grpc::is_path(&path) {
        true => grpc::refusal(error),
        false => Dialect::at(&path).failure(error).into_response(),
    }
}

/// Says how the limits stand.
fn tell(caller: &Caller, response: &mut Response) {
    for (names, standing) in LIMITS.into_iter().zip(caller.standings()) {
        let Some(Standing { limit, remaining, reset }) = standing else { continue };
        let [limit_name, remaining_name, reset_name] = names;
        let headers = response.headers_mut();
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
