//! What the agent's threads and requests share.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bms_wire::api::{NodeReport, VersionRef};
use bms_wire::client::Client;

use crate::Settings;
use crate::bell::Bell;
use crate::link::Link;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::outbox::Outbox;

/// One edge node.
pub(crate) struct Node {
    pub(crate) settings: Settings,
    pub(crate) client: Client,
    pub(crate) outbox: Outbox,
    pub(crate) link: Link,
    pub(crate) metrics: Metrics,
    /// The version that answers. Requests keep theirs while a new one takes over.
    live: RwLock<Option<Arc<Live>>>,
    /// What the centre wants, once it said.
    desired: Mutex<Option<VersionRef>>,
    /// The last thing that went wrong with a version.
    problem: Mutex<Option<String>>,
    /// Whether the stored version is still being looked at after the start.
    pub(crate) starting: AtomicBool,
    stopped: AtomicBool,
    pub(crate) bells: Bells,
    /// Keeps other agents out of the folder, for as long as any thread works in it.
    pub(crate) _lock: File,
}

/// One for each thread.
#[derive(Debug, Default)]
pub(crate) struct Bells {
    pub(crate) report: Bell,
    pub(crate) update: Bell,
    pub(crate) deliver: Arc<Bell>,
}

impl Node {
    pub(crate) fn new(settings: Settings, client: Client, outbox: Outbox, bells: Bells, lock: File) -> Node {
        // Three missed reports, and the time a connection may take.
        let patience = settings.report_every * 3 + Duration::from_secs(5);
        Node {
            settings,
            client,
            outbox,
            link: Link::new(patience),
            metrics: Metrics::default(),
            live: RwLock::new(None),
            desired: Mutex::new(None),
            problem: Mutex::new(None),
            starting: AtomicBool::new(true),
            stopped: AtomicBool::new(false),
            bells,
            _lock: lock,
        }
    }

    pub(crate) fn live(&self) -> Option<Arc<Live>> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets `live` answer from now on. The one before ends once its open requests are answered.
    pub(crate) fn switch(&self, live: Live) {
        let digest = live.version.digest.as_str();
        tracing::info!(version = live.version.version, digest, "the version answers");
        let live = Arc::new(live);
        let before = self.live.write().unwrap_or_else(PoisonError::into_inner).replace(live);
        // Here, on the updater's thread, it may wait for the engine's; no request does.
        drop(before);
    }

    /// Lets nothing answer any more.
    pub(crate) fn withdraw(&self) {
        let before = self.live.write().unwrap_or_else(PoisonError::into_inner).take();
        drop(before);
    }

    pub(crate) fn desired(&self) -> Option<VersionRef> {
        self.desired.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_desired(&self, desired: Option<VersionRef>) {
        let before = std::mem::replace(
            &mut *self.desired.lock().unwrap_or_else(PoisonError::into_inner),
            desired.clone(),
        );
        if before != desired {
            self.bells.update.ring();
        }
    }

    pub(crate) fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_problem(&self, problem: Option<String>) {
        if let Some(problem) = &problem {
            tracing::error!("{problem}");
        }
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
        self.bells.report.ring();
    }

    pub(crate) fn report(&self) -> NodeReport {
        NodeReport {
            model: self.settings.model.clone(),
            version: self.live().map(|live| live.version.version),
            answers: self.metrics.answers.load(Ordering::Relaxed),
            offline_answers: self.metrics.offline_answers.load(Ordering::Relaxed),
            outbox: self.outbox.len() as u64,
            problem: self.problem(),
        }
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.bells.report.ring();
        self.bells.update.ring();
        self.bells.deliver.ring();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}
