//! The agent put together.

use std::fs::{File, TryLockError};
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bms_wire::client::Client;
use bms_wire::{Code, Error, Result, limits};
use tokio::net::TcpListener;

use crate::node::{Bells, Node};
use crate::outbox::{Bounds, Outbox};
use crate::slots::Slots;
use crate::{Settings, deliver, durable, guard, http, report, update};

/// How long the threads get to end. One that waits for a silent centre is left behind: what it may
/// still do is safe at any point, and ends with the process.
const THREADS_END_WITHIN: Duration = Duration::from_secs(3);

/// Runs an edge node until `shutdown` is done, listening where the settings say. See [`serve`].
///
/// # Errors
/// As [`serve`], and [`Code::Io`] when the address is taken.
pub async fn run(settings: Settings, shutdown: impl Future<Output = ()>) -> Result<()> {
    guard::check_address(settings.listen)?;
    let address = settings.listen;
    let listener = TcpListener::bind(address).await.map_err(|e| {
        Error::new(Code::Io, format!("failed to listen on `{address}`: {e}"))
            .hint("Stop what listens there, or choose another port.")
            .because(e)
    })?;
    serve(settings, listener, shutdown).await
}

/// Runs an edge node on `listener` until `shutdown` is done: the listener is closed, open requests
/// finish, queued samples are on disk, and only then it returns.
///
/// The centre need not be there, then or later. Must be called on a tokio runtime with time and
/// network.
///
/// # Errors
/// [`Code::InvalidRequest`] for settings out of range, [`Code::PermissionDenied`] when the listener is
/// not on a loopback address, [`Code::Conflict`] when another agent uses the folder, [`Code::Io`] and
/// its kin when the folder cannot be used.
pub async fn serve(
    settings: Settings,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    settings.check()?;
    let address = listener
        .local_addr()
        .map_err(|e| Error::new(Code::Io, format!("the listener has no address: {e}")).because(e))?;
    guard::check_address(address)?;
    let drain = settings.drain.min(Duration::from_secs(limits::DRAIN_SECONDS_MAX));
    let opened = tokio::task::spawn_blocking(move || open(settings)).await;
    let (node, slots) =
        opened.map_err(|e| Error::new(Code::Internal, "the node did not open").because(e))??;
    tracing::info!(node = node.settings.node, model = node.settings.model, %address, "the edge node listens");
    // Also when this future is dropped half way.
    let _stop = StopOnDrop(node.clone());
    let threads = start(&node, slots)?;
    let cut_off = http::serve(node.clone(), listener, drain, shutdown).await;
    if cut_off != 0 {
        tracing::warn!(cut_off, "connections closed with requests open");
    }
    node.stop();
    let ended = Instant::now() + THREADS_END_WITHIN;
    while !threads.iter().all(std::thread::JoinHandle::is_finished) && Instant::now() < ended {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let closed = tokio::task::spawn_blocking(move || node.outbox.close()).await;
    closed.map_err(|e| Error::new(Code::Internal, "the outbox was not closed").because(e))
}

struct StopOnDrop(Arc<Node>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Opens the node's folder: lock, slots, outbox.
fn open(settings: Settings) -> Result<(Arc<Node>, Slots)> {
    let client = Client::trusting(&settings.centre, settings.authorities.as_deref())?;
    let client = client.with_key(settings.key.clone());
    durable::make_folder(&settings.dir)?;
    let lock = lock(&settings.dir)?;
    let slots = Slots::open(&settings.dir)?;
    let bells = Bells::default();
    let deliver = bells.deliver.clone();
    let bounds = Bounds::new(settings.outbox_bytes_max);
    let outbox = Outbox::open(&settings.dir.join("outbox"), bounds, move || deliver.ring())?;
    Ok((Arc::new(Node::new(settings, client, outbox, bells, lock)), slots))
}

fn lock(dir: &Path) -> Result<File> {
    let path = dir.join(".lock");
    let lock = File::create(&path).map_err(|e| Error::io("make", &path, e))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            let what = format!("another edge node works in `{}`", dir.display());
            Err(Error::new(Code::Conflict, what).hint("Stop it first, or use another folder."))
        }
        Err(TryLockError::Error(e)) => Err(Error::io("lock", &path, e)),
    }
}

/// Starts the threads that talk to the centre.
fn start(node: &Arc<Node>, slots: Slots) -> Result<Vec<std::thread::JoinHandle<()>>> {
    let thread = |name: &str, work: Box<dyn FnOnce(&Node) + Send>| {
        let node = node.clone();
        let builder = std::thread::Builder::new().name(name.to_owned());
        builder.spawn(move || work(&node)).map_err(|e| {
            Error::new(Code::Internal, format!("the thread `{name}` cannot be started")).because(e)
        })
    };
    Ok(vec![
        thread("bms-report", Box::new(report::run))?,
        thread("bms-deliver", Box::new(deliver::run))?,
        thread("bms-update", Box::new(move |node| update::run(node, slots)))?,
    ])
}
