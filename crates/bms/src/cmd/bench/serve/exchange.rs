//! One connection to the server, made again when it breaks.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::stream::Events;
use super::tally::{Outcome, Streamed};

/// Bytes of an answer at most.
const ANSWER_BYTES_MAX: usize = 1 << 30;

/// Where requests go and what they carry.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) path: Uri,
    pub(super) authority: HeaderValue,
    pub(super) key: Option<HeaderValue>,
    pub(super) streams: bool,
}

/// A connection, if it is open.
#[derive(Debug, Default)]
pub(super) struct Connection {
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Connection {
    /// Asks and reads the answer to its end, within the time given.
    pub(super) async fn ask(&mut self, way: &Way, body: Bytes, within: Duration) -> Outcome {
        match tokio::time::timeout(within, self.exchange(way, body)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(why)) => {
                self.sender = None;
                Outcome::Failed(why)
            }
            Err(_) => {
                // The answer may come later: this connection is out of step.
                self.sender = None;
                Outcome::Failed("no answer in time".to_owned())
            }
        }
    }

    async fn exchange(&mut self, way: &Way, body: Bytes) -> Result<Outcome, String> {
        let mut sender = match self.sender.take() {
            Some(sender) if !sender.is_closed() => sender,
            _ => connect(way).await?,
        };
        sender.ready().await.map_err(|e| format!("the connection broke: {e}"))?;
        let sent = Instant::now();
        let response =
            sender.send_request(request(way, body)).await.map_err(|e| format!("no answer: {e}"))?;
        let status = response.status();
        let mut answer = response.into_body();
        let mut events = Events::default();
        let mut read = 0;
        while let Some(frame) = answer.frame().await {
            let frame = frame.map_err(|e| format!("the answer broke off: {e}"))?;
            let Some(data) = frame.data_ref() else { continue };
            read += data.len();
            if ANSWER_BYTES_MAX < read {
                return Err("the answer is too long".to_owned());
            }
            if way.streams && status == StatusCode::OK {
                events.take(data, sent.elapsed());
            }
        }
        self.sender = Some(sender);
        Ok(match status {
            StatusCode::OK if way.streams => events.end().map_or_else(Outcome::Failed, Outcome::Answered),
            StatusCode::OK => Outcome::Answered(Streamed::default()),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Outcome::Refused(status.as_u16())
            }
            _ => Outcome::Failed(format!("status {}", status.as_u16())),
        })
    }
}

async fn connect(way: &Way) -> Result<SendRequest<Full<Bytes>>, String> {
    let stream =
        TcpStream::connect((way.host.as_str(), way.port)).await.map_err(|e| format!("no connection: {e}"))?;
    stream.set_nodelay(true).map_err(|e| format!("no connection: {e}"))?;
    let (sender, connection) =
        handshake(TokioIo::new(stream)).await.map_err(|e| format!("no connection: {e}"))?;
    // It ends with the connection; what broke it the sender tells.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

fn request(way: &Way, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = way.path.clone();
    let headers = request.headers_mut();
    headers.insert(header::HOST, way.authority.clone());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(key) = &way.key {
        headers.insert(header::AUTHORIZATION, key.clone());
    }
    request
}
