use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use super::*;

/// Answers one connection with `reply`, and gives back the request line.
fn one_reply(reply: &'static str) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let handle = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
        stream.write_all(reply.as_bytes()).unwrap();
        line
    });
    (base, handle)
}

#[test]
fn a_peers_error_keeps_its_code_and_hint() {
    let (base, handle) = one_reply(
        "HTTP/1.1 404 Not Found\r\ncontent-length: 77\r\nconnection: close\r\n\r\n\
         {\"error\":\"no model `x`\",\"code\":\"model_not_found\",\"hint\":\"Deploy it first.  \"}",
    );
    let error = Client::new(&base).unwrap().version("a b", "latest").unwrap_err();
    assert_eq!(error.code(), Code::ModelNotFound);
    assert_eq!(error.advice(), Some("Deploy it first.  "));
    assert!(handle.join().unwrap().starts_with("GET /api/v1/models/a%20b/versions/latest "));
}

#[test]
fn an_answer_from_something_else_says_so() {
    let (base, _handle) =
        one_reply("HTTP/1.1 503 Busy\r\ncontent-length: 4\r\nconnection: close\r\n\r\n<p>!");
    let error = Client::new(&base).unwrap().models().unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("503"), "{error}");
}

#[test]
fn nobody_there_is_unavailable() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = Client::new(&format!("http://127.0.0.1:{port}")).unwrap().models().unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.advice().is_some());
}

#[test]
fn an_address_without_scheme_is_refused_with_advice() {
    let error = Client::new("127.0.0.1:8080").unwrap_err();
    assert_eq!(error.code(), Code::InvalidRequest);
    assert!(error.advice().unwrap().contains("http://"));
}
