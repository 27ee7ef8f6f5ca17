//! Whether what has come of a connection is a request that is answered directly.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use httparse::Status;

use super::{BODY_BYTES_MAX, FastPath};

/// Bytes and headers of a request's head; the general server takes more.
const HEAD_BYTES_MAX: usize = 8 << 10;
const HEADERS_MAX: usize = 48;

/// What the bytes are.
pub(super) enum Seen<R> {
    /// A request that is answered here.
    Whole(Asked<R>),
    /// The beginning of what may be one; about so many bytes are missing.
    Part(usize),
    /// Something else, or something that is not understood here.
    Other,
}

/// A request that is answered here.
pub(super) struct Asked<R> {
    pub(super) route: R,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Whether another may follow on the connection.
    pub(super) keeps_alive: bool,
}

/// A header: its name, and where its value stands.
type Line = (HeaderName, Range<usize>);

/// What is known of a request whose head has come.
struct Head<R> {
    route: R,
    lines: Vec<Line>,
    /// Its own length.
    bytes: usize,
    body_bytes: usize,
    keeps_alive: bool,
}

/// Takes a request off the bytes if a whole one stands there; leaves them as they are otherwise.
pub(super) fn look<F: FastPath>(read: &mut BytesMut, fast: &F) -> Seen<F::Route> {
    let head = match head(read, fast) {
        Ok(Some(head)) => head,
        Ok(None) => return Seen::Part(0),
        Err(NotHere) => return Seen::Other,
    };
    let bytes = head.bytes + head.body_bytes;
    if read.len() < bytes {
        return Seen::Part(bytes - read.len());
    }
    let message = read.split_to(bytes).freeze();
    let mut headers = HeaderMap::with_capacity(head.lines.len());
    for (name, place) in head.lines {
        // It was looked at whether they can be one.
        if let Ok(value) = HeaderValue::from_maybe_shared(message.slice(place)) {
            headers.append(name, value);
        }
    }
    let Head { route, keeps_alive, .. } = head;
    Seen::Whole(Asked { route, headers, body: message.slice(head.bytes..), keeps_alive })
}

/// It is for the general server.
struct NotHere;

/// The head at the beginning of what was read, `None` while it is not all there.
fn head<F: FastPath>(read: &[u8], fast: &F) -> Result<Option<Head<F::Route>>, NotHere> {
    if read.is_empty() {
        return Ok(None);
    }
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    let bytes = match request.parse_with_uninit_headers(read, &mut headers) {
        Ok(Status::Complete(bytes)) if bytes <= HEAD_BYTES_MAX => bytes,
        Ok(Status::Partial) if read.len() < HEAD_BYTES_MAX => return Ok(None),
        _ => return Err(NotHere),
    };
    let (method, path) = (request.method.ok_or(NotHere)?, request.path.ok_or(NotHere)?);
    if request.version != Some(1) || !path.bytes().all(is_plain) {
        return Err(NotHere);
    }
    let route = fast.route(method, path).ok_or(NotHere)?;
    let mut head = Head {
        route,
        lines: Vec::with_capacity(request.headers.len()),
        bytes,
        body_bytes: 0,
        keeps_alive: true,
    };
    let mut has_length = false;
    for line in request.headers.iter() {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| NotHere)?;
        match name {
            header::CONTENT_LENGTH if has_length => return Err(NotHere),
            header::CONTENT_LENGTH => (has_length, head.body_bytes) = (true, length(line.value)?),
            header::CONNECTION if line.value.eq_ignore_ascii_case(b"keep-alive") => {}
            header::CONNECTION if line.value.eq_ignore_ascii_case(b"close") => head.keeps_alive = false,
            header::CONNECTION
            | header::TRANSFER_ENCODING
            | header::EXPECT
            | header::UPGRADE
            | header::TE
            | header::TRAILER => return Err(NotHere),
            // Without a place: an empty value need not point into what was read.
            _ if line.value.is_empty() => head.lines.push((name, 0..0)),
            _ => {
                let place = line.value.as_ptr().addr() - read.as_ptr().addr();
                head.lines.push((name, place..place + line.value.len()));
            }
        }
        if !line.value.iter().copied().all(is_of_value) {
            return Err(NotHere);
        }
    }
    Ok(Some(head))
}

/// The length a header says a body has.
fn length(value: &[u8]) -> Result<usize, NotHere> {
    let digits = value.iter().all(u8::is_ascii_digit).then_some(value).ok_or(NotHere)?;
    let length = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or(NotHere)?;
    if length <= BODY_BYTES_MAX { Ok(length) } else { Err(NotHere) }
}

/// Whether a character of a path stands for itself.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'_' | b'-')
}

/// Whether a byte may be part of a header's value, as [`HeaderValue`] has it.
fn is_of_value(byte: u8) -> bool {
    (32 <= byte && byte != 127) || byte == b'\t'
}
