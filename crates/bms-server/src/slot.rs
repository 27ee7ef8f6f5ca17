//! What a slot's process does: check a bundle, load it, answer on a Unix socket.
//!
//! One line on standard output tells the supervisor how that went. The process ends when its standard
//! input closes, so it never outlives the program that started it; told to terminate, it finishes open
//! requests first.

mod language;
mod protocol;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bms_bundle::{Bundle, Policy};
use bms_engine::{Engine, EngineOptions};
use bms_nn::onnx::RuntimeChoice;
use bms_wire::{Code, Error, Result, limits};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::listen::{self, Terms};
use crate::slots::{Greeting, Ready};

/// Connections taken at a time: more than the gateway makes.
const CONNECTIONS_MAX: usize = 1024;
const _: () = assert!(crate::slots::CONNECTIONS_MAX < CONNECTIONS_MAX, "the gateway finds room");

/// What one slot process serves and how. The arguments of the command that calls [`run`].
#[derive(Clone, Debug)]
pub struct Options {
    /// The bundle's folder.
    pub bundle: PathBuf,
    /// The Unix socket to answer on; made by the slot.
    pub socket: PathBuf,
    /// The trust policy the bundle is checked against.
    pub policy: PathBuf,
    /// What executes the graph.
    pub runtime: RuntimeChoice,
    /// Threads of one run.
    pub threads: usize,
}

/// Serves one bundle until standard input closes or the process is told to terminate. Blocks the calling
/// thread, which should then end the process.
///
/// # Errors
/// The refusal of the gate or the engine, which has been printed by then, or [`Code::Io`] when the
/// socket cannot be made.
pub fn run(options: Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::new(Code::Io, format!("the slot's runtime cannot start: {e}")).because(e))?;
    let ended = runtime.block_on(async {
        tokio::select! {
            served = serve(options) => served,
            () = stdin_closed() => Ok(()),
        }
    });
    // Work that is still under way is nobody's any more.
    runtime.shutdown_background();
    ended
}

async fn serve(options: Options) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())
        .map_err(|e| Error::new(Code::Io, format!("signals cannot be awaited: {e}")).because(e))?;
    let socket = options.socket.clone();
    let loaded = tokio::task::spawn_blocking(move || load(&options)).await;
    let loaded =
        loaded.unwrap_or_else(|e| Err(Error::new(Code::Internal, "the model broke its loader").because(e)));
    let listening = loaded.and_then(|engine| Ok((engine, bind(&socket)?)));
    let (engine, listener) = match listening {
        Ok(ready) => ready,
        Err(error) => {
            greet(&Greeting::Refused { refused: error.body() })?;
            return Err(error);
        }
    };
    let model = engine.describe();
    greet(&Greeting::Ready(Ready {
        ready: true,
        model: model.name.clone(),
        digest: model.digest.clone(),
        runtime: model.runtime.as_str().to_owned(),
    }))?;
    let terms = Terms {
        connections_max: CONNECTIONS_MAX,
        head_within: None,
        drain: Duration::from_secs(limits::DRAIN_SECONDS_MAX),
    };
    let router = protocol::routes(Arc::new(engine));
    listen::serve(listener, router, terms, async {
        terminate.recv().await;
    })
    .await;
    // Absent when the supervisor was quicker.
    let _ = std::fs::remove_file(&socket);
    Ok(())
}

/// Gate, then engine: there is no other way to the bytes of the model.
fn load(options: &Options) -> Result<Engine> {
    let policy = Policy::load(&options.policy)?;
    let bundle = Bundle::open(&options.bundle)?;
    let verified = policy.verify(bundle).map_err(Error::from)?;
    let engine = EngineOptions {
        runtime: options.runtime,
        threads: options.threads.max(1),
        ..EngineOptions::default()
    };
    Engine::load(verified, &engine)
}

fn bind(socket: &Path) -> Result<UnixListener> {
    UnixListener::bind(socket).map_err(|e| Error::io("listen on", socket, e))
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
