//! A connection on which HTTP/1.1 is written and read by whoever asks.
//!
//! What the tool takes for a request is in every time it measures. A general client has a task for each connection, with queues to it
//! and back; here a request is one writing, and of its answer only the status and the end are looked for.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use httparse::{ParserConfig, Status};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::exchange::{ANSWER_BYTES_MAX, Broken};

/// Bytes there is room for.
const ROOM_BYTES: usize = 64 << 10;
const HEADERS_MAX: usize = 100;
/// Bytes of a line that says how long a chunk is, and of trailers.
const LINE_BYTES_MAX: usize = 4 << 10;

/// What a request says before its body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<'a> {
    pub(super) path: &'a str,
    pub(super) host: &'a HeaderValue,
    pub(super) content_type: &'a str,
    pub(super) key: Option<&'a HeaderValue>,
    /// A further header.
    pub(super) more: Option<(&'a str, usize)>,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Plain {
    stream: TcpStream,
    message: Vec<u8>,
    /// What came and was not looked at stands between `at` and `filled`.
    room: Box<[u8]>,
    at: usize,
    filled: usize,
    is_over: bool,
}

/// How an answer's end is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Bytes(usize),
    Chunks,
    /// The connection ends with it.
    Open,
}

impl Plain {
    pub(super) fn new(stream: TcpStream) -> Self {
        let room = vec![0; ROOM_BYTES].into();
        Plain { stream, message: Vec::new(), room, at: 0, filled: 0, is_over: false }
    }

    /// Whether nothing more can be asked on it.
    pub(super) fn is_closed(&self) -> bool {
        // Nothing comes unasked but its end.
        let waits =
            || self.stream.try_read(&mut [0]).is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock);
        self.is_over || self.at < self.filled || !waits()
    }

    /// Asks, and reads the answer to its end.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn exchange(&mut self, head: Head<'_>, body: &Bytes) -> Result<StatusCode, Broken> {
        write(&mut self.message, head, body);
        self.stream.write_all(&self.message).await.map_err(|e| format!("the connection broke: {e}"))?;
        let (status, length) = loop {
            let (status, length) = self.head().await?;
            // "Continue" and the like come before the answer.
            if !status.is_informational() {
                break (status, length);
            }
        };
        match length {
            Length::Bytes(bytes) => self.pass(bytes).await?,
            Length::Chunks => self.pass_chunks().await?,
            Length::Open => {
                while self.more().await? != 0 {
                    self.at = self.filled
                }
            }
        }
        Ok(status)
    }

    /// Reads an answer's head, and notes whether another request may follow.
    async fn head(&mut self) -> Result<(StatusCode, Length), Broken> {
        loop {
            let mut lines = [const { MaybeUninit::uninit() }; HEADERS_MAX];
            let mut response = httparse::Response::new(&mut []);
            let came = &self.room[self.at..self.filled];
            let parsed =
                ParserConfig::default().parse_response_with_uninit_headers(&mut response, came, &mut lines);
            match parsed.map_err(|e| format!("no answer: {e}"))? {
                Status::Complete(bytes) => {
                    let status = StatusCode::from_u16(response.code.unwrap_or_default());
                    let status = status.map_err(|e| format!("no answer: {e}"))?;
                    let (length, closes) = end_of(status, &response)?;
                    self.is_over |= closes && !status.is_informational();
                    self.at += bytes;
                    return Ok((status, length));
                }
                Status::Partial => self.need_more("no answer").await?,
            }
        }
    }

    /// Passes over so much of an answer.
    async fn pass(&mut self, mut bytes: usize) -> Result<(), Broken> {
        if ANSWER_BYTES_MAX < bytes {
            return Err(Broken::too_long());
        }
        loop {
            let here = bytes.min(self.filled - self.at);
            (self.at, bytes) = (self.at + here, bytes - here);
            if bytes == 0 {
                return Ok(());
            }
            self.need_more("the answer broke off").await?;
        }
    }

    async fn pass_chunks(&mut self) -> Result<(), Broken> {
        let mut passed = 0_usize;
        loop {
            let came = &self.room[self.at..self.filled];
            let parsed =
                httparse::parse_chunk_size(came).map_err(|_| "the answer's chunks are broken".to_owned())?;
            match parsed {
                Status::Complete((line, 0)) => {
                    // Behind the last there are trailers, each in a line, and an empty line.
                    self.at += line;
                    while self.line().await? != 0 {}
                    return Ok(());
                }
                Status::Complete((line, size)) => {
                    let size = usize::try_from(size).unwrap_or(usize::MAX);
                    passed = passed.saturating_add(size);
                    if ANSWER_BYTES_MAX < passed {
                        return Err(Broken::too_long());
                    }
                    self.pass(line + size + b"\r\n".len()).await?;
                }
                Status::Partial if came.len() < LINE_BYTES_MAX => {
                    self.need_more("the answer broke off").await?
                }
                Status::Partial => return Err("the answer's chunks are broken".to_owned().into()),
            }
        }
    }

    /// Passes over a line. How long it is without its end.
    async fn line(&mut self) -> Result<usize, String> {
        loop {
            let came = &self.room[self.at..self.filled];
            if let Some(end) = memchr::memchr(b'\n', came) {
                self.at += end + 1;
                return Ok(end.saturating_sub(1));
            }
            if LINE_BYTES_MAX < came.len() {
                return Err("the answer's trailers are too long".to_owned());
            }
            self.need_more("the answer broke off").await?;
        }
    }

    /// Reads what comes next, of which there has to be something.
    async fn need_more(&mut self, what: &str) -> Result<(), String> {
        match self.more().await? {
            0 => Err(format!("{what}: the connection was closed")),
            _ => Ok(()),
        }
    }

    /// Reads what comes next; 0 at the end.
    async fn more(&mut self) -> Result<usize, String> {
        if self.at == self.filled {
            (self.at, self.filled) = (0, 0);
        } else if self.filled == self.room.len() {
            self.room.copy_within(self.at..self.filled, 0);
            (self.at, self.filled) = (0, self.filled - self.at);
        }
        if self.filled == self.room.len() {
            return Err("the answer's head is too long".to_owned());
        }
        let read = self.stream.read(&mut self.room[self.filled..]).await;
        let read = read.map_err(|e| format!("the connection broke: {e}"))?;
        self.filled += read;
        self.is_over |= read == 0;
        Ok(read)
    }
}

fn write(message: &mut Vec<u8>, head: Head<'_>, body: &[u8]) {
    let Head { path, host, content_type, key, more } = head;
    let mut digits = itoa::Buffer::new();
    message.clear();
    let mut say = |parts: &[&[u8]]| parts.iter().for_each(|part| message.extend_from_slice(part));
    say(&[b"POST ", path.as_bytes(), b" HTTP/1.1\r\nhost: ", host.as_bytes()]);
    say(&[b"\r\ncontent-type: ", content_type.as_bytes()]);
    if let Some(key) = key {
        say(&[b"\r\nauthorization: ", key.as_bytes()]);
    }
    if let Some((name, number)) = more {
        say(&[b"\r\n", name.as_bytes(), b": ", digits.format(number).as_bytes()]);
    }
    say(&[b"\r\ncontent-length: ", digits.format(body.len()).as_bytes(), b"\r\n\r\n", body]);
}

/// How the end of an answer is found (<https://www.rfc-editor.org/rfc/rfc9112#section-6.3>), and whether the connection is
/// closed behind it.
fn end_of(status: StatusCode, response: &httparse::Response<'_, '_>) -> Result<(Length, bool), String> {
    let has_none =
        status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let mut length = if has_none { Length::Bytes(0) } else { Length::Open };
    let mut closes = response.version == Some(0);
    for line in response.headers.iter() {
        if line.name.eq_ignore_ascii_case("transfer-encoding") && !has_none {
            length = Length::Chunks;
        } else if line.name.eq_ignore_ascii_case("content-length") && length == Length::Open {
            let bytes = std::str::from_utf8(line.value).ok().and_then(|text| text.trim().parse().ok());
            length = Length::Bytes(bytes.ok_or("the answer has no length")?);
        } else if line.name.eq_ignore_ascii_case("connection") {
            closes = line.value.eq_ignore_ascii_case(b"close")
                || (closes && !line.value.eq_ignore_ascii_case(b"keep-alive"));
        }
    }
    Ok((length, closes || length == Length::Open))
}

#[cfg(test)]
mod tests;
