use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use tokio::time::Instant;

use super::{Answered, Direct, HEAD_BYTES_MAX, Inference};
use crate::slots::{Broken, VersionName};

/// A connection, and what the other side does with its end.
async fn with<T: Send + 'static>(
    other: impl FnOnce(UnixStream) -> T + Send + 'static,
) -> (Direct, JoinHandle<T>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let direct = Direct::connect(&path).await.unwrap();
    (direct, std::thread::spawn(move || other(listener.accept().unwrap().0)))
}

/// Reads a request to the end of its body of five bytes.
fn request(stream: &mut UnixStream) -> String {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\nhello") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        read.push(byte[0]);
    }
    String::from_utf8(read).unwrap()
}

/// Asks with a body of five bytes.
async fn ask(direct: &mut Direct, within: Duration, moved: impl Fn()) -> Result<Option<Answered>, Broken> {
    let of = VersionName { model: "m".to_owned(), version: 1 };
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer secret"));
    let inference = Inference { of: &of, headers: &headers, body: &Bytes::from_static(b"hello") };
    direct.exchange(&inference, Instant::now() + within, moved).await
}

const LONG: Duration = Duration::from_secs(20);

/// What comes of asking somebody who answers with these bytes and closes.
async fn asked(answer: Vec<u8>) -> Result<Answered, Broken> {
    let (mut direct, other) = with(move |mut stream| {
        request(&mut stream);
        // Who has seen enough may have gone.
        let _ = stream.write_all(&answer);
    })
    .await;
    let answered = ask(&mut direct, LONG, || {}).await;
    drop(direct);
    other.join().unwrap();
    answered.map(Option::unwrap)
}

#[tokio::test]
async fn a_request_is_sent_as_it_is_and_the_answer_comes_in_whatever_pieces() {
    let (mut direct, other) = with(|mut stream| {
        let first = request(&mut stream);
        for byte in b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 3\r\ncontent-length: 4\r\n\r\nbusy" {
            stream.write_all(&[*byte]).unwrap();
            std::thread::sleep(Duration::from_micros(200));
        }
        request(&mut stream);
        let large = vec![7; 3_000_000];
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", large.len()).unwrap();
        stream.write_all(&large).unwrap();
        first
    })
    .await;
    let moved = AtomicUsize::new(0);
    let count = || {
        moved.fetch_add(1, Ordering::Relaxed);
    };
    let Answered { response, stays_open } = ask(&mut direct, LONG, count).await.unwrap().unwrap();
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()[header::RETRY_AFTER], "3");
    assert_eq!(response.body(), "busy");
    assert!(stays_open);
    assert!(0 < moved.load(Ordering::Relaxed));
    let mut direct = direct.still_open().unwrap();
    let Answered { response, stays_open } = ask(&mut direct, LONG, || {}).await.unwrap().unwrap();
    assert!(response.body().len() == 3_000_000 && response.body().iter().all(|byte| *byte == 7));
    assert!(stays_open);
    assert_eq!(
        other.join().unwrap(),
        "POST /v2/models/m/versions/1/infer HTTP/1.1\r\nhost: slot\r\ncontent-length: 5\r\n\
         content-type: text/plain\r\n\r\nhello"
    );
}

#[tokio::test]
async fn a_connection_is_not_used_again_when_the_other_side_has_closed_it_or_speaks_unasked() {
    let (direct, other) = with(drop).await;
    other.join().unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(direct.still_open().is_none());
    let (direct, other) = with(|mut stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n").unwrap();
        stream
    })
    .await;
    let _open = other.join().unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(direct.still_open().is_none());
    let Answered { stays_open, .. } =
        asked(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nmore".to_vec()).await.unwrap();
    assert!(!stays_open);
    let closing = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
    let Answered { response, stays_open } = asked(closing.to_vec()).await.unwrap();
    assert_eq!(response.body(), "ok");
    assert!(!stays_open);
}

#[tokio::test]
async fn what_breaks_off_is_lost_and_what_is_too_large_is_said_to_be() {
    let lost = |answer: &[u8]| asked(answer.to_vec());
    for answer in [
        &b""[..],
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell",
        // Nobody could tell where these end.
        b"HTTP/1.1 200 OK\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nhello",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ] {
        let broken = lost(answer).await.unwrap_err();
        assert!(matches!(broken, Broken::Lost(_)), "{broken:?} for {:?}", String::from_utf8_lossy(answer));
    }
    let mut long = b"HTTP/1.1 200 OK\r\nx: ".to_vec();
    long.resize(3 * HEAD_BYTES_MAX, b'x');
    let broken = asked(long).await.unwrap_err();
    assert!(matches!(&broken, Broken::Lost(why) if why.contains("too long")), "{broken:?}");
    let huge = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", u64::MAX);
    assert!(matches!(lost(huge.as_bytes()).await.unwrap_err(), Broken::Oversized));
}

#[tokio::test]
async fn an_answer_that_does_not_come_in_time_is_given_up_and_the_slot_learns_of_it() {
    let (mut direct, other) = with(|mut stream| {
        request(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel").unwrap();
        // Until the other side closes.
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    })
    .await;
    let began = Instant::now();
    let within = Duration::from_millis(200);
    assert!(ask(&mut direct, within, || {}).await.unwrap().is_none());
    assert!(within <= began.elapsed());
    drop(direct);
    other.join().unwrap();
}
