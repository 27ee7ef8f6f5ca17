//! A server of the tests, which can misbehave in every way that a stranger can.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Path and query.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Where the range begins that is asked for.
    pub(crate) fn begin(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// One answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The length to promise; the true one when absent.
    pub(crate) promised: Option<usize>,
    /// The connection ends after so many bytes of the body.
    pub(crate) cut: Option<usize>,
    /// The body never ends, and no length is promised.
    pub(crate) endless: bool,
    /// A pause before each piece of 4 KiB.
    pub(crate) pause: Option<Duration>,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        let (headers, body) = (Vec::new(), body.into());
        Reply { status, headers, body, promised: None, cut: None, endless: false, pause: None }
    }

    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Reply {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// A file, or what is asked for of it: as a server does that knows ranges and versions.
    pub(crate) fn file(asked: &Asked, content: &[u8], tag: &str) -> Reply {
        let same = asked.header("if-range").is_none_or(|asked| asked == tag);
        let reply = match asked.begin().filter(|_| same) {
            Some(begin) if content.len() <= begin => {
                Reply::new(416, "").with("content-range", format!("bytes */{}", content.len()))
            }
            Some(begin) => {
                let range = format!("bytes {begin}-{}/{}", content.len() - 1, content.len());
                Reply::new(206, &content[begin..]).with("content-range", range)
            }
            None => Reply::new(200, content),
        };
        reply.with("etag", tag)
    }

    pub(crate) fn cut(self, after: usize) -> Reply {
        Reply { cut: Some(after), ..self }
    }
}

type Answering = dyn Fn(&Asked) -> Reply + Send + Sync;

/// The server; ends when dropped.
pub(crate) struct Server {
    pub(crate) base: String,
    port: u16,
    log: Arc<Mutex<Vec<Asked>>>,
    over: Arc<AtomicBool>,
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (log, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let server =
            Server { base: format!("http://127.0.0.1:{port}"), port, log: log.clone(), over: over.clone() };
        let answer: Arc<Answering> = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let (answer, log) = (answer.clone(), log.clone());
                std::thread::spawn(move || drop(serve(stream, &*answer, &log)));
            }
        });
        server
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.log.lock().unwrap().clone()
    }

    /// Requests for a path that holds this.
    pub(crate) fn times(&self, part: &str) -> usize {
        self.asked().iter().filter(|asked| asked.path.contains(part)).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Wakes the listener.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(stream: TcpStream, answer: &Answering, log: &Mutex<Vec<Asked>>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let path = first.split_whitespace().nth(1).unwrap_or_default().to_owned();
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            match line.trim_end().split_once(':') {
                Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
                None => break,
            }
        }
        let asked = Asked { path, headers };
        log.lock().unwrap().push(asked.clone());
        if !write(&stream, &answer(&asked))? {
            return Ok(());
        }
    }
}

/// Whether the connection can go on.
fn write(mut stream: &TcpStream, reply: &Reply) -> std::io::Result<bool> {
    let mut head = format!("HTTP/1.1 {} X\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if reply.endless {
        head.push_str("connection: close\r\n");
    } else {
        head.push_str(&format!("content-length: {}\r\n", reply.promised.unwrap_or(reply.body.len())));
    }
    stream.write_all(head.as_bytes())?;
    stream.write_all(b"\r\n")?;
    if reply.endless {
        loop {
            stream.write_all(&[b'x'; 4096])?;
        }
    }
    let body = &reply.body[..reply.cut.unwrap_or(usize::MAX).min(reply.body.len())];
    for piece in body.chunks(4096) {
        if let Some(pause) = reply.pause {
            std::thread::sleep(pause);
        }
        stream.write_all(piece)?;
    }
    stream.flush()?;
    let whole = body.len() == reply.promised.unwrap_or(reply.body.len());
    if !whole {
        // What was sent must arrive before the end does.
        stream.shutdown(std::net::Shutdown::Write)?;
        let _ = stream.read(&mut [0; 1]);
    }
    Ok(whole)
}
