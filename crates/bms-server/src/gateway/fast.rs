//! Inference by the short way: what the layers and the handler of the router do with a request, in one piece.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use bms_wire::limits;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri, Version};
use http_body_util::{BodyExt as _, Limited};
use tower::ServiceExt as _;

use super::{Gateway, Named, Record, Target, check_plain, client_response, time};
use crate::failure::Failure;
use crate::guard;
use crate::keys::{Asking, Keys};
use crate::listen::{Answer, FastPath};
use crate::slots::{INFER, inferring};

/// Answers inference, and questions about models and the server's health, on connections where nothing else was asked.
#[derive(Clone, Debug)]
pub(crate) struct Fast(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    gateway: Arc<Gateway>,
    keys: Arc<Keys>,
    /// All routes, behind what every request passes.
    router: Router,
}

/// Where a request goes.
#[derive(Debug)]
pub(crate) enum Route {
    /// Inference with a model.
    Infer(Named),
    /// A document about a model or the server.
    About(Uri),
}

impl Fast {
    pub(crate) fn new(gateway: Arc<Gateway>, keys: Arc<Keys>, router: Router) -> Self {
        Fast(Arc::new(Shared { gateway, keys, router }))
    }
}

impl FastPath for Fast {
    type Route = Route;

    fn route(&self, method: &str, path: &str) -> Option<Route> {
        match method {
            "POST" => inferring(path).map(|(model, version)| {
                Route::Infer(Named { model: model.to_owned(), version: version.map(str::to_owned) })
            }),
            // Clients ask whether a model is ready, then ask it, on one connection.
            "GET" if path.starts_with("/v2/models/") || path.starts_with("/v2/health/") => {
                path.parse().ok().map(Route::About)
            }
            _ => None,
        }
    }

    async fn answer(&self, route: Route, headers: HeaderMap, body: Bytes) -> Answer {
        match route {
            Route::Infer(named) => {
                let response = self.0.infer(&named, headers, body).await;
                Answer { response, lines: guard::lines() }
            }
            // Few do, and the rest of them shall not be the larger for it.
            Route::About(uri) => Box::pin(self.0.by_router(uri, headers, body)).await.into(),
        }
    }
}

impl Shared {
    async fn infer(&self, named: &Named, headers: HeaderMap, body: Bytes) -> Response<Bytes> {
        let any_host = self.keys.are_always_required();
        if let Err(error) = guard::check(Version::HTTP_11, &Method::POST, &headers, any_host) {
            return Failure::from(error).whole();
        }
        let asking = match self.keys.enter_to_ask(&headers) {
            Ok(asking) => asking,
            Err(refused) => return refused.answer(|error| Failure::from(error).whole()),
        };
        let mut response = self.gateway.infer_whole(named, asking.as_ref(), &headers, body).await;
        if let Some(asking) = &asking {
            asking.said(response.body());
            self.keys.answered(asking, response.status(), response.headers_mut());
        }
        response
    }

    async fn by_router(&self, uri: Uri, headers: HeaderMap, body: Bytes) -> Response<Bytes> {
        let mut request = Request::new(Body::from(body));
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        let answered = self.router.clone().oneshot(request).await;
        let (parts, body) = answered.unwrap_or_else(|never| match never {}).into_parts();
        match Limited::new(body, limits::REPLY_BYTES_MAX).collect().await {
            Ok(body) => Response::from_parts(parts, body.to_bytes()),
            Err(e) => Failure::broken_off(e).whole(),
        }
    }
}

impl Gateway {
    /// Has a slot answer an inference request that has come whole.
    async fn infer_whole(
        self: &Arc<Self>,
        named: &Named,
        asking: Option<&Asking>,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Response<Bytes> {
        let mut record = Record::begin(self);
        let mut room = self.room();
        let answered = async {
            record.is_for(asking)?;
            let version = named.version()?;
            let target = Target { model: &named.model, version, method: Method::POST, operation: INFER };
            check_plain(headers)?;
            room.widen(body.len())?;
            let time = self.time().within(time::asked_for(headers, &body));
            self.admit_and_ask(&target, headers, body, time, &mut record).await
        };
        let response = match answered.await {
            Ok(response) => client_response(response),
            Err(error) => Failure::from(error).whole(),
        };
        record.end(response.status());
        response
    }
}
