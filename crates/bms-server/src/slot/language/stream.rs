//! Answers as server-sent events, written as the client reads them.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::response::{IntoResponse, Response};
use bms_wire::{Code, Error};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use hyper::body::Frame;
use serde::Serialize;
use tokio::time::{Instant, Sleep, sleep};

use super::Language;
use super::assembly::check_end;
use super::job::{Heard, Job};
use super::marks::Marks;
use super::step::{Step, Steps};
use crate::continuation::CONTINUABLE;

/// The pause after which a comment shows that the connection is alive: proxies close silent ones, often after a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Bytes that are collected before they are sent, when more is ready at once.
const CHUNK_BYTES: usize = 16 << 10;

/// Writes the events of one protocol.
pub(super) trait Writer: Send + 'static {
    /// The first events, before anything is known.
    fn begin(&mut self, out: &mut Events);
    /// Something about an answer.
    fn step(&mut self, language: &Language, step: Step, out: &mut Events);
    /// All answers have ended. `steps` knows more about them.
    fn end(&mut self, steps: &Steps, out: &mut Events);
    /// The job failed; nothing follows.
    fn fail(&mut self, error: &Error, out: &mut Events);
    /// What keeps the connection alive while there is nothing to say.
    fn keep_alive(&self, out: &mut Events) {
        out.comment("keep-alive");
    }
}

/// Events waiting to be sent.
#[derive(Debug, Default)]
pub(super) struct Events(Vec<u8>);

impl Events {
    /// An event without a name.
    pub(super) fn data(&mut self, value: &impl Serialize) {
        self.0.extend_from_slice(b"data: ");
        self.json(value);
        self.0.extend_from_slice(b"\n\n");
    }

    /// An event with a name.
    pub(super) fn named(&mut self, name: &str, value: &impl Serialize) {
        self.0.extend_from_slice(format!("event: {name}\n").as_bytes());
        self.data(value);
    }

    /// The event OpenAI's streams end with.
    pub(super) fn done(&mut self) {
        self.0.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn comment(&mut self, text: &str) {
        self.0.extend_from_slice(format!(": {text}\n\n").as_bytes());
    }

    fn json(&mut self, value: &impl Serialize) {
        let before = self.0.len();
        // JSON written by serde has no line breaks, so it is one line of an event.
        if let Err(error) = serde_json::to_writer(&mut self.0, value) {
            tracing::error!("an event cannot be written as JSON: {error}");
            self.0.truncate(before);
            self.0.extend_from_slice(b"null");
        }
    }

    /// Throws away what was written.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// The body of a streamed answer. It asks the job for more when the connection asks it: what the client has not read
/// stays in the job's bounded queue.
struct Stream<W> {
    language: Arc<Language>,
    job: Job,
    steps: Steps,
    writer: W,
    news: Vec<Step>,
    out: Events,
    ended: bool,
    /// Nothing is known yet: what comes first waits for it, as long as the connection needs no sign of life. So the gateway
    /// knows when the answer begins, and until then may ask another slot.
    waits: bool,
    /// By which it can go on elsewhere.
    marks: Option<Marks>,
    silence: Pin<Box<Sleep>>,
}

/// The answer to a request that asked for a stream.
pub(super) fn respond(
    language: Arc<Language>,
    job: Job,
    steps: Steps,
    mut writer: impl Writer + Unpin,
    marks: Option<Marks>,
) -> Response {
    let mut out = Events::default();
    writer.begin(&mut out);
    if marks.as_ref().is_some_and(Marks::goes_on) {
        out.clear();
    }
    let marked = marks.is_some();
    let silence = Box::pin(sleep(KEEP_ALIVE));
    let (news, ended, waits) = (Vec::new(), false, true);
    let stream = Stream { language, job, steps, writer, news, out, ended, waits, marks, silence };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    let mut response = (headers, Body::new(stream)).into_response();
    if marked {
        response.headers_mut().insert(CONTINUABLE, HeaderValue::from_static("1"));
    }
    response
}

impl<W: Writer> Stream<W> {
    /// Writes what a job heard.
    fn write(&mut self, heard: Heard) {
        match heard {
            Heard::Event(number, event) => {
                let before = self.out.0.len();
                let is_known = self.marks.as_mut().is_some_and(|marks| marks.note(number, &event));
                self.steps.read(&self.language, number, event, &mut self.news);
                for step in std::mem::take(&mut self.news) {
                    if let Err(error) = check_end(&step.news) {
                        return self.fail(&error);
                    }
                    self.writer.step(&self.language, step, &mut self.out);
                }
                if is_known {
                    self.out.0.truncate(before);
                }
            }
            Heard::Failed(error) => self.fail(&error),
            Heard::End => {
                self.writer.end(&self.steps, &mut self.out);
                self.ended = true;
                if let Some(marks) = &mut self.marks {
                    marks.end();
                }
            }
        }
    }

    fn fail(&mut self, error: &Error) {
        if error.code() != Code::Unavailable {
            tracing::warn!(code = error.code().as_str(), "a streamed answer failed: {error}");
        }
        self.ended = true;
        match &mut self.marks {
            // Another slot can go on where this one cannot.
            Some(marks) if error.code() == Code::Unavailable => marks.lose(error.message()),
            marks => {
                self.writer.fail(error, &mut self.out);
                if let Some(marks) = marks {
                    marks.end();
                }
            }
        }
    }
}

impl<W: Writer + Unpin> HttpBody for Stream<W> {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        while !this.ended && this.out.0.len() < CHUNK_BYTES {
            match this.job.poll(cx) {
                Poll::Ready(heard) => {
                    this.waits = false;
                    this.write(heard);
                }
                Poll::Pending if this.waits || this.out.0.is_empty() => {
                    ready!(this.silence.as_mut().poll(cx));
                    this.waits = false;
                    if this.out.0.is_empty() {
                        this.writer.keep_alive(&mut this.out);
                    }
                }
                Poll::Pending => break,
            }
        }
        if let Some(marks) = &mut this.marks
            && (!this.out.0.is_empty() || marks.is_pressing())
        {
            marks.write(&this.language, &mut this.out.0);
        }
        if this.out.0.is_empty() {
            return Poll::Ready(None);
        }
        this.silence.as_mut().reset(Instant::now() + KEEP_ALIVE);
        Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut this.out.0).into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.out.0.is_empty() && !self.marks.as_ref().is_some_and(Marks::is_pressing)
    }
}
