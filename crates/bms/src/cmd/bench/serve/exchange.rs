//! One connection to one of the servers, made again when it breaks, and elsewhere when its server cannot be reached.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::in_process::InProcess;
use super::plain::{Head, Plain};
use super::stream::Events;
use super::tally::{Outcome, Streamed};
use super::work::Ask;

/// Bytes of an answer at most.
pub(super) const ANSWER_BYTES_MAX: usize = 1 << 30;
/// The pause once every server was asked in vain.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a connection stays with another server before it tries its own again.
const AWAY: Duration = Duration::from_secs(2);
/// Says where the JSON part of a body with binary tensors ends.
const HEAD_LENGTH: HeaderName = HeaderName::from_static(bms_wire::oip::binary::HEADER_LENGTH);
/// What bodies are.
const JSON: &str = "application/json";
const BINARY: &str = "application/octet-stream";
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// `RESOURCE_EXHAUSTED` and `UNAVAILABLE`, <https://grpc.io/docs/guides/status-codes/>.
const GRPC_EXHAUSTED: &str = "8";
const GRPC_UNAVAILABLE: &str = "14";

/// How answers come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As one document.
    Whole,
    /// As server-sent events.
    Events,
    /// As a gRPC message by HTTP/2, whose status comes behind it.
    Grpc,
}

impl Form {
    /// What is spoken on a connection, as TLS names it.
    pub(super) fn protocol(self) -> &'static [u8] {
        match self {
            Form::Grpc => b"h2",
            Form::Whole | Form::Events => b"http/1.1",
        }
    }
}

/// One of the servers.
pub(super) struct Place {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) authority: HeaderValue,
    /// How connections are encrypted, and whom the certificate has to name.
    pub(super) tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Place").field("authority", &self.authority).finish_non_exhaustive()
    }
}

/// Where requests go and what they carry.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) places: Vec<Place>,
    /// What is asked instead of a server.
    pub(super) in_process: Option<InProcess>,
    pub(super) path: Uri,
    pub(super) key: Option<HeaderValue>,
    pub(super) form: Form,
    /// How often a request is sent again.
    pub(super) retries: u32,
}

/// A connection, if it is open.
#[derive(Debug)]
pub(super) struct Connection {
    sender: Option<Sender>,
    /// The server that is asked as long as it answers, by number.
    own: usize,
    at: usize,
    away_since: Instant,
}

#[derive(Debug)]
enum Sender {
    /// For whole answers by HTTP/1.1 that is not encrypted.
    Plain(Box<Plain>),
    General(General),
}

#[derive(Debug)]
enum General {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) why: String,
    /// Nothing of an answer came that anybody saw: inference changes nothing, so it can be asked for again.
    can_be_repeated: bool,
}

impl Broken {
    fn before(why: String) -> Broken {
        Broken { why, can_be_repeated: true }
    }

    /// The answer is over [`ANSWER_BYTES_MAX`].
    pub(super) fn too_long() -> Broken {
        Broken { why: "the answer is too long".to_owned(), can_be_repeated: false }
    }
}

/// Of an answer that is read whole nobody has seen anything.
impl From<String> for Broken {
    fn from(why: String) -> Broken {
        Broken::before(why)
    }
}

impl Connection {
    /// The connection with this number; they take turns at the servers.
    pub(super) fn new(number: usize, way: &Way) -> Connection {
        let own = number % way.places.len();
        Connection { sender: None, own, at: own, away_since: Instant::now() }
    }

    /// Asks and reads the answer to its end, within the time given; how often the request was sent, too.
    pub(super) async fn ask(&mut self, way: &Way, ask: &Ask, within: Duration) -> (Outcome, u32) {
        if let Some(engine) = &way.in_process {
            return (engine.ask().await, 1);
        }
        let deadline = Instant::now() + within;
        if self.at != self.own && AWAY < self.away_since.elapsed() {
            self.go_to(self.own);
        }
        let mut sent = 0;
        loop {
            sent += 1;
            let outcome = match tokio::time::timeout_at(deadline, self.exchange(way, ask)).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(broken)) => {
                    self.sender = None;
                    let failed = Outcome::Failed(broken.why);
                    if !broken.can_be_repeated {
                        return (failed, sent);
                    }
                    failed
                }
                Err(_) => {
                    // The answer may come later: this connection is out of step.
                    self.sender = None;
                    return (Outcome::Failed("no answer in time".to_owned()), sent);
                }
            };
            let unavailable = Outcome::Refused(StatusCode::SERVICE_UNAVAILABLE.as_u16());
            let in_vain = matches!(outcome, Outcome::Failed(_)) && self.sender.is_none();
            if way.retries < sent || !(in_vain || outcome == unavailable) {
                return (outcome, sent);
            }
            self.go_to((self.at + 1) % way.places.len());
            if (sent as usize).is_multiple_of(way.places.len()) {
                tokio::time::sleep_until((Instant::now() + PAUSE).min(deadline)).await;
            }
        }
    }

    fn go_to(&mut self, place: usize) {
        if self.at != place {
            self.sender = None;
            self.at = place;
            self.away_since = Instant::now();
        }
    }

    async fn exchange(&mut self, way: &Way, ask: &Ask) -> Result<Outcome, Broken> {
        let place = &way.places[self.at];
        let sender = match self.sender.take() {
            Some(sender) if !sender.is_closed() => sender,
            _ => connect(place, way.form).await.map_err(Broken::before)?,
        };
        let mut sender = match sender {
            Sender::Plain(mut plain) => {
                let status = plain.exchange(head(way, place, ask), &ask.body).await?;
                self.sender = Some(Sender::Plain(plain));
                return Ok(of_status(status));
            }
            Sender::General(general) => general,
        };
        sender.ready().await.map_err(|e| Broken::before(format!("the connection broke: {e}")))?;
        let sent = Instant::now();
        let response = sender.send(request(way, place, ask)).await;
        let response = response.map_err(|e| Broken::before(format!("no answer: {e}")))?;
        let (status, mut grpc) = (response.status(), grpc_status(response.headers()));
        let mut answer = response.into_body();
        let mut events = Events::default();
        let mut read = 0;
        while let Some(frame) = answer.frame().await {
            let frame = frame.map_err(|e| Broken {
                why: format!("the answer broke off: {e}"),
                can_be_repeated: way.form != Form::Events || read == 0,
            })?;
            grpc = frame.trailers_ref().and_then(grpc_status).or(grpc);
            let Some(data) = frame.data_ref() else { continue };
            read += data.len();
            if ANSWER_BYTES_MAX < read {
                return Err(Broken::too_long());
            }
            if way.form == Form::Events && status == StatusCode::OK {
                events.take(data, sent.elapsed());
            }
        }
        self.sender = Some(Sender::General(sender));
        Ok(match (status, way.form) {
            (StatusCode::OK, Form::Events) => events.end().map_or_else(Outcome::Failed, Outcome::Answered),
            (StatusCode::OK, Form::Grpc) => of_grpc(grpc.as_deref()),
            _ => of_status(status),
        })
    }
}

/// What a status says of an answer that is one document.
fn of_status(status: StatusCode) -> Outcome {
    match status {
        StatusCode::OK => Outcome::Answered(Streamed::default()),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Outcome::Refused(status.as_u16()),
        _ => Outcome::Failed(format!("status {}", status.as_u16())),
    }
}

impl Sender {
    fn is_closed(&self) -> bool {
        match self {
            Sender::Plain(plain) => plain.is_closed(),
            Sender::General(General::One(sender)) => sender.is_closed(),
            Sender::General(General::Two(sender)) => sender.is_closed(),
        }
    }
}

impl General {
    async fn ready(&mut self) -> hyper::Result<()> {
        match self {
            General::One(sender) => sender.ready().await,
            General::Two(sender) => sender.ready().await,
        }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match self {
            General::One(sender) => sender.send_request(request).await,
            General::Two(sender) => sender.send_request(request).await,
        }
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<String> {
    headers.get(GRPC_STATUS)?.to_str().ok().map(str::to_owned)
}

/// What a call came to, as the statuses of HTTP that mean the same.
pub(super) fn of_grpc(status: Option<&str>) -> Outcome {
    match status {
        Some("0") => Outcome::Answered(Streamed::default()),
        Some(GRPC_EXHAUSTED) => Outcome::Refused(StatusCode::TOO_MANY_REQUESTS.as_u16()),
        Some(GRPC_UNAVAILABLE) => Outcome::Refused(StatusCode::SERVICE_UNAVAILABLE.as_u16()),
        Some(code) => Outcome::Failed(format!("gRPC status {code}")),
        None => Outcome::Failed("the answer has no gRPC status".to_owned()),
    }
}

async fn connect(place: &Place, form: Form) -> Result<Sender, String> {
    let failed = |e: &dyn std::fmt::Display| format!("no connection: {e}");
    let stream = TcpStream::connect((place.host.as_str(), place.port)).await.map_err(|e| failed(&e))?;
    stream.set_nodelay(true).map_err(|e| failed(&e))?;
    let Some((connector, name)) = &place.tls else {
        return match form {
            Form::Whole => Ok(Sender::Plain(Box::new(Plain::new(stream)))),
            Form::Events | Form::Grpc => speak(stream, form).await,
        };
    };
    let encrypted = connector.connect(name.clone(), stream).await.map_err(|e| {
        let url = format!("https://{}:{}", place.host, place.port);
        let refusal = bms_wire::tls::refusal(&url, &e);
        refusal.map_or_else(|| failed(&e), |refusal| refusal.message().to_owned())
    })?;
    speak(encrypted, form).await
}

/// Begins HTTP on a connection.
async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    form: Form,
) -> Result<Sender, String> {
    let failed = |e: hyper::Error| format!("no connection: {e}");
    let io = TokioIo::new(stream);
    // A connection's task ends with it; what broke it the sender tells.
    Ok(match form {
        Form::Grpc => {
            let made = http2::handshake(TokioExecutor::new(), io).await;
            let (sender, connection) = made.map_err(failed)?;
            tokio::spawn(async move { drop(connection.await) });
            Sender::General(General::Two(sender))
        }
        Form::Whole | Form::Events => {
            let (sender, connection) = http1::handshake(io).await.map_err(failed)?;
            tokio::spawn(async move { drop(connection.await) });
            Sender::General(General::One(sender))
        }
    })
}

/// A request's head, where it is written as it is.
fn head<'a>(way: &'a Way, place: &'a Place, ask: &Ask) -> Head<'a> {
    Head {
        path: way.path.path(),
        host: &place.authority,
        content_type: if ask.head_bytes.is_some() { BINARY } else { JSON },
        key: way.key.as_ref(),
        more: ask.head_bytes.map(|bytes| (bms_wire::oip::binary::HEADER_LENGTH, bytes)),
    }
}

fn request(way: &Way, place: &Place, ask: &Ask) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(ask.body.clone()));
    *request.method_mut() = http::Method::POST;
    let mut content = HeaderValue::from_static(JSON);
    if way.form == Form::Grpc {
        // HTTP/2 has the host in the address.
        let uri = Uri::builder()
            .scheme(if place.tls.is_some() { "https" } else { "http" })
            .authority(place.authority.as_bytes());
        let whole = uri.path_and_query(way.path.path()).build();
        *request.uri_mut() = whole.unwrap_or_else(|_| way.path.clone());
        content = HeaderValue::from_static("application/grpc");
        request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
    } else {
        *request.uri_mut() = way.path.clone();
        request.headers_mut().insert(header::HOST, place.authority.clone());
    }
    let headers = request.headers_mut();
    if let Some(bytes) = ask.head_bytes {
        content = HeaderValue::from_static(BINARY);
        headers.insert(HEAD_LENGTH, HeaderValue::from(bytes));
    }
    headers.insert(header::CONTENT_TYPE, content);
    if let Some(key) = &way.key {
        headers.insert(header::AUTHORIZATION, key.clone());
    }
    request
}
