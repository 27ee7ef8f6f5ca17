//! A slot on a worker, as it is seen from here.
//!
//! The worker keeps the process running; here its word is followed: a stream of lines that say how the slot stands, one
//! with every change and at least every few hundred milliseconds. A stream that ends, or says nothing for too long, is the
//! loss of the slot: what is under way there is broken off at once, and asked again elsewhere.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bms_wire::api::{LastRestart, SlotState};
use bms_wire::{Code, ErrorBody, limits};
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::Full;
use serde::{Deserialize, Serialize};

use super::connections::{Broken, Connections};
use super::placed::Elsewhere;
use super::slot::Slot;
use super::translate::Back;
use super::{Address, Launcher, Tls};
use crate::event::{Event, SlotLost, SlotReady};
use crate::nodes::worker_host;

/// Where a worker says how the slot that the header names stands, a line each time.
pub(crate) const WATCH: &str = "/worker/v1/watch";
/// Where it hears that a request got no answer in all its time.
pub(crate) const OVERDUE: &str = "/worker/v1/overdue";

/// How long a worker may say nothing of a slot.
const SILENT_MAX: Duration = Duration::from_millis(limits::WORKER_GONE_MS);
/// The pause before a worker is dialled again, at first and at most.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Bytes of a line.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Where a slot on a worker is.
pub(super) struct There {
    pub(super) worker: Arc<str>,
    pub(super) address: String,
    pub(super) id: String,
}

/// How a slot stands, as its worker says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) state: SlotState,
    pub(crate) generation: u64,
    pub(crate) runtime: Option<String>,
    pub(crate) task: Option<String>,
    pub(crate) problem: Option<ErrorBody>,
    pub(crate) restarts: u64,
    pub(crate) last_restart: Option<LastRestart>,
    pub(crate) failures: u32,
}

/// How the following of a worker's word ended.
enum Lost {
    /// The worker does not know of the slot yet.
    Unknown,
    /// It cannot be reached.
    Unreachable(String),
    /// What was there has gone.
    Broken(String),
}

/// Follows the slot until it is unloaded here.
pub(super) async fn run(slot: Arc<Slot>, launcher: Arc<Launcher>, elsewhere: Elsewhere, there: There) {
    let mut pause = PAUSE_MIN;
    loop {
        let both = connections(&elsewhere, &there).and_then(|c| Ok((c, connections(&elsewhere, &there)?)));
        // The watch has connections of its own: what is counted on the others is requests.
        let (connections, watching) = match both {
            Ok((connections, watching)) => (Arc::new(connections), Arc::new(watching)),
            Err(error) => {
                slot.publish(|c| (c.state, c.problem) = (SlotState::Refused, Some(error.body())));
                slot.stopping().await;
                break;
            }
        };
        let began = Instant::now();
        let lost = tokio::select! {
            lost = follow(&slot, &launcher, &there, (&connections, &watching)) => lost,
            () = slot.stopping() => break,
        };
        connections.cut();
        watching.cut();
        if SILENT_MAX < began.elapsed() {
            pause = PAUSE_MIN;
        }
        note(&slot, &launcher, &elsewhere, &there, lost, pause);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = slot.stopping() => break,
        }
        pause = (2 * pause).min(PAUSE_MAX);
    }
    slot.publish(|c| (c.pid, c.connections) = (None, None));
}

fn note(slot: &Slot, launcher: &Launcher, elsewhere: &Elsewhere, there: &There, lost: Lost, pause: Duration) {
    let was_ready = slot.conditions().borrow().state == SlotState::Ready;
    let (why, unreachable) = match lost {
        Lost::Unknown => {
            slot.publish(|c| (c.state, c.connections) = (SlotState::Starting, None));
            return;
        }
        Lost::Unreachable(why) => (format!("the worker `{}` cannot be reached: {why}", there.worker), true),
        Lost::Broken(why) => (format!("the worker `{}` was lost: {why}", there.worker), false),
    };
    if unreachable {
        // When nobody listens, the server stops.
        let _ = elsewhere.suspects.try_send(there.worker.clone());
        launcher.changed.notify_one();
    }
    if was_ready {
        let reason = super::Reason::Ended;
        SlotLost { of: slot.of(), reason, why: &why, pause }.emit(&launcher.metrics);
    }
    let problem = ErrorBody { error: why, code: Code::Unavailable, hint: None };
    slot.publish(|c| {
        (c.state, c.connections, c.problem) = (SlotState::Restarting, None, Some(problem));
        c.generation += 1;
    });
}

fn connections(elsewhere: &Elsewhere, there: &There) -> bms_wire::Result<Connections> {
    let (host, port) = crate::nodes::host_and_port(&there.address)?;
    let tls = Some(Tls::new(elsewhere.client.clone(), &worker_host(&there.worker))?);
    let id = HeaderValue::try_from(&there.id)
        .map_err(|e| bms_wire::Error::new(Code::Internal, "a slot has no name").because(e))?;
    Ok(Connections::new(Address::Tcp { host: host.into(), port, tls }, Arc::default()).with_process(id))
}

/// Publishes what the worker says until it says no more.
async fn follow(
    slot: &Slot,
    launcher: &Launcher,
    there: &There,
    (connections, watching): (&Arc<Connections>, &Arc<Connections>),
) -> Lost {
    let since = Instant::now();
    let begun = tokio::time::timeout(SILENT_MAX, watching.begin(get(WATCH), Back::Own)).await;
    let (parts, mut coming) = match begun {
        Ok(Ok(begun)) => begun,
        Ok(Err(Broken::Lost(why))) => return Lost::Unreachable(why),
        Ok(Err(Broken::Refused(error))) => return Lost::Broken(error.to_string()),
        Ok(Err(Broken::Oversized)) => return Lost::Broken("its answer has no end".to_owned()),
        Err(_) => return Lost::Unreachable(format!("no answer within {} s", SILENT_MAX.as_secs())),
    };
    match parts.status {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Lost::Unknown,
        status => return Lost::Broken(format!("it answered with status {status}")),
    }
    let (mut line, mut last) = (Vec::new(), None);
    loop {
        let piece = tokio::select! {
            piece = tokio::time::timeout(SILENT_MAX, coming.next()) => piece,
            () = connections.overdue() => {
                let connections = watching.clone();
                // That it comes to nothing shows in the worker's own watching.
                tokio::spawn(async move { drop(connections.exchange(get(OVERDUE), Back::Own).await) });
                continue;
            }
        };
        let piece = match piece {
            Ok(Some(Ok(piece))) => piece,
            Ok(Some(Err(_)) | None) => return Lost::Broken("its connection ended".to_owned()),
            Err(_) => return Lost::Broken(format!("it said nothing for {} s", SILENT_MAX.as_secs())),
        };
        for byte in piece {
            if byte != b'\n' && line.len() < LINE_BYTES_MAX {
                line.push(byte);
            } else if byte == b'\n' {
                let said = serde_json::from_slice::<State>(&line);
                line.clear();
                let Ok(said) = said else { return Lost::Broken("it said something else".to_owned()) };
                if last.as_ref() != Some(&said) {
                    publish(slot, launcher, there, connections, said.clone(), since);
                    last = Some(said);
                }
            }
        }
    }
}

fn publish(
    slot: &Slot,
    launcher: &Launcher,
    there: &There,
    connections: &Arc<Connections>,
    said: State,
    since: Instant,
) {
    let is_ready = said.state == SlotState::Ready;
    if is_ready && slot.conditions().borrow().state != SlotState::Ready {
        SlotReady { of: slot.of(), pid: None, runtime: said.runtime.as_deref(), took: since.elapsed() }
            .emit(&launcher.metrics);
    }
    slot.publish(|c| {
        c.generation += 1;
        c.state = said.state;
        c.runtime = said.runtime;
        c.task = said.task.or(c.task.take());
        c.connections = is_ready.then(|| connections.clone());
        c.problem = said.problem;
        c.restarts = said.restarts;
        c.last_restart = said.last_restart;
        c.failures = said.failures;
        c.worker = Some(there.worker.clone());
    });
}

fn get(path: &'static str) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = http::Uri::from_static(path);
    request.headers_mut().insert(header::HOST, HeaderValue::from_static("worker"));
    request
}
