//! The Open Inference Protocol over gRPC, `inference.GRPCInferenceService`, and `grpc.health.v1.Health`.
//!
//! A request becomes what it would be by REST with tensors in binary form, and goes the same way: admission, slots, retries,
//! deadlines and the counts of the metrics are the gateway's. The bytes of tensors are copied, never parsed.
//!
//! Source: <https://github.com/triton-inference-server/common/blob/main/protobuf/grpc_service.proto>.

mod convert;
mod inference;
mod metered;
mod proto;
mod status;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use bms_wire::oip::about::Statistics;
use bms_wire::oip::{ModelMetadata, about};
use bms_wire::{Code, Error, Result, limits};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use serde::de::DeserializeOwned;
use tonic::Status;
use tonic_prost::ProstCodec;
use tower::service_fn;

use crate::body::Segments;
use crate::gateway::{Gateway, Record, Target, Time, version_number};
use crate::repository::Repository;

/// What the service works with.
#[derive(Debug)]
struct Service {
    gateway: Arc<Gateway>,
    repository: Repository,
}

/// The routes.
pub(crate) fn routes(gateway: &Arc<Gateway>, repository: &Repository) -> Router {
    let service = Arc::new(Service { gateway: gateway.clone(), repository: repository.clone() });
    Router::new()
        .route("/inference.GRPCInferenceService/{method}", post(call))
        .route("/grpc.health.v1.Health/{method}", post(health))
        .with_state(service)
}

async fn call(
    State(service): State<Arc<Service>>,
    Segments(method): Segments<String>,
    request: Request,
) -> Response {
    let allowed = match status::timeout(request.headers()) {
        Ok(allowed) => allowed,
        Err(error) => return refusal(error),
    };
    let time = service.gateway.time().within(allowed);
    let s = service;
    match method.as_str() {
        "ServerLive" => {
            unary(request, time, move |_: proto::Empty| async move {
                Ok(proto::ServerLiveResponse { live: true })
            })
            .await
        }
        "ServerReady" => {
            let ready = s.gateway.fleet.is_ready();
            unary(
                request,
                time,
                move |_: proto::Empty| async move { Ok(proto::ServerReadyResponse { ready }) },
            )
            .await
        }
        "ServerMetadata" => {
            unary(request, time, move |_: proto::Empty| async move {
                let about = s.repository.server_metadata();
                let (name, version, extensions) = (about.name, about.version, about.extensions);
                Ok(proto::ServerMetadataResponse { name, version, extensions })
            })
            .await
        }
        "ModelReady" => {
            unary(request, time, move |asked: proto::ModelRequest| async move { s.model_ready(&asked) }).await
        }
        "ModelMetadata" => {
            unary(request, time, move |asked: proto::ModelRequest| async move {
                s.about::<ModelMetadata>(&asked, "", time).await.map(convert::metadata)
            })
            .await
        }
        "ModelConfig" => {
            unary(request, time, move |asked: proto::ModelRequest| async move {
                s.about::<about::ModelConfig>(&asked, "/config", time).await.map(convert::config)
            })
            .await
        }
        "ModelStatistics" => {
            unary(request, time, move |asked: proto::ModelRequest| async move {
                s.statistics(&asked, time).await.map(convert::statistics)
            })
            .await
        }
        "ModelInfer" => s.infer_once(request, time).await,
        "ModelStreamInfer" => s.infer_stream(request, allowed).await,
        _ => s.manage(&method, request, allowed).await,
    }
}

impl Service {
    /// The methods that change what is loaded, or ask for it.
    async fn manage(self: Arc<Self>, method: &str, request: Request, allowed: Option<Duration>) -> Response {
        // Loading takes as long as it takes, unless the client says how long.
        let time = Time::of(Duration::from_millis(limits::LANGUAGE_DEADLINE_MS)).within(allowed);
        match method {
            "RepositoryIndex" => {
                unary(request, time, move |asked: proto::RepositoryIndexRequest| async move {
                    self.repository.index(asked.ready).await.map(convert::index)
                })
                .await
            }
            "RepositoryModelLoad" => {
                unary(request, time, move |asked: proto::RepositoryModelRequest| async move {
                    let parameters = convert::names(&asked.parameters);
                    self.repository.load(&asked.model_name, &parameters).await.map(|()| proto::Empty {})
                })
                .await
            }
            "RepositoryModelUnload" => {
                unary(request, time, move |asked: proto::RepositoryModelRequest| async move {
                    self.repository.unload(&asked.model_name).await.map(|()| proto::Empty {})
                })
                .await
            }
            other => {
                let what = format!("this server does not do `{other}`");
                refusal(
                    Error::new(Code::NotSupported, what).hint("ServerMetadata lists the extensions it has."),
                )
            }
        }
    }

    fn model_ready(&self, asked: &proto::ModelRequest) -> Result<proto::ModelReadyResponse> {
        match self.gateway.check_ready(&asked.name, version(&asked.version)?) {
            Ok(()) => Ok(proto::ModelReadyResponse { ready: true }),
            Err(e) if e.code() == Code::Unavailable => Ok(proto::ModelReadyResponse { ready: false }),
            Err(e) => Err(e),
        }
    }

    /// What a slot says of its model.
    async fn about<T: DeserializeOwned>(
        &self,
        asked: &proto::ModelRequest,
        operation: &str,
        time: Time,
    ) -> Result<T> {
        let version = version(&asked.version)?;
        let target = Target { model: &asked.name, version, method: Method::GET, operation };
        let mut unrecorded = Record::none(&self.gateway);
        let headers = HeaderMap::new();
        let answer =
            self.gateway.admit_and_ask(&target, &headers, Bytes::new(), time, &mut unrecorded).await?;
        let answer = status::successful(answer)?;
        serde_json::from_slice(answer.body())
            .map_err(|e| Error::new(Code::Internal, "the slot's answer is not understood").because(e))
    }

    async fn statistics(&self, asked: &proto::ModelRequest, time: Time) -> Result<Statistics> {
        match asked.name.is_empty() {
            true => Ok(self.gateway.statistics().await),
            false => self.about(asked, "/stats", time).await,
        }
    }
}

/// The version a request names; none when it names none.
fn version(text: &str) -> Result<Option<u64>> {
    if text.is_empty() { Ok(None) } else { version_number(text).map(Some) }
}

async fn health(
    State(service): State<Arc<Service>>,
    Segments(method): Segments<String>,
    request: Request,
) -> Response {
    if method != "Check" {
        let what = format!("this server does not do `{method}` of the health service");
        return refusal(Error::new(Code::NotSupported, what).hint("Ask `Check` from time to time."));
    }
    let time = service.gateway.time();
    unary(request, time, move |asked: proto::HealthCheckRequest| async move {
        let serves = match asked.service.as_str() {
            "" | "inference.GRPCInferenceService" => service.gateway.fleet.is_ready(),
            model => {
                service
                    .model_ready(&proto::ModelRequest { name: model.to_owned(), ..Default::default() })?
                    .ready
            }
        };
        Ok(proto::HealthCheckResponse { status: if serves { proto::SERVING } else { proto::NOT_SERVING } })
    })
    .await
}

/// Answers a call about models, within its time.
async fn unary<Q, A, F>(request: Request, time: Time, work: impl FnOnce(Q) -> F + Send + 'static) -> Response
where
    Q: prost::Message + Default + 'static,
    A: prost::Message + Default + 'static,
    F: Future<Output = Result<A>> + Send + 'static,
{
    let request = request.map(|body| Body::new(http_body_util::Limited::new(body, CONTROL_BYTES_MAX)));
    answer(request, time, limits::CONTROL_BODY_BYTES_MAX, work).await
}

/// Answers a call of one request of so many bytes and one answer, within its time.
async fn answer<B, Q, A, F>(
    request: http::Request<B>,
    time: Time,
    bytes_max: usize,
    work: impl FnOnce(Q) -> F + Send + 'static,
) -> Response
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    Q: prost::Message + Default + 'static,
    A: prost::Message + Default + 'static,
    F: Future<Output = Result<A>> + Send + 'static,
{
    let mut work = Some(work);
    let service = service_fn(move |request: tonic::Request<Q>| {
        let work = work.take().map(|work| work(request.into_inner()));
        async move {
            // There is one request in a call, and this is asked once.
            let work = work.ok_or_else(|| Status::internal("a second request in one call"))?;
            work.await.map(tonic::Response::new).map_err(|error| status::of(&error))
        }
    });
    let mut grpc = tonic::server::Grpc::new(ProstCodec::<A, Q>::default())
        .max_decoding_message_size(bytes_max)
        .max_encoding_message_size(limits::REPLY_BYTES_MAX);
    let answered = tokio::time::timeout_at(time.deadline(), grpc.unary(service, request)).await;
    let Ok(response) = answered else {
        let seconds = time.allowed().as_secs_f32();
        return refusal(Error::new(
            Code::DeadlineExceeded,
            format!("there was no answer within {seconds} s"),
        ));
    };
    if response.headers().get("grpc-status") == Some(&OUT_OF_RANGE) {
        let what = format!("the message is over the limit of {bytes_max} bytes");
        return refusal(
            Error::new(Code::TooLarge, what).hint("Send fewer or smaller inputs in one request."),
        );
    }
    response.map(Body::new)
}

/// What stands for a message over the limit.
const OUT_OF_RANGE: HeaderValue = HeaderValue::from_static("11");
/// Bytes of the body of a call about models: one message and its length.
const CONTROL_BYTES_MAX: usize = limits::CONTROL_BODY_BYTES_MAX + 1024;

/// Whether what is at a path is called by gRPC.
pub(crate) fn is_path(path: &str) -> bool {
    path.starts_with("/inference.") || path.starts_with("/grpc.")
}

/// A call that ends without an answer.
pub(crate) fn refusal(error: Error) -> Response {
    status::of(&error).into_http()
}
