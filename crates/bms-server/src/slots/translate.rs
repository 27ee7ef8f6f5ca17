//! Between a slot's protocol and an engine's: the same requests, with the names, paths and keys the engine knows, and
//! answers with the names its clients know. Nothing is waited for but the end of an event of a stream.

use bms_wire::oip::binary;
use bms_wire::{Code, Error, Result, limits};
use bytes::{Bytes, BytesMut};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header, request};
use http_body_util::{BodyExt, Full};
use memchr::memchr;

use super::connections::Broken;
use super::request::{INFERENCE_HEADER_LENGTH, REQUEST_HEADERS};
use super::{VersionName, splice};
use crate::engines::{Engine, Protocol, Runs, secret};

/// Headers of an engine's answer that are passed on. Others might mean something between a gateway and its own slots.
const RESPONSE_HEADERS: [HeaderName; 4] =
    [header::CONTENT_TYPE, header::RETRY_AFTER, header::CACHE_CONTROL, INFERENCE_HEADER_LENGTH];
/// The mark at the end of some streams, which is no document.
const DATA: &[u8] = b"data:";

/// How answers to one request are translated.
#[derive(Debug)]
pub(crate) enum Back {
    /// Not at all: it is this program's.
    Own,
    /// A document of OpenAI's protocol, with the name that was asked for.
    Text(Vec<u8>),
    /// A stream of such, one an event.
    Stream(Events),
    /// An answer of the Open Inference Protocol, with the model's name and version.
    Tensors { name: Vec<u8>, version: Vec<u8> },
}

/// The events of a stream, of which only whole ones are passed on.
#[derive(Debug)]
pub(crate) struct Events {
    name: Vec<u8>,
    /// The line that has not ended.
    line: BytesMut,
    /// The event that has not.
    event: BytesMut,
}

/// A request as an engine gets it, and how its answer comes back.
///
/// # Errors
/// [`Code::NotSupported`] for what the engine is not asked for.
pub(super) async fn outgoing(
    engine: &Engine,
    of: &VersionName,
    request: Request<Full<Bytes>>,
) -> Result<(Request<Full<Bytes>>, Back)> {
    let (parts, body) = request.into_parts();
    // All of it is here: nothing is waited for, and it cannot fail.
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let path = parts.uri.path();
    let (path, body, back) = match engine.protocol {
        Protocol::OpenAi => {
            let (body, back) = text(engine, of, path, &body)?;
            (path.to_owned(), body, back)
        }
        Protocol::Oip => (tensors(engine, of, path)?, body, names(of)),
    };
    let mut builder = builder(engine, parts.method, &path)?;
    for name in REQUEST_HEADERS {
        if let Some(value) = parts.headers.get(&name) {
            builder = builder.header(name, value);
        }
    }
    let request = builder.body(Full::new(body)).map_err(|e| unsendable().because(e))?;
    Ok((request, back))
}

/// The head of a request to an engine, with its key.
pub(super) fn builder(engine: &Engine, method: Method, path: &str) -> Result<request::Builder> {
    let (host, prefix) = match &engine.runs {
        Runs::Here { .. } => ("localhost".to_owned(), ""),
        Runs::Elsewhere { url, .. } => {
            let host = url.host_str().unwrap_or_default();
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            (format!("{host}{port}"), url.path().trim_end_matches('/'))
        }
    };
    let mut builder =
        Request::builder().method(method).uri(format!("{prefix}{path}")).header(header::HOST, host);
    if let Some(file) = &engine.key_file {
        // Read each time: keys are replaced, and the file is small and in memory.
        let key = secret::read(file)?;
        let value = HeaderValue::try_from(format!("Bearer {}", *key));
        let mut value = value.map_err(|e| unsendable().because(e))?;
        value.set_sensitive(true);
        builder = builder.header(header::AUTHORIZATION, value);
    }
    Ok(builder)
}

fn unsendable() -> Error {
    Error::new(Code::Internal, "a request cannot be written for an engine")
}

/// A request of OpenAI's protocol: the engine's name of the model takes the place of the client's.
fn text(engine: &Engine, of: &VersionName, path: &str, body: &Bytes) -> Result<(Bytes, Back)> {
    if !engine.operations.iter().any(|operation| operation == path) {
        let what = format!(
            "`{}` is served by the engine `{}`, which is not asked for {path}",
            of.model, engine.name
        );
        return Err(
            Error::new(Code::NotSupported, what).hint(format!("It is for {}.", engine.operations.join(", ")))
        );
    }
    let own = json_string(&of.model)?;
    let asked = splice::field(body, "model").map(|range| body.slice(range));
    if let Some(asked) = &asked {
        check_no_adapter(engine, of, asked)?;
    }
    let known = json_string(&engine.model_of(&of.model))?;
    let body = splice::set(body, "model", &known).ok_or_else(|| {
        Error::new(Code::InvalidRequest, "the request's body is not a JSON object").about("model")
    })?;
    Ok((body.into(), Back::Text(asked.map_or(own, |asked| asked.to_vec()))))
}

/// Names of adapters are this program's own: an engine would answer without the adapter, which nobody would notice.
fn check_no_adapter(engine: &Engine, of: &VersionName, asked: &[u8]) -> Result<()> {
    let asked: String = serde_json::from_slice(asked).unwrap_or_default();
    match asked.strip_prefix(&of.model).and_then(|rest| rest.strip_prefix(':')) {
        Some(adapter) if adapter.parse::<u64>().is_err() => {
            let what = format!(
                "`{}` is served by the engine `{}`, whose adapters are not known here",
                of.model, engine.name
            );
            Err(Error::new(Code::NotSupported, what)
                .hint("Declare an engine for each that serves it under a name of its own.")
                .about("model"))
        }
        _ => Ok(()),
    }
}

/// The path of the Open Inference Protocol by which the engine knows what is asked at a slot's.
fn tensors(engine: &Engine, of: &VersionName, path: &str) -> Result<String> {
    let slot = format!("/v2/models/{}/versions/{}", of.model, of.version);
    let Some(operation) = path.strip_prefix(&slot) else {
        let what = format!("`{}` is served by the engine `{}`, which takes tensors", of.model, engine.name);
        return Err(
            Error::new(Code::NotSupported, what).hint(format!("Ask it at /v2/models/{}/infer.", of.model))
        );
    };
    let model = segment(&engine.model_of(&of.model));
    let version = engine.model_version.as_ref().map(|version| format!("/versions/{}", segment(version)));
    Ok(format!("/v2/models/{model}{}{operation}", version.unwrap_or_default()))
}

fn names(of: &VersionName) -> Back {
    // Neither holds anything that JSON would have to escape.
    let quoted = |text: &str| format!("\"{text}\"").into_bytes();
    Back::Tensors { name: quoted(&of.model), version: quoted(&of.version.to_string()) }
}

/// A name as one segment of a path.
fn segment(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn json_string(text: &str) -> Result<Vec<u8>> {
    serde_json::to_vec(text).map_err(|e| unsendable().because(e))
}

impl Back {
    /// Takes the head of an answer.
    ///
    /// # Errors
    /// [`Broken::Refused`] for what cannot be translated, or is no business of the client's.
    pub(super) fn head(self, parts: &mut Parts) -> std::result::Result<Back, Broken> {
        if matches!(self, Back::Own) {
            return Ok(self);
        }
        let refused = |code, what: &str| Err(Broken::Refused(Error::new(code, what)));
        if parts.status == StatusCode::UNAUTHORIZED {
            return refused(Code::Unavailable, "the engine does not accept this server's key");
        }
        if parts.headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
            return refused(Code::NotSupported, "the engine compresses its answers unasked");
        }
        let header = |name: HeaderName| parts.headers.get(&name).map(|value| (name, value.clone()));
        parts.headers = RESPONSE_HEADERS.into_iter().filter_map(header).collect::<HeaderMap>();
        let kind = parts.headers.get(header::CONTENT_TYPE);
        let streams = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        Ok(match self {
            Back::Text(name) if streams => {
                Back::Stream(Events { name, line: BytesMut::new(), event: BytesMut::new() })
            }
            other => other,
        })
    }

    /// A whole answer, translated.
    pub(super) fn whole(&self, parts: &mut Parts, body: Bytes) -> Bytes {
        match self {
            Back::Text(name) => named(&body, name).map_or(body, Bytes::from),
            Back::Tensors { name, version } if parts.status == StatusCode::OK => {
                with_names(parts, name, version, &body).unwrap_or(body)
            }
            Back::Own | Back::Stream(_) | Back::Tensors { .. } => body,
        }
    }
}

impl Events {
    /// Takes a piece of the stream. Gives the events that are whole now.
    ///
    /// # Errors
    /// [`Broken::Lost`] when one is too long.
    pub(super) fn take(&mut self, mut piece: &[u8]) -> std::result::Result<Bytes, Broken> {
        let mut out = BytesMut::new();
        while let Some(end) = memchr(b'\n', piece) {
            self.line.extend_from_slice(&piece[..end]);
            piece = &piece[end + 1..];
            let line = self.line.split();
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            match line.strip_prefix(DATA).and_then(|document| named(document, &self.name)) {
                Some(document) => {
                    self.event.extend_from_slice(DATA);
                    self.event.extend_from_slice(&document);
                }
                None => self.event.extend_from_slice(line),
            }
            self.event.extend_from_slice(b"\n");
            if line.is_empty() {
                out.extend_from_slice(&self.event.split());
            }
        }
        self.line.extend_from_slice(piece);
        if limits::ENGINE_EVENT_BYTES_MAX < self.line.len() + self.event.len() {
            let what = format!(
                "an event of its stream is over the limit of {} bytes",
                limits::ENGINE_EVENT_BYTES_MAX
            );
            return Err(Broken::Lost(what));
        }
        Ok(out.freeze())
    }

    /// What is left when the stream has ended: some engines leave out the last blank line.
    pub(super) fn rest(&mut self) -> Option<Bytes> {
        if self.line.is_empty() && self.event.is_empty() {
            return None;
        }
        // One for the line, one for the event: the limit was looked at before.
        let ends: &[u8] = if self.line.is_empty() { b"\n" } else { b"\n\n" };
        self.take(ends).ok().filter(|rest| !rest.is_empty())
    }
}

/// A document with another name of the model, at its top or in what it tells of: the `response` of OpenAI's events, the
/// `message` of Anthropic's.
fn named(document: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    if let Some(replaced) = splice::replaced(document, "model", name) {
        return Some(replaced);
    }
    ["response", "message"].into_iter().find_map(|told| {
        let inner = splice::field(document, told)?;
        let replaced = splice::replaced(&document[inner.clone()], "model", name)?;
        Some(splice::splice(document, inner, &replaced))
    })
}

/// An answer of the Open Inference Protocol with our names: of inference, or about a model.
fn with_names(parts: &mut Parts, name: &[u8], version: &[u8], body: &Bytes) -> Option<Bytes> {
    let length = parts.headers.get(&INFERENCE_HEADER_LENGTH);
    let length = length.map(|length| binary::header_length(length.as_bytes())).transpose().ok()?;
    let (head, tensors) = body.split_at_checked(length.unwrap_or(body.len()))?;
    let head = if splice::field(head, "outputs").is_some() && splice::field(head, "model_name").is_some() {
        splice::set(&splice::set(head, "model_name", name)?, "model_version", version)?
    } else {
        let head = splice::replaced(head, "name", name)?;
        let versions = [b"[", version, b"]"].concat();
        splice::replaced(&head, "versions", &versions).unwrap_or(head)
    };
    if length.is_some() {
        parts.headers.insert(INFERENCE_HEADER_LENGTH, HeaderValue::from(head.len()));
    }
    Some([&head, tensors].concat().into())
}

#[cfg(test)]
mod tests;
