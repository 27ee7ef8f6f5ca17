//! The short way of small requests.
//!
//! A general HTTP server and a router are made for all there is, and what a request takes in them is many times the work of
//! a small model. A request that is as most are (HTTP/1.1, one small message, one of a few routes) is read,
//! answered and written here, by one future that belongs to the connection. With the first request that is otherwise the
//! connection goes to the general server, with all that was read: nothing is decided here that is decided differently there.
//!
//! ```text
//! bytes ──▶ look ──▶ whole and plain ──▶ FastPath::answer ──▶ written at once ─┐
//!   ▲         │                                                              │
//!   │         └──▶ anything else ──▶ the general server, for good            │
//!   └────────────────────────────────────────────────────────────────────────┘
//! ```

mod look;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Response, header};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::watch;
use tokio::time::Instant;

use super::opening::Opened;
use crate::alarm::Alarm;
use look::Seen;

/// Bytes of the body of a request that is answered here.
pub(crate) const BODY_BYTES_MAX: usize = 64 << 10;
/// Bytes that are read at least, if there are as many.
const READ_BYTES: usize = 4 << 10;
/// How long the rest of a request that has begun is waited for. Whoever takes longer does not notice the long way.
const REST_WITHIN: Duration = Duration::from_millis(100);
/// Bytes of an answer's body up to which it is copied behind its head, to be written with it.
const COPIED_BYTES_MAX: usize = 16 << 10;
/// Bytes of a date.
const DATE_BYTES: usize = "Sun, 06 Nov 1994 08:49:37 GMT".len();

/// What answers some requests directly, without the router and all that belongs to it.
pub(crate) trait FastPath: Clone + Send + Sync + 'static {
    /// What a path leads to.
    type Route: Send;

    /// Where a request goes that is answered here; `None` for all others.
    fn route(&self, method: &str, path: &str) -> Option<Self::Route>;

    /// Answers a request. Dropped when its client leaves before.
    fn answer(
        &self,
        route: Self::Route,
        headers: HeaderMap,
        body: Bytes,
    ) -> impl Future<Output = Answer> + Send;
}

/// An answer as it is written.
pub(crate) struct Answer {
    pub(crate) response: Response<Bytes>,
    /// More headers, as lines that each end as such do: the same for all answers, hence no map's business.
    pub(crate) lines: &'static [u8],
}

impl From<Response<Bytes>> for Answer {
    fn from(response: Response<Bytes>) -> Self {
        Answer { response, lines: b"" }
    }
}

/// No request takes the short way.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Nothing {}

impl FastPath for Nothing {
    type Route = Nothing;

    fn route(&self, _: &str, _: &str) -> Option<Nothing> {
        match *self {}
    }

    async fn answer(&self, route: Nothing, _: HeaderMap, _: Bytes) -> Answer {
        match route {}
    }
}

/// Serves a connection by HTTP/1.1 until it is over, or until a request comes that is not for here: then what is to be
/// served on.
pub(super) async fn serve<I, F>(
    io: Opened<I>,
    fast: &F,
    idle_within: Option<Duration>,
    stop: &mut watch::Receiver<bool>,
) -> Option<Opened<I>>
where
    I: AsyncRead + AsyncWrite + Unpin,
    F: FastPath,
{
    let stopped = stop.clone();
    let mut told = pin!(stop.wait_for(|stop| *stop));
    let mut connection = Connection::new(io);
    loop {
        let next = match connection.next(fast, idle_within, told.as_mut()).await {
            Next::Asked(asked) => asked,
            Next::Other => return Some(connection.given_on()),
            Next::Over => return None,
        };
        let look::Asked { route, headers, body, keeps_alive } = next;
        let mut answering = pin!(fast.answer(route, headers, body));
        let answered = poll_fn(|context| match answering.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending => connection.poll_left(context).map(|()| None),
        });
        let answer = answered.await?;
        let keeps_alive = keeps_alive && !*stopped.borrow();
        connection.write(&answer, keeps_alive).await.ok()?;
        if !keeps_alive {
            // The answer is out; how the connection ends is the client's business.
            let _ = connection.io.shutdown().await;
            return None;
        }
    }
}

/// What comes next on a connection.
enum Next<R> {
    /// A request that is answered here.
    Asked(look::Asked<R>),
    /// Something else.
    Other,
    /// Nothing: the client has gone or is silent for too long, or the server stops.
    Over,
}

/// What ends the reading of a request.
enum Came {
    Bytes,
    /// It took too long.
    Late,
    /// Nothing more comes, or is waited for.
    End,
}

struct Connection<I> {
    io: Opened<I>,
    /// What was read and not taken.
    read: BytesMut,
    /// What is written.
    head: Vec<u8>,
    alarm: Alarm,
    date: Date,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Connection<I> {
    fn new(io: Opened<I>) -> Self {
        Connection { io, read: BytesMut::new(), head: Vec::new(), alarm: Alarm::new(), date: Date::default() }
    }

    /// The connection with all that came and was not answered.
    fn given_on(self) -> Opened<I> {
        let Connection { mut io, read, .. } = self;
        io.put_back(read);
        io
    }

    /// Reads the next request.
    async fn next<F: FastPath, T>(
        &mut self,
        fast: &F,
        idle_within: Option<Duration>,
        mut told: Pin<&mut impl Future<Output = T>>,
    ) -> Next<F::Route> {
        let idle_until = idle_within.map(|within| Instant::now() + within);
        let mut rest_until = None;
        loop {
            let wanted = match look::look(&mut self.read, fast) {
                Seen::Whole(asked) => return Next::Asked(asked),
                Seen::Other => return Next::Other,
                Seen::Part(wanted) => wanted,
            };
            let is_idle = self.read.is_empty();
            let until = match is_idle {
                true => idle_until,
                false => Some(*rest_until.get_or_insert_with(|| Instant::now() + REST_WITHIN)),
            };
            match self.read_more(wanted.max(READ_BYTES), until, told.as_mut()).await {
                Came::Bytes => {}
                // The general server knows how to wait for it, and how to end.
                Came::Late | Came::End if !is_idle => return Next::Other,
                Came::Late | Came::End => return Next::Over,
            }
        }
    }

    async fn read_more<T>(
        &mut self,
        bytes: usize,
        until: Option<Instant>,
        mut told: Pin<&mut impl Future<Output = T>>,
    ) -> Came {
        let Connection { io, read, alarm, .. } = self;
        read.reserve(bytes);
        let mut into = read.limit(bytes);
        let mut reading = pin!(io.read_buf(&mut into));
        poll_fn(|context| {
            if let Poll::Ready(read) = reading.as_mut().poll(context) {
                return Poll::Ready(match read {
                    Ok(0) | Err(_) => Came::End,
                    Ok(_) => Came::Bytes,
                });
            }
            if told.as_mut().poll(context).is_ready() {
                return Poll::Ready(Came::End);
            }
            match until {
                Some(until) => alarm.poll_passed(until, context).map(|()| Came::Late),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// Ready once the client has gone. What it sends meanwhile is kept for later, up to a bound.
    fn poll_left(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.read.len() < READ_BYTES {
            // Aside: the buffer is shared with the request that is being answered.
            let mut bytes = [std::mem::MaybeUninit::uninit(); 256];
            let mut bytes = ReadBuf::uninit(&mut bytes);
            match Pin::new(&mut self.io).poll_read(context, &mut bytes) {
                Poll::Ready(Ok(())) if !bytes.filled().is_empty() => self.read.put_slice(bytes.filled()),
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Pending
    }

    async fn write(&mut self, answer: &Answer, keeps_alive: bool) -> io::Result<()> {
        self.write_head(answer, keeps_alive);
        let body = answer.response.body();
        if body.len() <= COPIED_BYTES_MAX {
            self.head.extend_from_slice(body);
            self.io.write_all(&self.head).await?;
        } else {
            self.io.write_all_buf(&mut Buf::chain(&self.head[..], &body[..])).await?;
        }
        self.io.flush().await
    }

    fn write_head(&mut self, Answer { response, lines }: &Answer, keeps_alive: bool) {
        let (status, head) = (response.status(), &mut self.head);
        head.clear();
        head.extend_from_slice(b"HTTP/1.1 ");
        head.extend_from_slice(status.as_str().as_bytes());
        head.push(b' ');
        head.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        head.extend_from_slice(b"\r\n");
        for (name, value) in response.headers() {
            if *name == header::CONTENT_LENGTH {
                continue;
            }
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(lines);
        if !keeps_alive {
            head.extend_from_slice(b"connection: close\r\n");
        }
        head.extend_from_slice(b"date: ");
        head.extend_from_slice(self.date.now());
        head.extend_from_slice(b"\r\ncontent-length: ");
        head.extend_from_slice(itoa::Buffer::new().format(response.body().len()).as_bytes());
        head.extend_from_slice(b"\r\n\r\n");
    }
}

/// The time of the second that was asked for last, as HTTP writes it.
#[derive(Default)]
struct Date {
    second: u64,
    text: [u8; DATE_BYTES],
}

impl Date {
    fn now(&mut self) -> &[u8] {
        let now = SystemTime::now();
        let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if second != self.second {
            let text = httpdate::fmt_http_date(now);
            self.text = text.as_bytes().try_into().unwrap_or(self.text);
            self.second = second;
        }
        &self.text
    }
}

#[cfg(test)]
mod tests;
