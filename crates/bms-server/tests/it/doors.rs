//! What is refused at the door: sizes, paths, methods, full queues, strangers.

use std::time::{Duration, Instant};

use bms_wire::{Code, limits};
use http::header;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Connection, Server, code};

/// Sends bytes as they are; the head and body of the answer.
async fn talk(server: &Server, sent: &[u8]) -> (String, Value) {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(sent).await.unwrap();
    answer_of(&mut stream).await
}

async fn answer_of(stream: &mut TcpStream) -> (String, Value) {
    let mut text = Vec::new();
    loop {
        let mut part = [0; 4096];
        let n = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut part)).await.unwrap().unwrap();
        text.extend_from_slice(&part[..n]);
        let text = String::from_utf8_lossy(&text);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        match serde_json::from_str(body) {
            Ok(body) => return (head.to_owned(), body),
            Err(_) if n == 0 => return (head.to_owned(), Value::Null),
            Err(_) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_a_gigabyte_is_refused_by_its_declared_length() {
    let server = Server::of_one_bundle(|_| {}).await;
    let sent = b"POST /v2/models/m/infer HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1073741824\r\n\r\n{";
    let began = Instant::now();
    let (head, body) = talk(&server, sent).await;
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    assert_eq!(code(&body), Some(Code::TooLarge));
    assert!(began.elapsed() < Duration::from_secs(5), "it was refused before the body came");
    assert_eq!(server.infer("{}").await.0, 200);
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_sends_everything_before_it_reads_gets_its_413() {
    let server = Server::of_one_bundle(|_| {}).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let size = 4 * limits::INFER_BODY_BYTES_MAX;
    let head =
        format!("POST /v2/models/m/infer HTTP/1.1\r\nhost: localhost\r\ncontent-length: {size}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b'x'; size]).await.unwrap();
    let (head, body) = answer_of(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    assert_eq!(code(&body), Some(Code::TooLarge));
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_without_a_length_is_refused_while_it_streams() {
    let server = Server::of_one_bundle(|_| {}).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let head = "POST /v2/models/m/infer HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    writing.write_all(head.as_bytes()).await.unwrap();
    let sending = tokio::spawn(async move {
        let chunk =
            [format!("{:x}\r\n", 1 << 20).into_bytes(), vec![b'x'; 1 << 20], b"\r\n".to_vec()].concat();
        let mut sent = 0;
        // A gigabyte, unless it is refused before.
        while sent < 1 << 10 && writing.write_all(&chunk).await.is_ok() {
            sent += 1;
        }
        (sent, writing)
    });
    let mut first = [0; 12];
    reading.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 413");
    drop(reading);
    let (megabytes, _) = sending.await.unwrap();
    assert!(limits::INFER_BODY_BYTES_MAX >> 20 <= megabytes, "refused after {megabytes} MB already");
    assert_eq!(server.infer("{}").await.0, 200);
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_asks_before_it_sends_is_not_invited() {
    let server = Server::of_one_bundle(|_| {}).await;
    let head =
        "POST /v2/models/m/infer HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: ";
    let (answer, _) = talk(&server, format!("{head}1073741824\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(format!("{head}2\r\n\r\n").as_bytes()).await.unwrap();
    let mut invitation = [0; 25];
    stream.read_exact(&mut invitation).await.unwrap();
    assert_eq!(&invitation, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"{}").await.unwrap();
    assert!(answer_of(&mut stream).await.0.starts_with("HTTP/1.1 200 "));
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_in_very_many_pieces_is_one_body() {
    let server = Server::of_one_bundle(|_| {}).await;
    let mut sent =
        b"POST /v2/models/m/infer HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let pieces = 5_000;
    for _ in 0..pieces {
        sent.extend_from_slice(b"1\r\n \r\n");
    }
    sent.extend_from_slice(b"0\r\n\r\n");
    let (head, body) = talk(&server, &sent).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(body["bytes"].as_u64(), Some(pieces));
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_is_noticed_and_counted() {
    let server = Server::of_one_bundle(|_| {}).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let body = r#"{"sleep_ms": 25000}"#;
    let head = format!(
        "POST /v2/models/m/infer HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    server.until_in_flight(1).await;
    drop(stream);
    server.until_in_flight(0).await;
    let metrics = server.metrics().await;
    assert!(metrics.contains(r#"bms_requests_total{code="499",model="m",version="1"} 1"#), "{metrics}");
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_body_allowed_passes() {
    let server = Server::of_one_bundle(|_| {}).await;
    let body = vec![b' '; limits::INFER_BODY_BYTES_MAX];
    let answer = server.connect().await.raw("POST", "/v2/models/m/infer", body, &[]).await;
    assert_eq!(answer.status(), 200);
    let answer: Value = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!(answer["bytes"].as_u64(), Some(limits::INFER_BODY_BYTES_MAX as u64));
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_names_and_wrong_methods_are_told_apart() {
    let server = Server::of_one_bundle(|_| {}).await;
    let mut connection = server.connect().await;
    for (method, path, status, expected) in [
        ("POST", "/v2/models/nobody/infer", 404, Code::ModelNotFound),
        ("GET", "/v2/models/nobody", 404, Code::ModelNotFound),
        ("GET", "/v2/models/nobody/ready", 404, Code::ModelNotFound),
        ("POST", "/v2/models/m/versions/7/infer", 404, Code::VersionNotFound),
        ("POST", "/v2/models/m/versions/latest/infer", 404, Code::VersionNotFound),
        ("POST", "/v2/models/%ff/infer", 400, Code::InvalidRequest),
        ("GET", "/v2/nothing", 404, Code::NotFound),
        ("GET", "/api/v1/models", 404, Code::NotFound),
        ("GET", "/../etc/passwd", 404, Code::NotFound),
        ("GET", "/v2/models/m/infer", 405, Code::InvalidRequest),
        ("DELETE", "/v2", 405, Code::InvalidRequest),
        ("PUT", "/metrics", 405, Code::InvalidRequest),
    ] {
        let answer = connection.raw(method, path, "", &[]).await;
        assert_eq!(answer.status(), status, "{method} {path}");
        let body: Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(code(&body), Some(expected), "{method} {path}");
        assert!(!body["error"].as_str().unwrap().is_empty());
        assert_eq!(answer.headers().contains_key(header::ALLOW), status == 405, "{method} {path}");
    }
    assert_eq!(connection.send("GET", "/v2/models/m/versions/1/ready", "").await.0, 200);
    let (status, metadata) = connection.send("GET", "/v2/models/m", "").await;
    assert_eq!((status, metadata["name"].as_str()), (200, Some("m")));
    let (_, metadata) = connection.send("GET", "/v2", "").await;
    assert_eq!(metadata["name"], "bms");
    let metrics = server.metrics().await;
    assert!(!metrics.contains("nobody"), "a client's invention became a label:\n{metrics}");
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_answers_429_and_those_inside_are_served() {
    let server = Server::of_one_bundle(|_| {}).await;
    let address = server.address;
    let open = server.dir.path().join("open");
    let body = format!(r#"{{"wait_for": {open:?}}}"#);
    let ask = || {
        let body = body.clone();
        tokio::spawn(async move {
            let mut connection = Connection::open(address).await;
            let answer = connection.raw("POST", "/v2/models/m/infer", body, &[]).await;
            (answer.status().as_u16(), answer.headers().contains_key(header::RETRY_AFTER))
        })
    };
    let inside: Vec<_> = (0..limits::QUEUE_ROWS_MAX).map(|_| ask()).collect();
    server.until_in_flight(limits::QUEUE_ROWS_MAX).await;
    for _ in 0..20 {
        assert_eq!(ask().await.unwrap(), (429, true));
    }
    std::fs::File::create(&open).unwrap();
    for request in inside {
        assert_eq!(request.await.unwrap(), (200, false));
    }
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_strangers_are_kept_out() {
    let server = Server::of_one_bundle(|_| {}).await;
    let mut connection = server.connect().await;
    let answer = connection.raw("GET", "/v2", "", &[("host", "evil.example")]).await;
    assert_eq!(answer.status(), 403);
    let foreign = [("origin", "http://evil.example")];
    assert_eq!(connection.raw("POST", "/v2/models/m/infer", "{}", &foreign).await.status(), 403);
    let own = format!("http://{}", server.address);
    let own = [("origin", own.as_str()), ("sec-fetch-site", "same-origin")];
    assert_eq!(connection.raw("POST", "/v2/models/m/infer", "{}", &own).await.status(), 200);
    server.stop().await.0.unwrap();
}
