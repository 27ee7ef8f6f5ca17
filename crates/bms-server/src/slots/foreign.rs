//! Slots that are external engines: the gate, the start, and looking after what knows nothing of slots.
//!
//! An engine reports no steps, so what counts is what can be seen from outside: answers and pieces of answers, answers to
//! the question of its health, processor time of all its processes. See `docs/adr/0024-external-engines.md`.

mod probe;
mod process;
mod tree;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bms_bundle::{Bundle, Verified};
use bms_wire::api::SlotState;
use bms_wire::{Code, Error, ErrorBody, Result, Retry};
use tokio::time::MissedTickBehavior;

use super::address::Address;
use super::connections::Connections;
use super::progress::{Seen, Verdict, Watchdog};
use super::slot::{Slot, is_language};
use super::supervise::{End, Reason};
use super::{Launcher, Place, Source};
use crate::engines::{Engine, Protocol, Runner, Runs};
use crate::event::{EngineDown, Event, SlotReady};
use probe::{Probe, Unwell};
use process::Process;

pub(super) use tree::resident_bytes;

/// The task of a model whose engine says nothing better of it: one that takes text, or tensors.
const TEXT_TASK: &str = "text-generation";
const TENSOR_TASK: &str = "tensor";
/// The longest time between two looks at an engine.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The same while it starts, or is down.
const LOOK_FOR_START_EVERY: Duration = Duration::from_millis(250);
/// Looks in the time of silence after which it counts as hung.
const LOOKS: u32 = 8;
/// Times in a row a connection to an engine elsewhere is refused before it counts as down: nobody listens there.
const REFUSALS_MAX: u32 = 2;
/// The pause between these.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// One process of an engine, or the time in which one elsewhere is well, from its start to its end.
pub(super) async fn run_once(slot: &Slot, launcher: &Arc<Launcher>, runner: &Runner) -> End {
    slot.publish(|c| {
        c.state = SlotState::Starting;
        c.generation += 1;
    });
    let engine = match runner {
        Runner::Engine(engine) => engine,
        Runner::Own => return End::Refused(internal("a slot of this program has no engine")),
        Runner::Missing(name) => {
            let what = format!("this server has no engine `{name}` that runs versions");
            let hint = "Start it with --engines and a file that declares it, or deploy with another engine.";
            return End::Refused(Error::new(Code::NotSupported, what).hint(hint).body());
        }
    };
    match &engine.runs {
        Runs::Elsewhere { .. } => elsewhere(slot, launcher, engine).await,
        Runs::Here { .. } => here(slot, launcher, engine).await,
    }
}

fn internal(what: &str) -> ErrorBody {
    Error::new(Code::Internal, what).body()
}

/// What a version's engine is given.
struct Given {
    folder: PathBuf,
    weights: PathBuf,
    verified: Verified,
}

/// Has the gate look at a version. Only what it lets in has a path that an engine gets to know.
async fn pass_gate(slot: &Slot, launcher: &Launcher) -> Result<Option<Given>> {
    if matches!(slot.source(), Source::Engine) {
        return Ok(None);
    }
    let place = slot.source().place(slot.of()).await?;
    let policy = launcher.policy_now();
    let checking = tokio::task::spawn_blocking(move || {
        let (bundle, folder, bare) = match place {
            Place::Bundle(folder) => (Bundle::open(&folder)?, folder, None),
            Place::Bare { path, name } => {
                let bundle = Bundle::of_model(&path, Some(&name))?;
                match path.is_file() {
                    true => (bundle, path.parent().unwrap_or(Path::new("/")).to_owned(), Some(path)),
                    false => (bundle, path, None),
                }
            }
        };
        if bundle.seal_unverified().is_some() {
            let what = "the model is sealed, and an external engine would need its files in plain on a disk";
            return Err(Error::new(Code::NotSupported, what)
                .hint("Let this program run it (deploy without an engine), or publish it unsealed."));
        }
        let verified = policy.verify(bundle).map_err(Error::from)?;
        let format = verified.model_format();
        if policy.confine.contains(&format) {
            let what =
                format!("{format} is only loaded in a confined process, and an external engine is not");
            return Err(Error::new(Code::FormatDenied, what)
                .hint("`confine` in the trust policy says which formats need it."));
        }
        let weights = bare.unwrap_or_else(|| folder.join(&verified.manifest().model));
        Ok(Given { folder, weights, verified })
    });
    let checked = checking.await;
    checked.unwrap_or_else(|e| Err(Error::new(Code::Internal, "the gate broke").because(e))).map(Some)
}

async fn here(slot: &Slot, launcher: &Arc<Launcher>, engine: &Arc<Engine>) -> End {
    let lost = |why: String| End::Lost { reason: Reason::Start, why, served: None };
    let checked = tokio::select! {
        checked = pass_gate(slot, launcher) => checked,
        () = slot.stopping() => return End::Stopped,
    };
    let given = match checked {
        Ok(given) => given,
        Err(e) if e.code().retry() == Retry::Never && e.code() != Code::NotFound => {
            return End::Refused(e.body());
        }
        Err(e) => return lost(e.to_string()),
    };
    let task = given.as_ref().map(|given| given.verified.manifest().task.clone());
    slot.publish(|c| c.task = Some(task_of(engine, task)));
    let files = given.as_ref().map(|given| (&*given.folder, &*given.weights));
    let began = Instant::now();
    let late = || format!("it was not ready after {} s", engine.start_within.as_secs());
    let started = tokio::select! {
        started = Process::start(launcher, engine, slot.of(), files) => started,
        // Who starts it says nothing: dropped, it ends, and the engine with it.
        () = tokio::time::sleep(engine.start_within) => return lost(late()),
        () = slot.stopping() => return End::Stopped,
    };
    let mut process = match started {
        Ok(process) => process,
        Err(e) => return lost(e.to_string()),
    };
    slot.publish(|c| c.pid = Some(process.pid()));
    let probe = match Probe::new(engine, process.address().clone()) {
        Ok(probe) => probe,
        Err(e) => {
            process.kill().await;
            return lost(e.to_string());
        }
    };
    tokio::select! {
        why = process.ended() => return lost(why),
        () = until_well(&probe) => {}
        () = tokio::time::sleep(engine.start_within) => {
            process.kill().await;
            return lost(late());
        }
        () = slot.stopping() => {
            process.end().await;
            return End::Stopped;
        }
    }
    // What was checked is what it has read, and it is this engine that answers.
    let sound =
        given.map_or(Ok(()), |given| given.verified.recheck()).and_then(|()| process.check_listener());
    if let Err(e) = sound {
        process.kill().await;
        return lost(e.to_string());
    }
    serve_here(slot, launcher, engine, process, probe, began.elapsed()).await
}

async fn until_well(probe: &Probe) {
    while probe.ask().await.is_err() {
        tokio::time::sleep(LOOK_FOR_START_EVERY).await;
    }
}

async fn serve_here(
    slot: &Slot,
    launcher: &Launcher,
    engine: &Arc<Engine>,
    mut process: Process,
    probe: Probe,
    took: Duration,
) -> End {
    let connections = publish_ready(slot, launcher, engine, probe.address(), Some(process.pid()), took);
    let since = Instant::now();
    let pid = process.pid();
    let (reason, why) = tokio::select! {
        why = process.ended() => (Reason::Ended, why),
        hung = watch(engine, Some(pid), &connections, &probe) => {
            process.kill().await;
            hung
        }
        () = slot.stopping() => {
            process.end().await;
            return End::Stopped;
        }
    };
    End::Lost { reason, why, served: Some(since.elapsed()) }
}

async fn elsewhere(slot: &Slot, launcher: &Arc<Launcher>, engine: &Arc<Engine>) -> End {
    slot.publish(|c| c.task = Some(task_of(engine, None)));
    let probe = match probe::address(engine).and_then(|address| Probe::new(engine, address)) {
        Ok(probe) => probe,
        Err(e) => return End::Refused(e.body()),
    };
    let began = Instant::now();
    let mut told = false;
    while let Err(unwell) = probe.ask().await {
        let why = format!("the engine at {} {unwell}", engine.whereabouts());
        if !told {
            EngineDown { of: slot.of(), why: &why }.emit(&launcher.metrics);
            told = true;
        }
        // Requests are refused at once rather than wait for somebody to start it.
        slot.publish(|c| c.is_down(ErrorBody { error: why, code: Code::Unavailable, hint: None }));
        launcher.changed.notify_one();
        tokio::select! {
            () = tokio::time::sleep(LOOK_FOR_START_EVERY) => {}
            () = slot.stopping() => return End::Stopped,
        }
    }
    let connections = publish_ready(slot, launcher, engine, probe.address(), None, began.elapsed());
    let since = Instant::now();
    let (reason, why) = tokio::select! {
        down = watch(engine, None, &connections, &probe) => down,
        () = slot.stopping() => return End::Stopped,
    };
    // Those that wait for an answer would wait in vain.
    connections.close();
    End::Lost { reason, why, served: Some(since.elapsed()) }
}

fn publish_ready(
    slot: &Slot,
    launcher: &Launcher,
    engine: &Engine,
    address: &Address,
    pid: Option<u32>,
    took: Duration,
) -> Arc<Connections> {
    let connections = Connections::with_seats(address.clone(), Arc::default(), engine.concurrency);
    let connections = Arc::new(connections);
    let runtime = format!("engine {}", engine.name);
    SlotReady { of: slot.of(), pid, runtime: Some(&runtime), took }.emit(&launcher.metrics);
    slot.publish(|c| {
        c.state = SlotState::Ready;
        c.runtime = Some(runtime);
        c.connections = Some(connections.clone());
        (c.problem, c.failures) = (None, 0);
    });
    launcher.changed.notify_one();
    connections
}

/// The task by which requests are told apart: those to an engine of OpenAI's protocol are texts, others tensors.
fn task_of(engine: &Engine, manifest: Option<String>) -> String {
    let (is_text, usual) = match engine.protocol {
        Protocol::OpenAi => (true, TEXT_TASK),
        Protocol::Oip => (false, TENSOR_TASK),
    };
    manifest.filter(|task| is_language(task) == is_text).unwrap_or_else(|| usual.to_owned())
}

/// Returns once an engine has to be replaced, or counts as down, with how that shows.
///
/// It does when for `silent_after` it said nothing, neither an answer nor that it is well, and did no work that can be
/// seen; and, if it can be started again, when for `stalled_after` requests wait and there is no answer to any, however
/// well it says it is.
async fn watch(
    engine: &Engine,
    pid: Option<u32>,
    connections: &Arc<Connections>,
    probe: &Probe,
) -> (Reason, String) {
    let mut looks = tokio::time::interval((engine.silent_after / LOOKS).min(LOOK_EVERY));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watchdog = Watchdog::new(engine.silent_after, engine.stalled_after, Instant::now());
    let mut well = Instant::now();
    let mut refusals = 0;
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = connections.troubled() => {}
            () = connections.overdue(), if pid.is_some() => {
                return (Reason::Overdue, "it hangs: it did not answer within a request's deadline".into());
            }
        }
        let asked = probe.ask().await;
        match &asked {
            Ok(()) => (well, refusals) = (Instant::now(), 0),
            Err(Unwell::Refused(_)) => refusals += 1,
            Err(_) => refusals = 0,
        }
        if let (Err(unwell), None) = (&asked, pid) {
            let heard_ago = well.elapsed().min(connections.moved_ago());
            if REFUSALS_MAX <= refusals || engine.silent_after <= heard_ago {
                return (Reason::Unhealthy, format!("the engine at {} {unwell}", engine.whereabouts()));
            }
            if 0 < refusals {
                tokio::time::sleep(REFUSED_PAUSE).await;
                connections.trouble();
            }
        }
        let seen = look(pid, connections, asked.is_ok(), well);
        let (quiet, verdict) = watchdog.look(seen, Instant::now());
        connections.note_quiet(quiet);
        match verdict {
            Some(Verdict::Hung(time)) if pid.is_some() => {
                let time = time.as_secs_f32();
                let what = format!("it hangs: no answer, no sign of health and no work for {time:.1} s");
                return (Reason::Hung, what);
            }
            Some(Verdict::Spinning(time)) if pid.is_some() => {
                let what = format!("requests wait, and none was answered for {} s", time.as_secs());
                return (Reason::Spinning, what);
            }
            _ => {}
        }
    }
}

/// What is seen of an engine. That it says it is well counts as work: then it is no worse than slow.
fn look(pid: Option<u32>, connections: &Connections, is_well: bool, well: Instant) -> Seen {
    let has_requests = connections.outstanding() != 0;
    let used = pid.map(tree::usage).unwrap_or_default();
    Seen {
        waits: has_requests || !is_well,
        moved_ago: if has_requests { connections.stalled_for() } else { well.elapsed() },
        used: used.processor,
        faults: used.faults,
        would_run: is_well || pid.is_some_and(tree::would_run),
    }
}
