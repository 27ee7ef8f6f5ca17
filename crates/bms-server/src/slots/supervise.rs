//! Keeping one slot's process running: start, watch, start again, end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bms_wire::api::{LastRestart, SlotState};
use bms_wire::{Code, ErrorBody, Retry, limits};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;

use super::address::Address;
use super::connections::Connections;
use super::process::{Greeting, Process, Ready, usage, would_run};
use super::progress::{Seen, Verdict, Watchdog};
use super::slot::Slot;
use super::translate::Back;
use super::{Launcher, foreign};
use crate::engines::Runner;
use crate::event::{Event, SlotLost, SlotReady, SlotRefused};

/// The pause before a process is started again: none after the first loss, then doubling from here.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A process that served this long starts the series of pauses anew when it is lost: what fails that seldom is replaced at once.
const STEADY_AFTER: Duration = Duration::from_secs(3);
/// How long open requests get of a slot that is not trusted any more, as when one is unloaded.
const DRAIN: Duration = Duration::from_secs(limits::DRAIN_SECONDS_MAX);
/// Looks at a process in the time after which it counts as hung.
const LOOKS: u32 = 8;

/// How a process came to its end.
pub(super) enum End {
    /// As asked.
    Stopped,
    /// The version cannot be loaded; trying again would not help.
    Refused(ErrorBody),
    /// Any other way. How long it had been ready, if ever.
    Lost { reason: Reason, why: String, served: Option<Duration> },
}

/// Why a process was lost, as metrics and the audit log name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It did not get ready.
    Start,
    /// It ended by itself, or somebody else ended it.
    Ended,
    /// Work waited and nothing moved.
    Hung,
    /// Work waited, it computed, and nothing came of it.
    Spinning,
    /// A request got no answer in all the time it may take.
    Overdue,
    /// An engine elsewhere is not well.
    Unhealthy,
}

impl Reason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Reason::Start => "start",
            Reason::Ended => "ended",
            Reason::Hung => "hung",
            Reason::Spinning => "spinning",
            Reason::Overdue => "overdue",
            Reason::Unhealthy => "unhealthy",
        }
    }
}

/// Keeps the slot's process running until the slot is unloaded.
pub(crate) async fn run(slot: Arc<Slot>, launcher: Arc<Launcher>) {
    let mut losses = 0u32;
    loop {
        let end = match slot.runner() {
            Runner::Own => run_once(&slot, &launcher).await,
            runner => foreign::run_once(&slot, &launcher, runner).await,
        };
        match end {
            End::Stopped => break,
            End::Refused(why) => {
                SlotRefused { of: slot.of(), why: &why }.emit(&launcher.metrics);
                publish_end(&slot, SlotState::Refused, why);
                launcher.changed.notify_one();
                slot.stopping().await;
                break;
            }
            End::Lost { reason, why, served } => {
                losses = if served.is_some_and(|t| STEADY_AFTER <= t) { 1 } else { losses.saturating_add(1) };
                let pause = pause_after(losses);
                SlotLost { of: slot.of(), reason, why: &why, pause }.emit(&launcher.metrics);
                audit(&slot, &launcher, reason, &why);
                publish_loss(&slot, reason, why, served.is_some());
                launcher.changed.notify_one();
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = slot.stopping() => break,
                }
            }
        }
    }
    slot.publish(|c| (c.pid, c.connections) = (None, None));
}

/// No pause after the first loss, so that open requests are asked again at once; then longer and longer.
fn pause_after(losses: u32) -> Duration {
    match losses {
        0 | 1 => Duration::ZERO,
        n => PAUSE_MIN.saturating_mul(1u32.checked_shl(n - 2).unwrap_or(u32::MAX)).min(PAUSE_MAX),
    }
}

/// Writes a loss into the audit log, beside the work: the next process does not wait for it.
fn audit(slot: &Slot, launcher: &Launcher, reason: Reason, why: &str) {
    let Some(registry) = launcher.auditor.clone() else { return };
    let of = slot.of().to_string();
    let details = serde_json::json!({ "reason": reason.as_str(), "why": why });
    tokio::spawn(async move {
        if let Err(e) = registry.audit("slot.restarted", &of, details).await {
            tracing::error!(slot = %of, "failed to audit the loss of a slot: {e}");
        }
    });
}

fn publish_loss(slot: &Slot, reason: Reason, why: String, served: bool) {
    let last = LastRestart { reason: reason.as_str().to_owned(), why: why.clone() };
    let problem = ErrorBody { error: why, code: Code::Unavailable, hint: None };
    publish_end(slot, SlotState::Restarting, problem.clone());
    slot.publish(|c| {
        c.restarts += 1;
        c.last_restart = Some(last);
        c.failures = if served { 0 } else { c.failures.saturating_add(1) };
        if reason == Reason::Unhealthy {
            c.is_down(problem);
        }
    });
}

fn publish_end(slot: &Slot, state: SlotState, problem: ErrorBody) {
    slot.publish(|c| {
        c.state = state;
        (c.pid, c.connections, c.runtime) = (None, None, None);
        c.problem = Some(problem);
    });
}

/// One process, from its start to its end.
async fn run_once(slot: &Slot, launcher: &Arc<Launcher>) -> End {
    slot.publish(|c| {
        c.state = SlotState::Starting;
        c.generation += 1;
    });
    let place = tokio::select! {
        place = slot.source().place(slot.of()) => place,
        () = slot.stopping() => return End::Stopped,
    };
    let started = match place {
        Ok(place) => tokio::select! {
            started = Process::start(launcher, slot.of(), &place, slot.threads()) => started,
            () = slot.stopping() => return End::Stopped,
        },
        Err(error) => Err(error),
    };
    let mut process = match started {
        Ok(process) => process,
        // What is wrong with the bundle stays wrong; a full disk or a busy system does not.
        Err(e) if e.code().retry() == Retry::Never && e.code() != Code::NotFound => {
            return End::Refused(e.body());
        }
        Err(e) => return End::Lost { reason: Reason::Start, why: e.to_string(), served: None },
    };
    slot.publish(|c| c.pid = process.pid());
    let began = Instant::now();
    let greeting = tokio::select! {
        greeting = process.greeting() => greeting,
        () = tokio::time::sleep(launcher.launch.start_within) => {
            process.kill().await;
            Err(format!("it was not ready after {} s", launcher.launch.start_within.as_secs_f32()))
        }
        () = slot.stopping() => {
            process.end().await;
            return End::Stopped;
        }
    };
    match greeting {
        Ok(Greeting::Ready(ready)) => serve(slot, launcher, process, ready, began.elapsed()).await,
        Ok(Greeting::Refused { refused }) => {
            process.end().await;
            End::Refused(refused)
        }
        Err(why) => {
            process.remove_socket();
            End::Lost { reason: Reason::Start, why, served: None }
        }
    }
}

/// A process that is ready, until it ends or has to be ended.
async fn serve(slot: &Slot, launcher: &Launcher, mut process: Process, ready: Ready, took: Duration) -> End {
    let address = Address::Unix(process.socket().to_owned());
    let connections = Arc::new(Connections::new(address, process.reports().clone()));
    SlotReady { of: slot.of(), pid: process.pid(), runtime: Some(&ready.runtime), took }
        .emit(&launcher.metrics);
    slot.publish(|c| {
        c.state = SlotState::Ready;
        c.runtime = Some(ready.runtime);
        c.task = ready.task;
        c.started_in = took;
        c.connections = Some(connections.clone());
        (c.problem, c.failures) = (None, 0);
    });
    launcher.changed.notify_one();
    let since = Instant::now();
    let pid = process.pid();
    let (reason, why) = tokio::select! {
        why = process.ended() => (Reason::Ended, why),
        hung = hung(pid, &connections, launcher.launch.hung_after) => {
            process.kill().await;
            hung
        }
        why = slot.revoked() => {
            launcher.changed.notify_one();
            tokio::select! {
                _ = tokio::time::timeout(slot.drain(DRAIN), slot.given_back()) => {}
                () = slot.stopping() => {}
            }
            process.end().await;
            return End::Refused(why);
        }
        () = slot.stopping() => {
            process.end().await;
            return End::Stopped;
        }
    };
    process.remove_socket();
    End::Lost { reason, why, served: Some(since.elapsed()) }
}

/// Returns once the process hangs, with how that shows. It hangs when a request is outstanding and for `hung_after`
/// there was neither an answer nor a step of its engine nor work of any kind; see [`Watchdog`]. A long computation is
/// left alone, up to a limit, and until a request has got no answer in all the time it may take.
///
/// Without requests a process that does not report is asked now and then whether it lives, so that one that hangs is
/// replaced before somebody needs it.
async fn hung(pid: Option<u32>, connections: &Arc<Connections>, hung_after: Duration) -> (Reason, String) {
    let mut looks = tokio::time::interval(hung_after / LOOKS);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let spinning_after = Duration::from_secs(limits::SLOT_SPIN_SECONDS_MAX);
    let mut watchdog = Watchdog::new(hung_after, spinning_after, Instant::now());
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = connections.overdue() => {
                return (Reason::Overdue, "it hangs: it did not answer within a request's deadline".into());
            }
        }
        connections.look_at_steps();
        let used = pid.and_then(usage).unwrap_or_default();
        let moved_ago = connections.stalled_for();
        let seen = Seen {
            waits: connections.outstanding() != 0,
            moved_ago,
            used: used.processor,
            faults: used.faults,
            // Only looked at when it matters: a process may have many threads.
            would_run: hung_after / 2 < moved_ago && pid.is_some_and(would_run),
        };
        let (quiet, verdict) = watchdog.look(seen, Instant::now());
        connections.note_quiet(quiet);
        match verdict {
            Some(Verdict::Hung(time)) => {
                let what =
                    format!("it hangs: no answer, no step and no work for {:.1} s", time.as_secs_f32());
                return (Reason::Hung, what);
            }
            Some(Verdict::Spinning(time)) => {
                let what = format!("it computes without an answer or a step for {} s", time.as_secs());
                return (Reason::Spinning, what);
            }
            None => {}
        }
        let silent = !connections.heard_within(hung_after);
        if silent && connections.outstanding() == 0 && hung_after <= connections.moved_ago() {
            ask_whether_it_lives(connections.clone(), hung_after);
        }
    }
}

fn ask_whether_it_lives(connections: Arc<Connections>, hung_after: Duration) {
    tokio::spawn(async move {
        let request = Request::get("/v2/health/live").header("host", "slot").body(Full::<Bytes>::default());
        let Ok(request) = request else { return };
        // As any request, it counts as outstanding; that it stays so is what the caller looks at.
        let _ = tokio::time::timeout(2 * hung_after, connections.exchange(request, Back::Own)).await;
    });
}

#[cfg(test)]
mod tests;
