//! Keeping one slot's process running: start, watch, start again, end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bms_wire::api::SlotState;
use bms_wire::{Code, ErrorBody, Retry};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;

use super::Launcher;
use super::connections::Connections;
use super::process::{Greeting, Process, Ready, processor_time};
use super::slot::Slot;
use crate::event::{Event, SlotLost, SlotReady, SlotRefused};

/// The pause before a process is started again: none after the first loss, then doubling from here.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A process that served this long starts the series of pauses anew when it is lost.
const STEADY_AFTER: Duration = Duration::from_secs(10);
/// The share of one processor a process must use to count as computing.
const BUSY_SHARE: f64 = 0.05;
/// Looks at a process in the time after which it counts as hung.
const LOOKS: u32 = 8;

/// How a process came to its end.
enum End {
    /// As asked.
    Stopped,
    /// The version cannot be loaded; trying again would not help.
    Refused(ErrorBody),
    /// Any other way. How long it had been ready, if ever.
    Lost { why: String, served: Option<Duration> },
}

/// Keeps the slot's process running until the slot is unloaded.
pub(crate) async fn run(slot: Arc<Slot>, launcher: Arc<Launcher>) {
    let mut losses = 0u32;
    loop {
        match run_once(&slot, &launcher).await {
            End::Stopped => break,
            End::Refused(why) => {
                SlotRefused { of: slot.of(), why: &why }.emit(&launcher.metrics);
                publish_end(&slot, SlotState::Refused, why);
                launcher.changed.notify_one();
                slot.stopping().await;
                break;
            }
            End::Lost { why, served } => {
                losses = if served.is_some_and(|t| STEADY_AFTER <= t) { 1 } else { losses.saturating_add(1) };
                let pause = pause_after(losses);
                SlotLost { of: slot.of(), why: &why, pause }.emit(&launcher.metrics);
                publish_loss(&slot, why, served.is_some());
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

fn publish_loss(slot: &Slot, why: String, served: bool) {
    let problem = ErrorBody { error: why, code: Code::Unavailable, hint: None };
    publish_end(slot, SlotState::Restarting, problem);
    slot.publish(|c| {
        c.restarts += 1;
        c.failures = if served { 0 } else { c.failures.saturating_add(1) };
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
            started = Process::start(launcher, slot.of(), &place) => started,
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
        Err(e) => return End::Lost { why: e.to_string(), served: None },
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
            End::Lost { why, served: None }
        }
    }
}

/// A process that is ready, until it ends or has to be ended.
async fn serve(slot: &Slot, launcher: &Launcher, mut process: Process, ready: Ready, took: Duration) -> End {
    let connections = Arc::new(Connections::new(process.socket().to_owned()));
    SlotReady { of: slot.of(), pid: process.pid(), runtime: Some(&ready.runtime), took }
        .emit(&launcher.metrics);
    slot.publish(|c| {
        c.state = SlotState::Ready;
        c.runtime = Some(ready.runtime);
        c.task = ready.task;
        c.connections = Some(connections.clone());
        (c.problem, c.failures) = (None, 0);
    });
    launcher.changed.notify_one();
    let since = Instant::now();
    let pid = process.pid();
    let why = tokio::select! {
        why = process.ended() => why,
        why = hung(pid, &connections, launcher.launch.hung_after) => {
            process.kill().await;
            why
        }
        () = slot.stopping() => {
            process.end().await;
            return End::Stopped;
        }
    };
    process.remove_socket();
    End::Lost { why, served: Some(since.elapsed()) }
}

/// Returns once the process hangs, with how that shows. It hangs when a request is outstanding and for
/// `hung_after` neither an answer came nor did it compute: a long computation is left alone, until
/// a request has got no answer in all the time it may take.
///
/// Without requests the process is asked now and then whether it lives, so that one that hangs is
/// replaced before somebody needs it.
async fn hung(pid: Option<u32>, connections: &Arc<Connections>, hung_after: Duration) -> String {
    let mut looks = tokio::time::interval(hung_after / LOOKS);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut used = Duration::ZERO;
    let mut computed = Instant::now();
    let mut looked = Instant::now();
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = connections.overdue() => return "it hangs: it did not answer within a request's deadline".into(),
        }
        let using = pid.and_then(processor_time).unwrap_or_default();
        if looked.elapsed().mul_f64(BUSY_SHARE) < using.saturating_sub(used) {
            computed = Instant::now();
        }
        (used, looked) = (using, Instant::now());
        let idle_for = connections.stalled_for().min(computed.elapsed());
        if hung_after <= idle_for {
            return format!("it hangs: no answer and no work for {:.1} s", idle_for.as_secs_f32());
        }
        if connections.outstanding() == 0 && hung_after <= connections.moved_ago() {
            ask_whether_it_lives(connections.clone(), hung_after);
        }
    }
}

fn ask_whether_it_lives(connections: Arc<Connections>, hung_after: Duration) {
    tokio::spawn(async move {
        let request = Request::get("/v2/health/live").header("host", "slot").body(Full::<Bytes>::default());
        let Ok(request) = request else { return };
        // As any request, it counts as outstanding; that it stays so is what the caller looks at.
        let _ = tokio::time::timeout(2 * hung_after, connections.exchange(request)).await;
    });
}

#[cfg(test)]
mod tests;
