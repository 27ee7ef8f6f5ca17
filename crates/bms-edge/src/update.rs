//! The thread that brings the desired version in.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use bms_wire::api::VersionRef;
use bms_wire::{Code, Error, Result, Retry};

use crate::backoff::Backoff;
use crate::live::Live;
use crate::node::Node;
use crate::pull::{self, Pull};
use crate::slots::Slots;

/// Nothing to do until the bell rings; the centre's wish is looked at again now and then all the same.
const IDLE: Duration = Duration::from_secs(60);

/// How often the lease of the version that answers is looked at.
const LEASE_EVERY: Duration = Duration::from_secs(5);

/// Why a version did not come in.
enum Failed {
    /// It may come in later: the network, the disk.
    Later(Error),
    /// It will never pass the gate, load, or pass its test.
    Never(Error),
}

/// Serves the stored version, then follows the centre until the node is stopped.
pub(crate) fn run(node: &Node, mut slots: Slots) {
    resume(node, &mut slots);
    node.starting.store(false, Ordering::Release);
    let mut backoff = Backoff::new(node.settings.report_every, node.settings.backoff_max);
    // By number and digest: the digest alone does not cover the signature.
    let mut refused: Vec<VersionRef> = Vec::new();
    while !node.is_stopped() {
        end_with_lease(node);
        let pause = match node.desired() {
            Some(desired) if !refused.contains(&desired) => match follow(node, &mut slots, &desired) {
                Ok(()) => {
                    backoff.succeeded();
                    IDLE
                }
                Err(Failed::Never(error)) => {
                    node.metrics.updates_refused.fetch_add(1, Ordering::Relaxed);
                    refused.push(desired.clone());
                    node.set_problem(Some(problem(&desired, &error)));
                    IDLE
                }
                Err(Failed::Later(error)) => {
                    if !node.is_stopped() && node.desired().as_ref() == Some(&desired) {
                        node.set_problem(Some(problem(&desired, &error)));
                    }
                    backoff.failed()
                }
            },
            _ => IDLE,
        };
        let is_leased = node.live().is_some_and(|live| live.lease.is_some());
        if !node.is_stopped() {
            node.bells.update.wait(if is_leased { pause.min(LEASE_EVERY) } else { pause });
        }
    }
}

/// Takes back a version whose lease is over: its key was lent for a time.
fn end_with_lease(node: &Node) {
    let Some(live) = node.live() else { return };
    let Some(Err(error)) = live.lease.as_ref().map(|lease| lease.check()) else { return };
    if error.code() == Code::LeaseExpired {
        node.set_problem(Some(problem(&live.version, &error)));
        node.withdraw();
    } else {
        // The disk is full, say: the time is then kept in memory, and looked at again soon.
        tracing::warn!("the time was not kept: {error}");
    }
}

fn problem(desired: &VersionRef, error: &Error) -> String {
    format!("version {} does not run here ({}): {error}", desired.version, error.code())
}

/// Serves what is on disk: the current version, or the one before when that fails.
fn resume(node: &Node, slots: &mut Slots) {
    let Some((version, dir)) = slots.current() else { return };
    // Of a pull that ended between putting the version in place and clearing up.
    discard(node, &version);
    let error = match boot(node, &dir, &version) {
        Ok(live) => return node.switch(live),
        Err(error) => error,
    };
    node.set_problem(Some(problem(&version, &error)));
    let Some((previous, dir)) = slots.previous() else { return };
    match boot(node, &dir, &previous) {
        Ok(live) => {
            node.metrics.rollbacks.fetch_add(1, Ordering::Relaxed);
            node.switch(live);
            // Not fatal: the next start would try the broken one first, and come here again.
            slots.swap().unwrap_or_else(|e| tracing::warn!("the rollback was not noted: {e}"));
        }
        Err(error) => node.set_problem(Some(problem(&previous, &error))),
    }
}

/// Makes the desired version the one that answers.
fn follow(node: &Node, slots: &mut Slots, desired: &VersionRef) -> Result<(), Failed> {
    if node.live().is_some_and(|live| live.version == *desired) {
        if node.problem().is_some() {
            node.set_problem(None);
        }
        return Ok(());
    }
    if let Some((previous, dir)) = slots.previous()
        && previous == *desired
    {
        match boot(node, &dir, &previous) {
            Ok(live) => {
                slots.swap().map_err(Failed::Later)?;
                return installed(node, live);
            }
            Err(error) => tracing::warn!("the stored version {} is fetched again: {error}", previous.version),
        }
    }
    fetch(node, slots, desired)
}

/// Fetches the version, takes it through gate and test, and only then into a slot.
fn fetch(node: &Node, slots: &mut Slots, desired: &VersionRef) -> Result<(), Failed> {
    let wanted = || !node.is_stopped() && node.desired().as_ref() == Some(desired);
    let pull = Pull {
        client: &node.client,
        model: &node.settings.model,
        into: &downloads(node),
        known: &slots.folders(),
        wanted: &wanted,
    };
    let staged = pull.fetch(desired).map_err(Failed::Later)?;
    let live = match boot(node, &staged, desired) {
        Ok(live) => live,
        Err(error) => {
            pull::discard(&downloads(node), &desired.digest).map_err(Failed::Later)?;
            return Err(match error.code().retry() {
                Retry::Never => Failed::Never(error),
                Retry::Later => Failed::Later(error),
            });
        }
    };
    slots.install(&staged, desired.clone()).map_err(Failed::Later)?;
    discard(node, desired);
    installed(node, live)
}

/// Clears up after a version that is in place: whether that can be done does not decide about the version.
fn discard(node: &Node, version: &VersionRef) {
    pull::discard(&downloads(node), &version.digest)
        .unwrap_or_else(|e| tracing::warn!("a download was not removed: {e}"));
}

fn downloads(node: &Node) -> PathBuf {
    node.settings.dir.join("download")
}

fn installed(node: &Node, live: Live) -> Result<(), Failed> {
    node.metrics.updates.fetch_add(1, Ordering::Relaxed);
    node.switch(live);
    node.set_problem(None);
    Ok(())
}

fn boot(node: &Node, dir: &Path, version: &VersionRef) -> Result<Live> {
    let settings = &node.settings;
    Live::boot(dir, version, &settings.model, &settings.policy, &settings.engine)
}
