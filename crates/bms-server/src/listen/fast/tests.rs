use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::super::{Terms, serve};
use super::*;

const IDLE_WITHIN: Duration = Duration::from_millis(600);
/// How long the general server waits for a body.
const BODY_WITHIN: Duration = Duration::from_millis(500);

/// Says what it was asked, and how many answered it by the short way, or were given up there.
#[derive(Clone, Debug, Default)]
struct Echo(std::sync::Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    begun: AtomicUsize,
    answered: AtomicUsize,
    given_up: AtomicUsize,
    /// Whoever asks for `slow` waits for it.
    slow: Mutex<Option<oneshot::Receiver<()>>>,
}

struct Open<'a>(&'a Counts);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.given_up.fetch_add(1, Ordering::SeqCst);
    }
}

impl FastPath for Echo {
    type Route = String;

    fn route(&self, method: &str, path: &str) -> Option<String> {
        (method == "POST" && path.starts_with("/fast/")).then(|| path.to_owned())
    }

    async fn answer(&self, path: String, headers: HeaderMap, body: Bytes) -> Answer {
        self.0.begun.fetch_add(1, Ordering::SeqCst);
        let open = Open(&self.0);
        if path == "/fast/slow" {
            let waited = self.0.slow.lock().unwrap().take();
            let _ = waited.unwrap().await;
        }
        std::mem::forget(open);
        self.0.answered.fetch_add(1, Ordering::SeqCst);
        echo("POST", &path, &headers, &body).into()
    }
}

/// What was asked, in an order of its own and without what is between two machines alone.
fn echo(method: &str, path: &str, headers: &HeaderMap, body: &Bytes) -> Response<Bytes> {
    let mut lines: Vec<_> = headers.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    lines.retain(|line| !line.starts_with("content-length=") && !line.starts_with("connection="));
    lines.sort();
    let said = format!("{method} {path} {lines:?} {body:?}");
    // As long as what was asked says.
    let said = if path == "/fast/large" { said.repeat(2000) } else { said };
    let mut response = Response::new(Bytes::from(said));
    response.headers_mut().insert("x-echo", "yes".parse().unwrap());
    response
}

async fn by_router(request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    match tokio::time::timeout(BODY_WITHIN, body.collect()).await {
        Ok(Ok(body)) => {
            echo(parts.method.as_str(), parts.uri.path(), &parts.headers, &body.to_bytes()).map(Body::from)
        }
        _ => Response::builder().status(400).body(Body::empty()).unwrap(),
    }
}

struct Server {
    address: std::net::SocketAddr,
    echo: Echo,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<usize>,
}

impl Server {
    async fn start(is_fast: bool) -> Self {
        Server::patient(is_fast, IDLE_WITHIN).await
    }

    /// One that waits so long for a request.
    async fn patient(is_fast: bool, idle_within: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let terms = Terms {
            connections_max: 64,
            head_within: Some(idle_within),
            taken_within: Some(Duration::from_secs(10)),
            http2: true,
            drain: Duration::from_secs(5),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let echo = Echo::default();
        let (router, fast) = (Router::new().fallback(by_router), is_fast.then(|| echo.clone()));
        let serving = tokio::spawn(serve(listener, router, fast, terms, async { drop(stopped.await) }));
        Server { address, echo, stop, serving }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    fn answered(&self) -> usize {
        self.echo.0.answered.load(Ordering::SeqCst)
    }
}

/// Sends pieces with pauses between them, and reads all that is answered until the connection ends.
async fn talk(server: &Server, pieces: &[&[u8]], pause: Duration) -> String {
    let mut stream = server.connect().await;
    stream.set_nodelay(true).unwrap();
    for piece in pieces {
        // Who has heard enough may have gone.
        let _ = stream.write_all(piece).await;
        tokio::time::sleep(pause).await;
    }
    let mut told = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut told)).await.unwrap();
    let told = String::from_utf8_lossy(&told).into_owned();
    // The order of headers says nothing, nor does the time.
    let mut lines: Vec<_> = told.split("\r\n").filter(|line| !line.starts_with("date: ")).collect();
    lines.retain(|line| !line.starts_with("connection: "));
    lines.join("\r\n").replace("content-length", "Content-Length")
}

/// What clients send, good and bad; each ends its connection by being asked to, or by the end of its time.
const TALKS: &[&[u8]] = &[
    b"POST /fast/a HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello",
    b"POST /fast/a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nConnection: Close\r\nX-Empty:\r\nX-Two:  a  b \r\n\r\n",
    b"POST /fast/a HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n",
    // Two and three in one piece, of which some go the other way.
    b"POST /fast/a HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\n\r\n1POST /fast/b HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\nconnection: close\r\n\r\n22",
    b"POST /fast/a HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\n\r\n1GET /slow HTTP/1.1\r\nhost: h\r\n\r\nPOST /fast/b HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\nconnection: close\r\n\r\n22",
    b"GET /fast/a HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n",
    b"HEAD /fast/a HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n",
    b"POST /fast/a?x=1 HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello",
    b"POST /fast/%61 HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello",
    b"POST http://h/fast/a HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello",
    b"POST /fast/a HTTP/1.0\r\nhost: h\r\ncontent-length: 5\r\n\r\nhello",
    b"POST /fast/a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    // Where a request ends must be told as the other way tells it.
    b"POST /fast/a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\nconnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"POST /fast/a HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello",
    b"POST /fast/a HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\ncontent-length: 3\r\nconnection: close\r\n\r\nhello",
    b"POST /fast/a HTTP/1.1\r\nhost: h\r\ncontent-length: 5, 5\r\nconnection: close\r\n\r\nhello",
    b"POST /fast/a HTTP/1.1\r\nhost: h\r\ncontent-length: +5\r\nconnection: close\r\n\r\nhello",
    b"POST /fast/a HTTP/1.1\r\nhost: h\r\ncontent-length: -5\r\nconnection: close\r\n\r\nhello",
    b"POST /fast/a HTTP/1.1\r\nhost: h\r\ncontent-length:\r\nconnection: close\r\n\r\n",
    b"POST /fast/a HTTP/1.1\r\nhost: h\r\ncontent-length: 99999999999999999999999\r\nconnection: close\r\n\r\nhello",
    b"POST /fast/a HTTP/1.1\r\nhost: h\r\ncontent-length : 5\r\nconnection: close\r\n\r\nhello",
    b"POST /fast/a HTTP/1.1\r\nhost: h\r\nx: a\r\n b\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello",
    b"POST /fast/a HTTP/1.1\nhost: h\ncontent-length: 5\nconnection: close\n\nhello",
    b"POST /fast/a HTTP/1.1\r\nhost: h\r\nx: \x01\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello",
    b"POST /fast/a HTTP/1.1\r\nhost: h\r\nx: \xe4\xff\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello",
    b"POST /fast/a HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello",
    b"POST /fast/a HTTP/1.1\r\nhost: h\r\nupgrade: h2c\r\nconnection: upgrade, close\r\ncontent-length: 5\r\n\r\nhello",
    b"POST /fast/a HTTP/1.1\r\nhost: h\r\nconnection: keep-alive\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello",
    b"\r\n\r\nPOST /fast/a HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello",
    b"POST  /fast/a HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello",
    b"POST /fast/a HTTP/1.1\r\n",
    b"POST /fast/a HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nhel",
    b"POST /fast/a HTTP/2.0\r\nhost: h\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"POST",
    b"",
];

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_client_says_is_answered_as_by_the_general_server() {
    // A head that comes in pieces has to come in time on a machine that is busy, too.
    let idle_within = Duration::from_secs(2);
    let (fast, general) =
        (Server::patient(true, idle_within).await, Server::patient(false, idle_within).await);
    let compared = TALKS.iter().map(|said| async {
        let (shown, said) = (String::from_utf8_lossy(said), *said);
        let whole = talk(&general, &[said], Duration::ZERO).await;
        assert_eq!(talk(&fast, &[said], Duration::ZERO).await, whole, "{shown}");
        // In pieces that end anywhere, slower than the rest of a request is waited for and faster.
        for (at, pause) in [(1, 0), (20, 150), (45, 3), (said.len().saturating_sub(3), 150)] {
            let (first, rest) = said.split_at(at.min(said.len()));
            let told = talk(&fast, &[first, rest], Duration::from_millis(pause)).await;
            assert_eq!(told, whole, "{shown} split at {at}");
        }
        let crumbs: Vec<_> = said.chunks(3).collect();
        assert_eq!(talk(&fast, &crumbs, Duration::from_micros(50)).await, whole, "{shown}, in crumbs");
    });
    futures_util::future::join_all(compared).await;
    assert!(10 < fast.answered(), "{}", fast.answered());
    assert_eq!(general.answered(), 0);
    assert_eq!(fast.echo.0.given_up.load(Ordering::SeqCst), 0);
}

/// What is put into messages to break them, or their borders.
const BREAKS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b" ",
    b":",
    b"\0",
    b"\xff",
    b"0",
    b"\r\n\r\n",
    b"content-length: 3\r\n",
    b"Content-Length: 5\r\n",
    b"transfer-encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"connection: close\r\n",
    b"connection: upgrade\r\n",
    b"host: other\r\n",
    b"POST /fast/b HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\n22",
];

/// A message with a few changes, the same for the same number.
fn broken(number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = |below: usize| {
        // xorshift64*, https://www.jstatsoft.org/article/view/v008i14
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below.max(1)
    };
    let mut said = TALKS[random(TALKS.len())].to_vec();
    for _ in 0..=random(3) {
        let (at, upto) = (random(said.len()), random(24));
        let upto = (at + upto).min(said.len());
        match random(4) {
            0 => drop(said.drain(at..upto)),
            1 => drop(said.splice(at..at, said[at..upto].to_vec())),
            2 if !said.is_empty() => said[at] = random(256) as u8,
            _ => drop(said.splice(at..at, BREAKS[random(BREAKS.len())].iter().copied())),
        }
    }
    said
}

/// What was told before the general server found what came to be no request. Whether it then says so or waits for more
/// depends on how much came at once.
fn until_refused(mut told: String) -> String {
    if let Some(at) = told.rfind("HTTP/1.1 400 ") {
        told.truncate(at);
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_broken_at_random_are_answered_as_by_the_general_server() {
    let (fast, general) = (Server::start(true).await, Server::start(false).await);
    let compared = |number: u64| {
        let (said, fast, general) = (broken(number), &fast, &general);
        async move {
            // A connection that is reset takes with it what its client has not read yet: chance, on either side.
            for attempt in 0..5 {
                let told = until_refused(talk(fast, &[&said], Duration::ZERO).await);
                let whole = until_refused(talk(general, &[&said], Duration::ZERO).await);
                if told == whole {
                    return;
                }
                let shown = String::from_utf8_lossy(&said);
                assert!(
                    attempt < 4,
                    "message {number}, {shown:?}, is answered with\n{told}\nand not\n{whole}"
                );
            }
        }
    };
    for numbers in (0..MESSAGES).collect::<Vec<_>>().chunks(48) {
        futures_util::future::join_all(numbers.iter().map(|number| compared(*number))).await;
    }
    assert!(10 < fast.answered(), "{}", fast.answered());
}

/// Messages that are broken at random.
const MESSAGES: u64 = 480;

/// A request that keeps its connection.
fn request(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Waits for something.
async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Reads one answer.
async fn answer(stream: &mut TcpStream) -> (String, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.split_once("content-length: ").unwrap().1.split_once("\r\n").unwrap().0;
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    (head, String::from_utf8(body).unwrap())
}

#[tokio::test]
async fn many_requests_large_answers_and_large_bodies_pass_on_one_connection() {
    let server = Server::start(true).await;
    let mut stream = server.connect().await;
    for number in 0..200 {
        let body = "x".repeat(number * 61 % 5000);
        let path = if number % 40 == 0 { "/fast/large" } else { "/fast/a" };
        stream.write_all(request(path, &body).as_bytes()).await.unwrap();
        let (head, said) = answer(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("x-echo: yes\r\n"), "{head}");
        assert!(head.contains("\r\ndate: ") && head.contains(" GMT\r\n"), "{head}");
        assert!(said.ends_with(&format!("b\"{body}\"")), "{said}");
    }
    assert_eq!(server.answered(), 200);
    // The last that is answered here, and the first that is not.
    for (bytes, here) in [(BODY_BYTES_MAX, 201), (BODY_BYTES_MAX + 1, 201)] {
        stream.write_all(request("/fast/a", &"y".repeat(bytes)).as_bytes()).await.unwrap();
        assert!(bytes < answer(&mut stream).await.1.len());
        assert_eq!(server.answered(), here);
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_not_worked_for() {
    let server = Server::start(true).await;
    let (_never, slow) = oneshot::channel();
    *server.echo.0.slow.lock().unwrap() = Some(slow);
    let mut stream = server.connect().await;
    stream.write_all(request("/fast/slow", "").as_bytes()).await.unwrap();
    until(|| server.echo.0.begun.load(Ordering::SeqCst) == 1).await;
    drop(stream);
    until(|| server.echo.0.given_up.load(Ordering::SeqCst) == 1).await;
    assert_eq!(server.answered(), 0);
}

#[tokio::test]
async fn what_is_asked_while_an_answer_is_waited_for_is_answered_after_it() {
    let server = Server::start(true).await;
    let (go, slow) = oneshot::channel();
    *server.echo.0.slow.lock().unwrap() = Some(slow);
    let mut stream = server.connect().await;
    stream.write_all(request("/fast/slow", "1").as_bytes()).await.unwrap();
    until(|| server.echo.0.begun.load(Ordering::SeqCst) == 1).await;
    // More than is kept meanwhile.
    let more = "z".repeat(3 * READ_BYTES);
    stream.write_all(request("/fast/b", &more).as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    go.send(()).unwrap();
    assert!(answer(&mut stream).await.1.starts_with("POST /fast/slow "));
    let (_, said) = answer(&mut stream).await;
    assert!(said.starts_with("POST /fast/b ") && said.contains(&more));
}

#[tokio::test]
async fn silent_connections_end_in_time_and_others_go_on() {
    let server = Server::start(true).await;
    let mut silent = server.connect().await;
    let mut busy = server.connect().await;
    let began = Instant::now();
    silent.write_all(request("/fast/a", "").as_bytes()).await.unwrap();
    answer(&mut silent).await;
    let ended = async {
        assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
        assert!(IDLE_WITHIN <= began.elapsed());
    };
    let goes_on = async {
        while began.elapsed() < 2 * IDLE_WITHIN {
            busy.write_all(request("/fast/a", "").as_bytes()).await.unwrap();
            answer(&mut busy).await;
            tokio::time::sleep(IDLE_WITHIN / 5).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(ended, goes_on) }).await.unwrap();
}

#[tokio::test]
async fn a_server_that_stops_closes_silent_connections_and_finishes_what_is_open() {
    let server = Server::start(true).await;
    let (go, slow) = oneshot::channel();
    *server.echo.0.slow.lock().unwrap() = Some(slow);
    let (mut silent, mut open) = (server.connect().await, server.connect().await);
    silent.write_all(request("/fast/a", "").as_bytes()).await.unwrap();
    answer(&mut silent).await;
    open.write_all(request("/fast/slow", "1").as_bytes()).await.unwrap();
    until(|| server.echo.0.begun.load(Ordering::SeqCst) == 2).await;
    server.stop.send(()).unwrap();
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
    go.send(()).unwrap();
    let (head, said) = answer(&mut open).await;
    assert!(head.contains("connection: close\r\n") && said.starts_with("POST /fast/slow "), "{head}");
    assert_eq!(open.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(server.serving.await.unwrap(), 0);
}
