use tokio::net::TcpListener;

use super::*;

const LENGTH: &str = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc";
const CHUNKS: &str = "HTTP/1.1 429 Too Many Requests\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\nabcd\r\n10\r\n0123456789abcdef\r\n0\r\nx-sum: 1\r\n\r\n";
const CONTINUED: &str = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
const CLOSES: &str = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\na";
const OLD: &str = "HTTP/1.0 200 OK\r\n\r\nall that comes";

const HOST: HeaderValue = HeaderValue::from_static("example:80");
const KEY: HeaderValue = HeaderValue::from_static("Bearer k");

/// What a server got that answers each request with one of these, in pieces of so many bytes, and then ends the connection or
/// does not; and what came of each, with whether another could be asked.
async fn ask(answers: &[&str], piece: usize, ends: bool) -> (String, Vec<Result<(u16, bool), String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let said: Vec<Vec<u8>> = answers.iter().map(|answer| answer.as_bytes().to_vec()).collect();
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut got = Vec::new();
        for answer in said {
            while !got.ends_with(b"{}") {
                assert_ne!(stream.read_buf(&mut got).await.unwrap(), 0);
            }
            got.push(b'\n');
            for piece in answer.chunks(piece) {
                stream.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        }
        if ends {
            stream.shutdown().await.unwrap();
        }
        (got, stream)
    });
    let mut plain = Plain::new(TcpStream::connect(address).await.unwrap());
    let mut came = Vec::new();
    for _ in answers {
        let head =
            Head { path: "/p", host: &HOST, content_type: "a/b", key: Some(&KEY), more: Some(("n", 7)) };
        let status = plain.exchange(head, &Bytes::from_static(b"{}")).await;
        came.push(status.map(|status| (status.as_u16(), !plain.is_closed())).map_err(|broken| broken.why));
    }
    (String::from_utf8(serving.await.unwrap().0).unwrap(), came)
}

#[tokio::test]
async fn answers_are_read_to_their_end_however_they_come() {
    for piece in [1, 2, 7, 1000] {
        let (_, came) = ask(&[LENGTH, CHUNKS, CONTINUED, LENGTH, CLOSES], piece, false).await;
        let want = [(200, true), (429, true), (204, true), (200, true), (200, false)].map(Ok);
        assert_eq!(came, want, "in pieces of {piece}");
    }
    assert_eq!(ask(&[OLD], 5, true).await.1, [Ok((200, false))]);
}

#[tokio::test]
async fn a_large_answer_is_passed_over() {
    let large = format!("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n{}", "a".repeat(1_000_000));
    assert_eq!(ask(&[&large, LENGTH], 100_000, false).await.1, [Ok((200, true)), Ok((200, true))]);
}

#[tokio::test]
async fn a_request_is_written_whole() {
    let (got, _) = ask(&[LENGTH], 1000, false).await;
    let want = "POST /p HTTP/1.1\r\nhost: example:80\r\ncontent-type: a/b\r\nauthorization: Bearer k\r\nn: 7\r\n\
                content-length: 2\r\n\r\n{}\n";
    assert_eq!(got, want);
}

#[tokio::test]
async fn what_is_no_answer_is_told() {
    for (answer, why) in [
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc",
            "the answer broke off: the connection was closed",
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\nabc", "the answer has no length"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n", "the answer is too long"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "the answer's chunks are broken"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffff\r\n", "the answer is too long"),
        ("", "no answer: the connection was closed"),
        ("HTTP/1.1 20", "no answer: the connection was closed"),
        ("SSH-2.0\r\n", "no answer: invalid HTTP version"),
    ] {
        let (_, came) = ask(&[answer], 1000, true).await;
        assert_eq!(came, [Err(why.to_owned())], "{answer}");
    }
}
