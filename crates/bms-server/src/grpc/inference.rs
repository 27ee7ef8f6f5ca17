//! Inference, one request or a stream of them.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bms_wire::oip::binary;
use bms_wire::{Code, Error, Result, limits};
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::metered::Meter;
use super::{Service, convert, proto, status, version};
use crate::aside::aside;
use crate::gateway::{Record, Target, Time};
use crate::keys::Asking;

/// Bytes of tensors that are copied on a thread that talks to the network.
const SMALL: usize = 1 << 20;
/// The parameter by which the last answer to a request of a stream says so.
const FINAL: &str = "triton_final_response";

impl Service {
    /// A call of one request.
    pub(super) async fn infer_once(self: Arc<Self>, request: Request, time: Time) -> Response {
        let meter = Meter::new(&self.gateway);
        let asking = request.extensions().get::<Asking>().cloned();
        let request = request.map(|body| meter.body(body));
        super::answer(request, time, limits::TENSOR_BODY_BYTES_MAX, move |asked| async move {
            let _room = meter.take();
            self.infer(asked, time, asking.as_ref()).await
        })
        .await
    }

    /// A call of many requests. Answers come in the order of the requests, of which some are worked on at once; one that
    /// fails is told so and the stream goes on.
    pub(super) async fn infer_stream(
        self: Arc<Self>,
        request: Request,
        allowed: Option<Duration>,
    ) -> Response {
        let meter = Meter::new(&self.gateway);
        let asking = request.extensions().get::<Asking>().cloned();
        let request = request.map(|body| meter.body(body));
        let service = service_fn(move |request: tonic::Request<Streaming<proto::ModelInferRequest>>| {
            let answers = self.clone().answers(request.into_inner(), meter.clone(), asking.clone());
            let answers = until(answers, allowed.map(Time::of));
            async move { Ok::<_, Status>(tonic::Response::new(answers)) }
        });
        let mut grpc = tonic::server::Grpc::new(ProstCodec::default())
            .max_decoding_message_size(limits::TENSOR_BODY_BYTES_MAX)
            .max_encoding_message_size(limits::REPLY_BYTES_MAX);
        grpc.streaming(service, request).await.map(Body::new)
    }

    fn answers(
        self: Arc<Self>,
        requests: Streaming<proto::ModelInferRequest>,
        meter: Meter,
        asking: Option<Asking>,
    ) -> impl Stream<Item = Result<proto::ModelStreamInferResponse, Status>> + Send {
        let answer = move |asked: Result<proto::ModelInferRequest, Status>| {
            let (service, room, asking) = (self.clone(), meter.take(), asking.clone());
            async move {
                let asked = asked?;
                let (model_name, id) = (asked.model_name.clone(), asked.id.clone());
                let answered = service.infer(asked, service.gateway.time(), asking.as_ref()).await;
                drop(room);
                Ok(answered.map_or_else(
                    |error| {
                        let said = proto::ModelInferResponse { model_name, id, ..Default::default() };
                        let error_message = status::of(&error).message().to_owned();
                        proto::ModelStreamInferResponse { error_message, infer_response: Some(last(said)) }
                    },
                    |answer| proto::ModelStreamInferResponse {
                        error_message: String::new(),
                        infer_response: Some(last(answer)),
                    },
                ))
            }
        };
        requests.map(answer).buffered(limits::STREAM_REQUESTS_MAX)
    }

    async fn infer(
        &self,
        asked: proto::ModelInferRequest,
        time: Time,
        asking: Option<&Asking>,
    ) -> Result<proto::ModelInferResponse> {
        let mut record = Record::begin(&self.gateway);
        let answered = match record.is_for(asking) {
            Ok(()) => self.infer_recorded(asked, time, &mut record).await,
            Err(error) => Err(error),
        };
        let code = answered.as_ref().map_or_else(|error| error.code().http(), |_| 200);
        record.end(StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
        answered
    }

    async fn infer_recorded(
        &self,
        asked: proto::ModelInferRequest,
        time: Time,
        record: &mut Record,
    ) -> Result<proto::ModelInferResponse> {
        let (model, version) = (asked.model_name.clone(), version(&asked.model_version)?);
        let bytes: usize = asked.raw_input_contents.iter().map(bytes::Bytes::len).sum();
        let request = match bytes <= SMALL {
            true => convert::request(asked),
            false => aside(move || convert::request(asked)).await,
        }?;
        let time = time.within(request.timeout);
        let target = Target { model: &model, version, method: Method::POST, operation: "/infer" };
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(binary::HEADER_LENGTH, HeaderValue::from(request.head_bytes));
        let answer = self.gateway.admit_and_ask(&target, &headers, request.body, time, record).await?;
        convert::response(status::successful(answer)?)
    }
}

/// Marks an answer as the last to its request, which it always is.
fn last(mut answer: proto::ModelInferResponse) -> proto::ModelInferResponse {
    answer.parameters.insert(FINAL.to_owned(), proto::InferParameter::bool(true));
    answer
}

/// The answers that come in time, and then the error.
fn until(
    answers: impl Stream<Item = Result<proto::ModelStreamInferResponse, Status>> + Send + 'static,
    time: Option<Time>,
) -> impl Stream<Item = Result<proto::ModelStreamInferResponse, Status>> + Send {
    let answers = Some(Box::pin(answers));
    futures_util::stream::unfold(answers, move |answers| async move {
        let mut answers = answers?;
        let Some(time) = time else { return answers.next().await.map(|answer| (answer, Some(answers))) };
        match tokio::time::timeout_at(time.deadline(), answers.next()).await {
            Ok(answer) => answer.map(|answer| (answer, Some(answers))),
            Err(_) => {
                let what = format!("the stream was not over within {} s", time.allowed().as_secs_f32());
                let error = Error::new(Code::DeadlineExceeded, what);
                Some((Err(status::of(&error)), None))
            }
        }
    })
}
