//! The dashboard, the runs and the chat: a few files that are part of the program, no build step, no network.

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, header};

const PAGE: &str = include_str!("../assets/index.html");
const SCRIPT: &str = include_str!("../assets/app.js");
const STYLE: &str = include_str!("../assets/style.css");
const RUNS_PAGE: &str = include_str!("../assets/runs.html");
const RUNS_SCRIPT: &str = include_str!("../assets/runs.js");
const KEY_SCRIPT: &str = include_str!("../assets/key.js");
const CHAT_PAGE: &str = include_str!("../assets/chat.html");
const CHAT_SCRIPT: &str = include_str!("../assets/chat.js");

const HTML: &str = "text/html; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// The routes of the dashboard, runs and chat among them.
pub(crate) fn routes() -> Router {
    chat_routes()
        .route("/", get(async || file(HTML, PAGE)))
        .route("/app.js", get(async || file(JAVASCRIPT, SCRIPT)))
        .route("/runs", get(async || file(HTML, RUNS_PAGE)))
        .route("/runs.js", get(async || file(JAVASCRIPT, RUNS_SCRIPT)))
}

/// The routes of the chat alone: all there is to see of a server of one model.
pub(crate) fn chat_routes() -> Router {
    Router::new()
        .route("/chat", get(async || file(HTML, CHAT_PAGE)))
        .route("/chat.js", get(async || file(JAVASCRIPT, CHAT_SCRIPT)))
        .route("/key.js", get(async || file(JAVASCRIPT, KEY_SCRIPT)))
        .route("/style.css", get(async || file("text/css; charset=utf-8", STYLE)))
}

fn file(content_type: &'static str, content: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        // The files change with the program, and only with it; loading them again costs nothing here.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, content).into_response()
}
