//! A centre over a real socket, with the parts of the management API an edge node uses, that can be
//! stopped, started again, and made to fail in chosen ways.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use bms_store::{Recipe, frame};
use bms_wire::api::{
    ChunkList, FileRef, HardSample, NodeOrders, NodeReport, SampleDelivery, Version, VersionRef,
};
use bms_wire::{Code, Error};
use serde_json::json;

use crate::bundles::Made;

/// What the centre knows and saw.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) desired: Option<VersionRef>,
    versions: BTreeMap<u64, Version>,
    blobs: BTreeMap<String, Vec<u8>>,
    /// Samples by id, with how often each came.
    pub(crate) samples: BTreeMap<String, (HardSample, usize)>,
    pub(crate) reports: Vec<NodeReport>,
    /// Blobs asked for.
    pub(crate) fetched: Vec<String>,
    /// Whether large files are given as chunks as well.
    pub(crate) gives_chunks: bool,
    /// Bytes of chunks asked for.
    pub(crate) chunk_bytes: usize,
    /// Blobs of which only half is sent.
    pub(crate) cut_off: Vec<String>,
    /// Blobs sent with one bit changed.
    pub(crate) corrupted: Vec<String>,
    /// Deliveries that are stored, but whose answer is lost.
    pub(crate) answers_to_lose: usize,
    /// Requests other than reports.
    pub(crate) pulls: usize,
    /// A node to be killed.
    pub(crate) kill: Option<Kill>,
    /// A sample the centre will not have.
    pub(crate) unwelcome: Option<String>,
}

/// When the node of a process ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kill {
    /// At this request that is no report, counted from 1.
    pub(crate) at: usize,
    /// Once it was answered.
    pub(crate) answered: bool,
    /// So long after.
    pub(crate) delay: std::time::Duration,
    pub(crate) pid: u32,
}

impl State {
    /// Kills the node when it is time.
    fn kill(&mut self, answered: bool) {
        let due = |kill: &mut Kill| kill.at == self.pulls && kill.answered == answered;
        let Some(kill) = self.kill.take_if(due) else { return };
        std::thread::sleep(kill.delay);
        std::process::Command::new("kill").args(["-9", &kill.pid.to_string()]).status().unwrap();
    }
}

/// A running or stopped centre on a port of its own.
pub(crate) struct Centre {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    running: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl Centre {
    pub(crate) fn start() -> Centre {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut centre = Centre { address, state: Arc::default(), running: None };
        centre.accept(listener);
        centre
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn state<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap())
    }

    /// Makes a version of a bundle and wants it to run.
    pub(crate) fn deploy(&self, number: u64, made: &Made) -> VersionRef {
        let desired = VersionRef { version: number, digest: made.digest.clone() };
        let reference = |(path, bytes): &(String, Vec<u8>)| FileRef {
            path: path.clone(),
            size: bytes.len() as u64,
            blake3: blake3::hash(bytes).to_hex().to_string(),
        };
        let version = Version {
            model: "small".to_owned(),
            version: number,
            digest: made.digest.clone(),
            task: "image-classification".to_owned(),
            files: made.files.iter().map(reference).collect(),
            ..Version::default()
        };
        self.state(|state| {
            for (_, bytes) in &made.files {
                state.blobs.insert(blake3::hash(bytes).to_hex().to_string(), bytes.clone());
            }
            state.versions.insert(number, version);
            state.desired = Some(desired.clone());
        });
        desired
    }

    /// Refuses connections from now on; open ones are closed.
    pub(crate) fn stop(&mut self) {
        let Some((stopped, thread)) = self.running.take() else { return };
        stopped.store(true, Ordering::Release);
        // Wakes the accept; the connection itself is closed at once.
        drop(TcpStream::connect(self.address));
        thread.join().unwrap();
    }

    pub(crate) fn start_again(&mut self) {
        self.accept(TcpListener::bind(self.address).unwrap());
    }

    fn accept(&mut self, listener: TcpListener) {
        let stopped = Arc::new(AtomicBool::new(false));
        let (flag, state) = (stopped.clone(), self.state.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if flag.load(Ordering::Acquire) {
                    return;
                }
                let state = state.clone();
                // A connection whose client goes away is not this test's concern.
                std::thread::spawn(move || stream.and_then(|stream| converse(stream, &state)).ok());
            }
        });
        self.running = Some((stopped, thread));
    }
}

impl Drop for Centre {
    fn drop(&mut self) {
        self.stop();
    }
}

/// One request and its answer; then the connection is closed.
fn converse(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap_or("").to_owned(), words.next().unwrap_or("").to_owned());
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        if header.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let is_report = path.contains("/edge/nodes/");
    if !is_report {
        let mut state = state.lock().unwrap();
        state.pulls += 1;
        state.kill(false);
    }
    let Some(answer) = answer(&mut state.lock().unwrap(), &method, &path, &body) else { return Ok(()) };
    let Answer { status, content, declared } = answer;
    write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {declared}\r\nconnection: close\r\n\r\n")?;
    stream.write_all(&content)?;
    if !is_report {
        state.lock().unwrap().kill(true);
    }
    Ok(())
}

struct Answer {
    status: u16,
    content: Vec<u8>,
    declared: usize,
}

fn ok(content: Vec<u8>) -> Option<Answer> {
    Some(Answer { status: 200, declared: content.len(), content })
}

fn refuse(code: Code) -> Option<Answer> {
    let content = serde_json::to_vec(&Error::new(code, "said the centre").body()).unwrap();
    Some(Answer { status: code.http(), declared: content.len(), content })
}

/// `None` closes the connection without a word.
fn answer(state: &mut State, method: &str, path: &str, body: &[u8]) -> Option<Answer> {
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (method, &segments[..]) {
        ("PUT", ["api", "v1", "edge", "nodes", "node-1"]) => {
            state.reports.push(serde_json::from_slice(body).unwrap());
            ok(serde_json::to_vec(&NodeOrders { desired: state.desired.clone() }).unwrap())
        }
        ("POST", ["api", "v1", "edge", "nodes", "node-1", "samples"]) => deliver(state, body),
        ("GET", ["api", "v1", "models", "small", "versions", number]) => {
            match number.parse().ok().and_then(|number: u64| state.versions.get(&number)) {
                Some(version) => ok(serde_json::to_vec(version).unwrap()),
                None => refuse(Code::VersionNotFound),
            }
        }
        ("GET", ["api", "v1", "blobs", digest]) => blob(state, digest),
        ("GET", ["api", "v1", "blobs", digest, "recipe"]) if state.gives_chunks => {
            ok(recipe(&state.blobs[*digest]).to_bytes())
        }
        ("POST", ["api", "v1", "chunks", "read"]) if state.gives_chunks => chunks(state, body),
        _ => refuse(Code::NotFound),
    }
}

fn deliver(state: &mut State, body: &[u8]) -> Option<Answer> {
    let delivery: SampleDelivery = serde_json::from_slice(body).unwrap();
    if delivery.samples.iter().any(|sample| Some(&sample.id) == state.unwelcome.as_ref()) {
        return refuse(Code::InvalidRequest);
    }
    for sample in delivery.samples {
        state.samples.entry(sample.id.clone()).or_insert_with(|| (sample, 0)).1 += 1;
    }
    if state.answers_to_lose != 0 {
        state.answers_to_lose -= 1;
        return None;
    }
    ok(serde_json::to_vec(&json!({ "new": 0 })).unwrap())
}

fn recipe(bytes: &[u8]) -> Recipe {
    Recipe::of(bytes, bytes.len() as u64).unwrap()
}

fn chunks(state: &mut State, body: &[u8]) -> Option<Answer> {
    let asked: ChunkList = serde_json::from_slice(body).unwrap();
    let mut answer = Vec::new();
    for bytes in state.blobs.values() {
        let mut offset = 0;
        for chunk in recipe(bytes).chunks {
            let content = &bytes[offset..][..chunk.size as usize];
            offset += chunk.size as usize;
            if asked.chunks.contains(&chunk.id.to_string()) {
                state.chunk_bytes += content.len();
                frame(chunk.id, content, &mut answer);
            }
        }
    }
    ok(answer)
}

fn blob(state: &mut State, digest: &str) -> Option<Answer> {
    state.fetched.push(digest.to_owned());
    let Some(bytes) = state.blobs.get(digest) else { return refuse(Code::NotFound) };
    let mut content = bytes.clone();
    let declared = content.len();
    if state.cut_off.iter().any(|cut| cut == digest) {
        content.truncate(declared / 2);
    }
    if state.corrupted.iter().any(|corrupted| corrupted == digest) {
        content[declared / 2] ^= 1;
    }
    Some(Answer { status: 200, content, declared })
}
