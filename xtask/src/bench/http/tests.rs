use std::net::TcpListener;

use super::*;

/// A server that answers one request with these bytes.
fn answering(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = BufReader::new(stream.try_clone().unwrap());
        while line(&mut request).unwrap() != "" {}
        stream.write_all(answer).unwrap();
    });
    address
}

#[test]
fn chunks_are_joined_whatever_their_borders() {
    let address = answering(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
          6\r\ndata: \r\n9;x=y\r\n{\"a\":1}\n\n\r\n0\r\n\r\n",
    );
    assert_eq!(get(address, "/").unwrap(), "data: {\"a\":1}\n\n");
}

#[test]
fn a_body_ends_where_its_length_says() {
    let address = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nabc");
    assert_eq!(get(address, "/").unwrap(), "ab");
}

#[test]
fn a_body_that_stops_early_is_an_error() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
    ] {
        assert!(get(answering(answer), "/").is_err());
    }
}

#[test]
fn a_refusal_is_told() {
    let address = answering(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nlate");
    let refused = post(address, "/", &serde_json::json!({})).err().unwrap().to_string();
    assert!(refused.contains("503") && refused.contains("late"), "{refused}");
}
