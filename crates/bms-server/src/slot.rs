//! What a slot's process does: check a model, load it, answer on a Unix socket.
//!
//! It confines itself first, see [`bms_sandbox`]: from then on it reads its model and a few files of the system, and
//! answers on the socket it made before. One line on standard output tells the supervisor how that went. The process ends when its standard
//! input closes, so it never outlives the program that started it; told to terminate, it finishes open
//! requests first.

mod confine;
mod language;
mod load;
mod local;
mod protocol;
mod report;

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use bms_bundle::seal::{DataKey, Key};
use bms_bundle::{Bundle, Policy, Verified};
use bms_engine::{Engine, EngineOptions, Progress};
use bms_nn::onnx::{Home, RuntimeChoice};
use bms_sandbox::Enforced;
use bms_wire::{Code, Error, Result, limits};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use crate::failure::{self, Failure};
use crate::listen::{self, Terms};
use crate::slots::{Greeting, LanguageLaunch, Place, Ready};
use crate::socket::SocketListener;
use language::Language;
pub use local::LocalModel;

/// Connections taken at a time: more than the gateway makes.
const CONNECTIONS_MAX: usize = 1024;
const _: () = assert!(
    crate::slots::CONNECTIONS_MAX + limits::LANGUAGE_REQUESTS_MAX < CONNECTIONS_MAX,
    "the gateway finds room"
);

/// A key of 32 bytes in hex, and the end of the line.
const KEY_LINE_BYTES: usize = 65;
/// Times a model is loaded whose files change meanwhile.
const LOADS_MAX: usize = 3;

/// What one slot process serves and how. The arguments of the command that calls [`run`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the model lies.
    pub place: Place,
    /// The Unix socket to answer on; made by the slot.
    pub socket: PathBuf,
    /// The trust policy the model is checked against.
    pub policy: PathBuf,
    /// Whether the first line of standard input is the key of the model, in hex.
    pub sealed: bool,
    /// What executes graphs.
    pub runtime: RuntimeChoice,
    /// Threads of one run; without it one for a graph, all processors for a language model.
    pub threads: Option<usize>,
    /// How a language model runs.
    pub language: LanguageLaunch,
    /// Whether standard input is the socket of a [`bms_sandbox::Watch`], which then hears of what this process is denied.
    pub watched: bool,
}

/// A model that answers.
struct Loaded {
    greeting: Ready,
    routes: Router,
    /// What answers inference without them, where that is brief.
    fast: Option<protocol::Fast>,
    /// Says why when the model can answer no more and is to be loaded anew.
    lost: oneshot::Receiver<Error>,
    /// How far its work is.
    progress: Box<dyn Fn() -> Progress + Send>,
}

/// Confines this process for good and serves one model until standard input closes or the process is told to
/// terminate. Blocks the calling thread, which should be the only one, and should then end the process.
///
/// # Errors
/// The refusal of the gate or the engine, which has been printed by then, or [`Code::Io`] when the
/// socket cannot be made.
pub fn run(options: Options) -> Result<()> {
    // Before there is a second thread: it would not be confined.
    let prepared = bind(&options.socket).and_then(|listener| Ok((listener, prepare(&options)?)));
    let (listener, (policy, enforced)) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            greet(&Greeting::Refused { refused: error.body() })?;
            return Err(error);
        }
    };
    if !enforced.is_confined() {
        tracing::warn!("this slot is not confined: {}", enforced.missing());
    }
    // On a thread of the run-time's, so that a small graph is run where its request was read.
    Home::new(1).run(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Error::new(Code::Io, format!("the slot's runtime cannot start: {e}")).because(e))?;
        let ended = runtime.block_on(async {
            tokio::select! {
                served = serve(options, listener, policy, enforced) => served,
                () = stdin_closed() => Ok(()),
            }
        });
        // Work that is still under way is nobody's any more.
        runtime.shutdown_background();
        ended
    })
}

/// Reads what comes from the supervisor, and confines this process before it reads anything of the model.
fn prepare(options: &Options) -> Result<(Policy, Enforced)> {
    // The server replaces the policy's file when the policy changes, and the new one would be out of reach.
    let mut policy = Policy::load(&options.policy)?;
    let enforced = confine::enter(options)?;
    if options.sealed {
        policy.keys.add(Key::Data(read_key()?));
    }
    Ok((policy, enforced))
}

async fn serve(options: Options, listener: UnixListener, policy: Policy, enforced: Enforced) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())
        .map_err(|e| Error::new(Code::Io, format!("signals cannot be awaited: {e}")).because(e))?;
    let socket = options.socket.clone();
    let loaded = tokio::task::spawn_blocking(move || load(&options, &policy, &enforced)).await;
    let loaded =
        loaded.unwrap_or_else(|e| Err(Error::new(Code::Internal, "the model broke its loader").because(e)));
    let listening = loaded.and_then(|model| {
        let listener = SocketListener::new(listener).map_err(|e| Error::io("listen on", &socket, e))?;
        Ok((model, listener))
    });
    let (model, listener) = match listening {
        Ok(ready) => ready,
        Err(error) => {
            greet(&Greeting::Refused { refused: error.body() })?;
            return Err(error);
        }
    };
    greet(&Greeting::Ready(model.greeting))?;
    report::start(model.progress)?;
    let terms = Terms {
        connections_max: CONNECTIONS_MAX,
        head_within: None,
        // The gateway reads as fast as its client, which it cuts off itself.
        taken_within: None,
        http2: false,
        drain: Duration::from_secs(limits::DRAIN_SECONDS_MAX),
    };
    let told = async {
        terminate.recv().await;
    };
    // The socket's file is the supervisor's to remove: this process may not.
    tokio::select! {
        _ = listen::serve(listener, model.routes, model.fast, terms, told) => Ok(()),
        // The engine has failed its requests; the supervisor starts another process.
        Ok(error) = model.lost => Err(error),
    }
}

/// Loads the model, again when its files were written to while it was loaded.
fn load(options: &Options, policy: &Policy, enforced: &Enforced) -> Result<Loaded> {
    let mut attempt = 1;
    loop {
        let bundle = match &options.place {
            Place::Bundle(folder) => Bundle::open(folder)?,
            Place::Bare { path, name } => Bundle::of_model(path, Some(name))?,
        };
        // Gate, then engine: there is no other way to the bytes of the model.
        let verified = policy.verify(bundle).map_err(Error::from)?;
        confine::check(&verified, policy, enforced)?;
        match load_verified(verified, options, policy) {
            Err(e) if e.code() == Code::Tampered && attempt < LOADS_MAX => attempt += 1,
            loaded => return loaded,
        }
    }
}

fn load_verified(verified: Verified, options: &Options, policy: &Policy) -> Result<Loaded> {
    let (manifest, digest) = (verified.manifest().clone(), verified.digest().to_owned());
    // Without anything that may tell of it, nothing is ever lost.
    let (lose, lost) = oneshot::channel();
    let (runtime, routes, fast, progress): (_, _, _, Box<dyn Fn() -> Progress + Send>) =
        match manifest.is_language_model() {
            true => {
                let slot = load::Slot { policy, lost: lose };
                let language = Arc::new(load::load(&verified, options, Some(slot))?);
                let watched = language.clone();
                ("bms", language_routes(language), None, Box::new(move || watched.progress()))
            }
            false => {
                let engine = EngineOptions {
                    runtime: options.runtime,
                    threads: options.threads.unwrap_or(1).max(1),
                    ..EngineOptions::default()
                };
                let engine = Arc::new(Engine::load(verified, &engine)?);
                let watched = engine.clone();
                (
                    engine.describe().runtime.as_str(),
                    protocol::routes(engine.clone()),
                    Some(protocol::Fast::new(engine)),
                    Box::new(move || watched.progress()),
                )
            }
        };
    let greeting = Ready {
        ready: true,
        model: manifest.name,
        digest,
        runtime: runtime.to_owned(),
        task: Some(manifest.task),
    };
    Ok(Loaded { greeting, routes, fast, lost, progress })
}

/// The routes of a language model, and those by which it is watched.
fn language_routes(language: Arc<Language>) -> Router {
    language::routes(language)
        .route("/v2/health/live", get(async || axum::Json(json!({ "live": true }))))
        .route("/v2/health/ready", get(async || axum::Json(json!({ "ready": true }))))
        .route("/v2/models/{model}/versions/{version}", get(takes_text))
        .route("/v2/models/{model}/versions/{version}/config", get(takes_text))
        .route("/v2/models/{model}/versions/{version}/stats", get(takes_text))
        .route("/v2/models/{model}/versions/{version}/infer", post(takes_text))
        .fallback(failure::no_such_route)
        .method_not_allowed_fallback(failure::no_such_method)
}

/// What a language model says to those who bring tensors.
async fn takes_text() -> Failure {
    Error::new(Code::InvalidRequest, "this is a language model, it takes text and has no tensors")
        .hint("Ask it at /v1/chat/completions or /v1/embeddings.")
        .into()
}

fn bind(socket: &Path) -> Result<UnixListener> {
    let listener = UnixListener::bind(socket);
    let listener = listener.and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    listener.map_err(|e| Error::io("listen on", socket, e))
}

/// Prints the line the supervisor waits for.
fn greet(greeting: &Greeting) -> Result<()> {
    let mut line = serde_json::to_vec(greeting)
        .map_err(|e| Error::new(Code::Internal, "the greeting cannot be written as JSON").because(e))?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line)
        .and_then(|()| out.flush())
        .map_err(|e| Error::new(Code::Io, format!("the supervisor cannot be told: {e}")).because(e))
}

/// The key on the first line of standard input.
fn read_key() -> Result<DataKey> {
    let invalid = |what: &str| Error::new(Code::InvalidRequest, format!("the slot's key {what}"));
    let mut line = Zeroizing::new([0; KEY_LINE_BYTES]);
    // Exactly the line: what comes after it is waited for elsewhere. The buffer of standard input may hold more, and
    // is shared with whoever reads on.
    std::io::stdin().lock().read_exact(&mut line[..]).map_err(|e| invalid("did not come").because(e))?;
    let digit = |at: usize| char::from(line[at]).to_digit(16);
    let byte = |at: usize| Some((digit(2 * at)? << 4 | digit(2 * at + 1)?) as u8);
    let mut bytes = Zeroizing::new([0; KEY_LINE_BYTES / 2]);
    for (at, place) in bytes.iter_mut().enumerate() {
        *place = byte(at).ok_or_else(|| invalid("is not hex"))?;
    }
    DataKey::from_bytes(&bytes[..])
}

/// Returns when standard input closes. What comes in before is thrown away.
async fn stdin_closed() {
    let (sender, closed) = oneshot::channel();
    // A thread of its own, since one that reads cannot be stopped; it ends with the process.
    std::thread::spawn(move || {
        let mut bytes = [0; 64];
        let mut stdin = std::io::stdin().lock();
        while !matches!(stdin.read(&mut bytes), Ok(0) | Err(_)) {}
        // Nobody waits when the slot has ended otherwise.
        let _ = sender.send(());
    });
    let _ = closed.await;
}
