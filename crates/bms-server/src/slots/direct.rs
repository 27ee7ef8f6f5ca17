//! Small inference requests to a slot of this program, asked and answered where they are waited for.
//!
//! An HTTP client that serves all needs has a task for each connection, and queues to it and back. Here the same HTTP/1.1
//! is written and read by whoever waits: one writing, one reading. Whatever is large, comes in pieces or goes elsewhere takes
//! the other way (`connections`).

use std::future::{Future as _, poll_fn};
use std::io::Write as _;
use std::mem::MaybeUninit;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bms_wire::limits;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use httparse::{ParserConfig, Status};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use super::connections::{Broken, lost};
use super::request::{INFER, Inference, REQUEST_HEADERS};
use crate::alarm::Alarm;
use crate::socket::Socket;

/// Bytes of a request's head, about.
const HEAD_BYTES: usize = 512;
/// Bytes and headers of an answer's head.
const HEAD_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 64;
/// Bytes that there is room for at first, which most answers fit in.
const ROOM_BYTES: usize = 4 << 10;
/// Bytes of a large answer that are read at once.
const READ_BYTES_MAX: usize = 256 << 10;

/// A connection on which one request at a time is made. Dropping it closes it, by which the slot learns that nobody waits.
#[derive(Debug)]
pub(super) struct Direct {
    socket: Socket,
    /// What is sent.
    message: Vec<u8>,
    /// Room for what is read. It keeps its length, so that it is cleared once and not for each answer.
    room: Vec<u8>,
    alarm: Alarm,
}

/// An answer, and whether another request may follow on the connection.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) response: Response<Bytes>,
    pub(super) stays_open: bool,
}

impl Direct {
    /// A fresh connection.
    pub(super) async fn connect(socket: &Path) -> Result<Self, Broken> {
        let socket = Socket::connect(socket).await.map_err(lost)?;
        Ok(Direct { socket, message: Vec::new(), room: vec![0; ROOM_BYTES], alarm: Alarm::new() })
    }

    /// Itself, if it can be used once more: the other side has neither closed it nor said anything.
    pub(super) fn still_open(mut self) -> Option<Self> {
        let mut byte = [0];
        let reading = pin!(self.socket.read(&mut byte));
        reading.poll(&mut Context::from_waker(Waker::noop())).is_pending().then_some(self)
    }

    /// Sends a request and reads the answer, each time something came telling `moved`. `None` when it was not there by
    /// `deadline`.
    pub(super) async fn exchange(
        &mut self,
        inference: &Inference<'_>,
        deadline: Instant,
        moved: impl Fn(),
    ) -> Result<Option<Answered>, Broken> {
        let Direct { socket, message, room, alarm } = self;
        write(message, inference);
        let mut exchanging = pin!(exchange(socket, message, room, moved));
        poll_fn(|context| match exchanging.as_mut().poll(context) {
            Poll::Ready(answered) => Poll::Ready(answered.map(Some)),
            Poll::Pending => alarm.poll_passed(deadline, context).map(|()| Ok(None)),
        })
        .await
    }
}

async fn exchange(
    socket: &mut Socket,
    message: &[u8],
    room: &mut Vec<u8>,
    moved: impl Fn(),
) -> Result<Answered, Broken> {
    socket.write_all(message).await.map_err(lost)?;
    let mut filled = 0;
    let head = loop {
        if let Some(head) = head(&room[..filled])? {
            break head;
        }
        if filled == room.len() {
            room.resize(2 * filled, 0);
        }
        filled += read(socket, &mut room[filled..]).await?;
        moved();
    };
    if limits::REPLY_BYTES_MAX < head.body_bytes {
        return Err(Broken::Oversized);
    }
    let whole = head.bytes + head.body_bytes;
    let body = if whole <= room.len() {
        while filled < whole {
            filled += read(socket, &mut room[filled..]).await?;
            moved();
        }
        Bytes::copy_from_slice(&room[head.bytes..whole])
    } else {
        let mut body = room[head.bytes..filled].to_vec();
        body.resize(head.body_bytes, 0);
        while filled < whole {
            let rest = &mut body[filled - head.bytes..];
            let most = rest.len().min(READ_BYTES_MAX);
            filled += read(socket, &mut rest[..most]).await?;
            moved();
        }
        body.into()
    };
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    // What follows an answer is none to anything that was asked.
    Ok(Answered { response, stays_open: !head.closes && filled == whole })
}

async fn read(socket: &mut Socket, into: &mut [u8]) -> Result<usize, Broken> {
    match socket.read(into).await.map_err(lost)? {
        0 => Err(lost("it closed the connection")),
        bytes => Ok(bytes),
    }
}

/// Writes a request as it is sent.
fn write(message: &mut Vec<u8>, inference: &Inference<'_>) {
    let Inference { of, headers, body } = inference;
    message.clear();
    message.reserve(HEAD_BYTES + body.len());
    // Writing to memory cannot fail.
    let _ = write!(
        message,
        "POST /v2/models/{}/versions/{}{INFER} HTTP/1.1\r\nhost: slot\r\ncontent-length: {}\r\n",
        of.model,
        of.version,
        body.len()
    );
    for name in &REQUEST_HEADERS {
        if let Some(value) = headers.get(name) {
            message.extend_from_slice(name.as_str().as_bytes());
            message.extend_from_slice(b": ");
            message.extend_from_slice(value.as_bytes());
            message.extend_from_slice(b"\r\n");
        }
    }
    message.extend_from_slice(b"\r\n");
    message.extend_from_slice(body);
}

/// The head of an answer.
struct Head {
    status: StatusCode,
    headers: HeaderMap,
    /// Its own length in bytes.
    bytes: usize,
    /// That of the body behind it.
    body_bytes: usize,
    /// Whether the slot closes the connection after it.
    closes: bool,
}

/// The head of an answer at the beginning of what was read; `None` while it is not all there.
fn head(read: &[u8]) -> Result<Option<Head>, Broken> {
    if read.is_empty() {
        return Ok(None);
    }
    let mut lines = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let parsed = ParserConfig::default().parse_response_with_uninit_headers(&mut response, read, &mut lines);
    let bytes = match parsed.map_err(lost)? {
        Status::Complete(bytes) => bytes,
        Status::Partial if HEAD_BYTES_MAX < read.len() => {
            return Err(lost("the head of its answer is too long"));
        }
        Status::Partial => return Ok(None),
    };
    let status = StatusCode::from_u16(response.code.unwrap_or_default()).map_err(lost)?;
    let mut headers = HeaderMap::with_capacity(response.headers.len());
    let (mut body_bytes, mut closes) = (None, false);
    for line in response.headers.iter() {
        match HeaderName::from_bytes(line.name.as_bytes()).map_err(lost)? {
            header::CONTENT_LENGTH => {
                let length = std::str::from_utf8(line.value).ok().and_then(|length| length.parse().ok());
                body_bytes = Some(length.ok_or_else(|| lost("its answer has no length"))?);
            }
            header::TRANSFER_ENCODING => return Err(lost("its answer does not say how long it is")),
            header::CONNECTION => closes = line.value.eq_ignore_ascii_case(b"close"),
            header::DATE => {}
            name => drop(headers.append(name, HeaderValue::from_bytes(line.value).map_err(lost)?)),
        }
    }
    let body_bytes = body_bytes.ok_or_else(|| lost("its answer does not say how long it is"))?;
    Ok(Some(Head { status, headers, bytes, body_bytes, closes }))
}

#[cfg(test)]
mod tests;
