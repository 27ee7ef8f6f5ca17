//! Which path does what.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ::http::request::Parts;
use ::http::{HeaderValue, Method, Request, StatusCode, header};
use bms_engine::oip;
use bms_wire::oip::{ModelMetadata, ServerMetadata};
use bms_wire::{Code, Error, Result};
use hyper::body::Incoming;
use serde_json::json;

use super::body::{self, Budget};
use super::{Reply, failure, json, reply};
use crate::live::Live;
use crate::node::Node;
use crate::{Status, guard, infer, metrics};

/// What a path stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resource {
    Server,
    Alive,
    Ready,
    Metrics,
    Status,
    Model,
    ModelReady,
    Infer,
}

impl Resource {
    fn takes(self, method: &Method) -> bool {
        match self {
            Resource::Infer => method == Method::POST,
            _ => method == Method::GET || method == Method::HEAD,
        }
    }

    fn methods(self) -> &'static str {
        match self {
            Resource::Infer => "POST",
            _ => "GET, HEAD",
        }
    }
}

/// A resource, with the model and version its path names.
struct Target<'a> {
    resource: Resource,
    model: Option<&'a str>,
    version: Option<&'a str>,
}

fn target(path: &str) -> Option<Target<'_>> {
    let plain = |resource| Some(Target { resource, model: None, version: None });
    let path = path.strip_suffix('/').unwrap_or(path);
    match path {
        "/v2" => return plain(Resource::Server),
        "/v2/health/live" => return plain(Resource::Alive),
        "/v2/health/ready" => return plain(Resource::Ready),
        "/metrics" => return plain(Resource::Metrics),
        "/api/v1/status" => return plain(Resource::Status),
        _ => {}
    }
    let mut segments = path.strip_prefix("/v2/models/")?.split('/');
    let model = segments.next()?;
    let mut rest: Vec<&str> = segments.collect();
    let version = match rest[..] {
        ["versions", version, ..] => {
            rest.drain(..2);
            Some(version)
        }
        _ => None,
    };
    let resource = match rest[..] {
        [] => Resource::Model,
        ["ready"] => Resource::ModelReady,
        ["infer"] => Resource::Infer,
        _ => return None,
    };
    Some(Target { resource, model: Some(model), version })
}

/// Answers one request.
pub(super) async fn answer(node: Arc<Node>, bodies: Arc<Budget>, request: Request<Incoming>) -> Reply {
    let (parts, body) = request.into_parts();
    match admit(&node, &parts) {
        Ok((Resource::Infer, Some(live))) => post(node, live, body, bodies).await,
        Ok((resource, live)) => {
            body::linger(body);
            describe(&node, resource, live.as_deref())
        }
        Err(refusal) => {
            body::linger(body);
            *refusal
        }
    }
}

/// What the request is for, and the version it is for when it names a model; or the refusal.
fn admit(node: &Node, parts: &Parts) -> std::result::Result<(Resource, Option<Arc<Live>>), Box<Reply>> {
    let refuse = |error: Error| Box::new(failure(&error));
    guard::check(&parts.method, parts.version, &parts.headers).map_err(refuse)?;
    let path = parts.uri.path();
    let target = target(path).ok_or_else(|| {
        let error = Error::new(Code::NotFound, format!("there is nothing at `{path}`"));
        refuse(error.hint("The model answers under /v2/models/, the node's state is at /api/v1/status."))
    })?;
    if !target.resource.takes(&parts.method) {
        return Err(Box::new(wrong_method(&parts.method, path, target.resource)));
    }
    let live = target.model.map(|model| find(node, model, target.version)).transpose();
    if let (Resource::Infer, Err(error)) = (target.resource, &live) {
        node.metrics.failed(error.code());
    }
    Ok((target.resource, live.map_err(refuse)?))
}

/// Everything but inference.
fn describe(node: &Node, resource: Resource, live: Option<&Live>) -> Reply {
    match (resource, live) {
        (Resource::Model, Some(live)) => json(StatusCode::OK, &metadata(live)),
        (Resource::ModelReady, Some(live)) => {
            json(StatusCode::OK, &json!({ "name": live.engine.describe().name, "ready": true }))
        }
        (Resource::Server, _) => json(StatusCode::OK, &server()),
        (Resource::Metrics, _) => reply(StatusCode::OK, metrics::CONTENT_TYPE, metrics::render(node)),
        (Resource::Status, _) => json(StatusCode::OK, &Status::of(node)),
        (Resource::Alive, _) => json(StatusCode::OK, &json!({ "live": true })),
        // Ready; a model's resource comes with its model, see `target`.
        _ => match node.live() {
            Some(_) => json(StatusCode::OK, &json!({ "ready": true })),
            None => failure(&no_version(node)),
        },
    }
}

fn wrong_method(method: &Method, path: &str, resource: Resource) -> Reply {
    let error = Error::new(Code::InvalidRequest, format!("`{method}` cannot be used on `{path}`"));
    let mut reply = failure(&error.hint("The `Allow` header names the methods that can be."));
    *reply.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    reply.headers_mut().insert(header::ALLOW, HeaderValue::from_static(resource.methods()));
    reply
}

/// The version that answers, when it is the one asked for.
fn find(node: &Node, model: &str, version: Option<&str>) -> Result<Arc<Live>> {
    if model != node.settings.model {
        return Err(Error::new(Code::ModelNotFound, format!("there is no model `{model}` here"))
            .hint(format!("This node answers with `{}`.", node.settings.model)));
    }
    let live = node.live().ok_or_else(|| no_version(node))?;
    match version {
        Some(version) if version.parse() != Ok(live.version.version) => {
            let what = format!("version {version} of `{model}` does not run here");
            Err(Error::new(Code::VersionNotFound, what)
                .hint(format!("Version {} does; leave the version out to follow it.", live.version.version)))
        }
        _ => Ok(live),
    }
}

fn no_version(node: &Node) -> Error {
    let why = match node.problem() {
        _ if node.starting.load(Ordering::Acquire) => "the stored version is loading".to_owned(),
        Some(problem) => problem,
        None if node.desired().is_some() => "the version is being fetched".to_owned(),
        None if node.link.is_up() => "the centre deploys no version of it".to_owned(),
        None => node.link.problem().unwrap_or_else(|| "the centre has not been reached yet".to_owned()),
    };
    Error::new(Code::Unavailable, format!("`{}` has no version here yet: {why}", node.settings.model))
}

/// Runs one inference request, away from the threads that serve connections.
async fn post(node: Arc<Node>, live: Arc<Live>, body: Incoming, bodies: Arc<Budget>) -> Reply {
    let body = match body::read(body, &bodies).await {
        Ok(body) => body,
        Err(error) => {
            node.metrics.failed(error.code());
            return failure(&error);
        }
    };
    // Set when this future is dropped, which is when the client has left.
    let left = Left(Arc::default());
    let of_work = left.0.clone();
    let work = tokio::task::spawn_blocking(move || infer::answer(&node, &live, &body.bytes, of_work));
    let answer = work.await.unwrap_or_else(|e| {
        Err(Error::new(Code::Internal, "the request failed in a way that was not foreseen").because(e))
    });
    match answer {
        Ok(text) => reply(StatusCode::OK, "application/json", text),
        Err(error) => failure(&error),
    }
}

struct Left(Arc<AtomicBool>);

impl Drop for Left {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn metadata(live: &Live) -> ModelMetadata {
    let model = live.engine.describe();
    ModelMetadata {
        name: model.name.clone(),
        versions: vec![live.version.version.to_string()],
        platform: oip::platform(model),
        inputs: model.inputs.iter().map(oip::tensor_metadata).collect(),
        outputs: model.outputs.iter().map(oip::tensor_metadata).collect(),
    }
}

fn server() -> ServerMetadata {
    ServerMetadata {
        name: "bms-edge".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
