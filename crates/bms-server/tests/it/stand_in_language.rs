//! What a stand-in answers where a language model would.
//!
//! The body says what happens: `{"pieces": 3, "every_ms": 5, "bytes": 100}` streams events, and afterwards
//! `"then"` is `end`, `done` (with the mark of it), `error` (an event that says so before that), `exit` (the process), `half` (an event that does not end, then the process) or `hang`. Before
//! the first piece `exit_once` ends the process for the first who makes that file, `wait_for` waits for one. `dropped`
//! names a file that is made when the answer was given up. Without `pieces` the answer is one document. With `idle` it is a
//! stream that is kept alive and never begins, as one with marks that waits in its engine's queue.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http::{StatusCode, header};
use hyper::body::{Body, Frame};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Numbers what this process was asked.
static ASKED: AtomicUsize = AtomicUsize::new(0);

pub(crate) fn routes() -> Router {
    let histogram = json!({ "edges": [1.0], "counts": [2, 1], "sum": 3.5 });
    let reading = json!({
        "running": 3, "waiting": 1, "kv_pages_used": 5, "kv_pages": 10, "prefix_hit_tokens": 7,
        "prefix_queried_tokens": 9, "prompt_tokens": 11, "generation_tokens": 13, "preemptions": 0,
        "drafted_tokens": 0, "accepted_tokens": 0, "finished": [{ "reason": "stop", "requests": 4 }],
        "time_to_first_token": histogram, "inter_token_latency": histogram, "request_latency": histogram,
    });
    let model = json!({ "id": "m", "object": "model", "created": 1, "owned_by": "bms", "max_model_len": 99 });
    let adapter = json!({ "id": "style", "object": "model", "created": 1, "owned_by": "bms", "parent": "m" });
    let list = json!({ "object": "list", "data": [model, adapter] });
    let mut router = Router::new()
        .route("/v2/readings", get(async || axum::Json(reading)))
        .route("/v1/models", get(async || axum::Json(list)));
    for path in [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/tokenize",
        "/detokenize",
    ] {
        router = router.route(path, post(answer));
    }
    router
}

#[derive(Deserialize, Default)]
struct Asked {
    model: Option<String>,
    pieces: Option<usize>,
    #[serde(default)]
    every_ms: u64,
    #[serde(default)]
    bytes: usize,
    then: Option<String>,
    exit_once: Option<PathBuf>,
    wait_for: Option<PathBuf>,
    dropped: Option<PathBuf>,
    status: Option<u16>,
    #[serde(default)]
    idle: bool,
}

/// What an answer is given up by that has not begun: it leaves the mark.
struct Waiting(Option<PathBuf>);

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(mark) = &self.0 {
            std::fs::File::create(mark).unwrap();
        }
    }
}

/// An answer that leaves a mark when it is given up.
struct Marked {
    pieces: mpsc::Receiver<Bytes>,
    mark: Option<PathBuf>,
}

impl Body for Marked {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let piece = self.pieces.poll_recv(context);
        if let Poll::Ready(None) = piece {
            self.mark = None;
        }
        piece.map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

impl Drop for Marked {
    fn drop(&mut self) {
        if let Some(mark) = &self.mark {
            std::fs::File::create(mark).unwrap();
        }
    }
}

async fn answer(uri: http::Uri, body: Bytes) -> Response {
    let asked: Asked = serde_json::from_slice(&body).unwrap_or_default();
    if asked.exit_once.as_ref().is_some_and(|file| std::fs::File::create_new(file).is_ok()) {
        std::process::exit(1);
    }
    let mut waiting = Waiting(asked.dropped.clone());
    while asked.wait_for.as_ref().is_some_and(|file| !file.exists()) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    waiting.0 = None;
    if asked.idle {
        return idle(asked.dropped);
    }
    let status = StatusCode::from_u16(asked.status.unwrap_or(200)).unwrap();
    let number = ASKED.fetch_add(1, Ordering::Relaxed);
    let Some(pieces) = asked.pieces else {
        let answer: Value = json!({
            "id": format!("chatcmpl-{number}"), "created": 17, "asked": number,
            "pid": std::process::id(), "path": uri.path(), "model": asked.model, "bytes": body.len(),
        });
        return (status, [(header::RETRY_AFTER, "7")], axum::Json(answer)).into_response();
    };
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let filler = "x".repeat(asked.bytes);
        for n in 0..pieces {
            let event = format!(
                "data: {{\"id\":\"chatcmpl-{number}\",\"created\":17,\"asked\":{number},\"n\":{n},\"pid\":{},\"x\":\"{filler}\"}}\n\n",
                std::process::id(),
            );
            if sender.send(event.into()).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(asked.every_ms)).await;
        }
        match asked.then.as_deref() {
            Some("exit") => std::process::exit(1),
            // Who has left has left.
            Some("done") => drop(sender.send("data: [DONE]\n\n".into()).await),
            Some("error") => drop(sender.send("data: {\"error\":{}}\n\ndata: [DONE]\n\n".into()).await),
            Some("half") => {
                sender.send("data: {\"n\":".into()).await.unwrap();
                tokio::time::sleep(Duration::from_millis(200)).await;
                std::process::exit(1)
            }
            Some("hang") => sender.closed().await,
            _ => {}
        }
    });
    let body = axum::body::Body::new(Marked { pieces: receiver, mark: asked.dropped });
    (status, [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")], body)
        .into_response()
}

/// The beginning of a stream that knows nothing yet, and its mark.
fn idle(mark: Option<PathBuf>) -> Response {
    let begin = "data: {\"role\":\"assistant\"}\n\n: bms {\"begin\":{\"id\":\"a\",\"created\":1,\"seed\":1},\"names\":1}\n\n";
    let (sender, pieces) = mpsc::channel(1);
    tokio::spawn(async move {
        sender.send(begin.into()).await.unwrap();
        sender.closed().await;
    });
    let head = [(header::CONTENT_TYPE.as_str(), "text/event-stream"), ("x-bms-continuable", "1")];
    (head, axum::body::Body::new(Marked { pieces, mark })).into_response()
}
