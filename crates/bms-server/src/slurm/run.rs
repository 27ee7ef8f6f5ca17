//! The launcher's rounds: look at the queue, do what is to be done, wait.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bms_registry::Registry;
use bms_wire::{Code, Error, Result, limits};
use tokio::sync::watch;
use tokio::time::Instant;

use super::plan::{Action, Terms, plan};
use super::programs::Programs;
use super::queue::{self, Job, Phase, Tag};
use super::settings::Settings;
use super::{reason, script};
use crate::leader::{self, Leadership};
use crate::work::{Shutdown, Work};

/// The first wait when the controller does not answer; doubled with each further one.
const AWAY_FIRST: Duration = Duration::from_secs(1);
/// The longest of these waits.
const AWAY_MAX: Duration = Duration::from_secs(60);
/// How long a seat waits whose job Slurm refused; nothing gets better by asking more often.
const REFUSED_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// Generations of a seat that are remembered.
const REMEMBERED: usize = 32;

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// A job was submitted.
    Submitted {
        /// Its number.
        job: u64,
        /// Its name: group, seat, generation.
        name: String,
    },
    /// A job is in another state than before.
    Changed {
        /// Its number.
        job: u64,
        /// Its name.
        name: String,
        /// Slurm's word for its state, or several.
        state: String,
        /// The node it runs on; may be empty.
        node: String,
        /// Why it waits or ended, as a sentence.
        why: Option<String>,
    },
    /// A job was told to drain.
    Drained {
        /// Its number.
        job: u64,
        /// Why.
        why: &'static str,
    },
    /// A job was cancelled.
    Cancelled {
        /// Its number.
        job: u64,
        /// Why.
        why: &'static str,
    },
    /// Slurm refused something.
    Refused {
        /// What, to complete "refused to …".
        what: String,
        /// Its words.
        error: Error,
    },
    /// Slurm, or the database with the lease, does not answer.
    Away {
        /// What went wrong.
        error: Error,
        /// When it is asked again.
        again: Duration,
    },
    /// It answers again.
    Back,
    /// Another launcher has the group's lease; this one waits.
    Standby,
}

impl Event {
    /// Its name, for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Submitted { .. } => "submitted",
            Event::Changed { .. } => "changed",
            Event::Drained { .. } => "drained",
            Event::Cancelled { .. } => "cancelled",
            Event::Refused { .. } => "refused",
            Event::Away { .. } => "away",
            Event::Back => "back",
            Event::Standby => "standby",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Submitted { job, name } => write!(f, "submitted job {job}, {name}"),
            Event::Changed { job, name, state, node, why } => {
                write!(f, "job {job}, {name}: {state}")?;
                if !node.is_empty() {
                    write!(f, " on {node}")?;
                }
                why.as_ref().map_or(Ok(()), |why| write!(f, ": {why}"))
            }
            Event::Drained { job, why } => write!(f, "job {job} drains: {why}"),
            Event::Cancelled { job, why } => write!(f, "job {job} is cancelled: {why}"),
            Event::Refused { what, error } => write!(f, "Slurm refused to {what}: {error}"),
            Event::Away { error, again } => {
                write!(f, "no answer, again in {} s; nothing is changed meanwhile: {error}", again.as_secs())
            }
            Event::Back => write!(f, "Slurm answers again"),
            Event::Standby => write!(f, "another launcher keeps this group; waiting for its lease to end"),
        }
    }
}

/// Keeps as many workers running as `wanted` says, until `shutdown` is done: jobs then stay as they are, and the next
/// launcher of the same group goes on with them. Ends by itself once none is wanted and none is left.
///
/// With a registry, one launcher at a time acts, under the lease `slurm GROUP`.
///
/// # Errors
/// [`Code::InvalidRequest`] for settings that cannot work, [`Code::NotFound`] when Slurm's programs are not there. What fails later is an
/// event, and tried again.
pub fn run(
    settings: Settings,
    wanted: watch::Receiver<u32>,
    registry: Option<Registry>,
    tell: impl FnMut(&Event) + Send + 'static,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Work {
    boxed_run(settings, wanted, registry, Box::new(tell), Box::pin(shutdown))
}

/// Hears what happens.
type Tell = Box<dyn FnMut(&Event) + Send>;

fn boxed_run(
    settings: Settings,
    wanted: watch::Receiver<u32>,
    registry: Option<Registry>,
    tell: Tell,
    shutdown: Shutdown,
) -> Work {
    Box::pin(run_until(settings, wanted, registry, tell, shutdown))
}

async fn run_until(
    settings: Settings,
    mut wanted: watch::Receiver<u32>,
    registry: Option<Registry>,
    mut tell: Tell,
    mut shutdown: Shutdown,
) -> Result<()> {
    settings.check()?;
    let user = std::fs::metadata("/proc/self")
        .map_err(|e| Error::io("ask for this user of", "/proc/self".as_ref(), e))?
        .uid();
    let lease = format!("slurm {}", settings.group);
    let mut leadership = registry.map(|registry| Leadership::new(registry, &lease, leader::replica_name()));
    let mut launcher = Launcher::new(settings, user);
    let (mut away, mut standby) = (None, false);
    loop {
        let count = (*wanted.borrow_and_update()).min(limits::SLURM_WORKERS_MAX);
        let round = async {
            if let Some(leadership) = &mut leadership
                && leadership.hold().await?.is_none()
            {
                return Ok(None);
            }
            launcher.step(count, &mut tell).await.map(Some)
        };
        let done = tokio::select! {
            done = round => done,
            () = &mut shutdown => break,
        };
        let pause = match done {
            Err(error) if error.code() == Code::NotFound => return Err(error),
            Err(error) => {
                let again = away.map_or(AWAY_FIRST, |again: Duration| (2 * again).min(AWAY_MAX));
                away = Some(again);
                tell(&Event::Away { error, again });
                again
            }
            Ok(active) => {
                if away.take().is_some() {
                    tell(&Event::Back);
                }
                if active.is_none() && !standby {
                    tell(&Event::Standby);
                }
                standby = active.is_none();
                if active == Some(0) && count == 0 {
                    break;
                }
                launcher.settings.poll
            }
        };
        let news = async {
            // A closed channel says nothing any more; the last number stands.
            if wanted.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = news => {}
            () = &mut shutdown => break,
        }
    }
    if let Some(leadership) = &mut leadership {
        leadership.release().await;
    }
    Ok(())
}

/// What is known between two rounds. All of it but the refusals is found again in Slurm.
struct Launcher {
    settings: Settings,
    programs: Programs,
    user: u32,
    script: String,
    jobs: BTreeMap<u64, Job>,
    /// Seats whose job Slurm refused, and when.
    refused: BTreeMap<u32, Instant>,
}

impl Launcher {
    fn new(settings: Settings, user: u32) -> Launcher {
        let (programs, script) = (Programs::new(settings.programs.clone()), script::script(&settings));
        Launcher { settings, programs, user, script, jobs: BTreeMap::new(), refused: BTreeMap::new() }
    }

    /// One round; gives how many jobs may still do something.
    async fn step(&mut self, wanted: u32, tell: &mut Tell) -> Result<usize> {
        // Filtered here as well: some versions print all there is as JSON, whatever is asked.
        let ask = ["--json", "--me", "--states=all"].map(str::to_owned);
        let text = self.programs.run("squeue", &ask, "", &[]).await?;
        let listing = queue::read(&text, &self.settings.group, self.user)?;
        let now = now();
        self.take_in(listing, now, tell);
        let terms = Terms {
            replace_before: self.settings.replace_before.as_secs(),
            settle: self.settings.settle.as_secs(),
            drain: self.settings.drain.as_secs(),
        };
        let known: Vec<Job> = self.jobs.values().cloned().collect();
        for action in plan(&known, wanted, now, terms) {
            self.act(&action, now, tell).await?;
        }
        Ok(self.jobs.values().filter(|job| job.is_active()).count())
    }

    /// Compares a listing with what is known, and tells what is new.
    fn take_in(&mut self, listing: Vec<Job>, now: u64, tell: &mut Tell) {
        let listed: Vec<u64> = listing.iter().map(|job| job.id).collect();
        let mut fresh = listing;
        // Slurm forgets jobs some minutes after their end. One that was active and is not listed is over.
        let gone = self.jobs.values().filter(|job| job.is_active() && !listed.contains(&job.id));
        let over =
            |job: &Job| Job { phase: Phase::Ended, state: "GONE".to_owned(), ends: Some(now), ..job.clone() };
        fresh.extend(gone.map(over).collect::<Vec<_>>());
        for mut job in fresh {
            let before = self.jobs.get(&job.id);
            job.draining_since = job.draining_since.or(before.and_then(|before| before.draining_since));
            let seen = |job: &Job| (job.phase, job.state.clone(), reason::sentence(job));
            if before.is_none_or(|before| seen(before) != seen(&job)) {
                tell(&Event::Changed {
                    job: job.id,
                    name: job.tag.name(&self.settings.group),
                    state: job.state.clone(),
                    node: job.node.clone(),
                    why: reason::sentence(&job),
                });
            }
            self.jobs.insert(job.id, job);
        }
        self.forget(&listed);
    }

    /// Forgets what Slurm has forgotten as well, but for each seat's last generations: they say which comes next.
    fn forget(&mut self, listed: &[u64]) {
        let mut kept: BTreeMap<u32, usize> = BTreeMap::new();
        let mut ids: Vec<(Tag, u64)> = self.jobs.values().map(|job| (job.tag, job.id)).collect();
        ids.sort_unstable();
        for (tag, id) in ids.into_iter().rev() {
            let count = kept.entry(tag.seat).or_default();
            *count += 1;
            if REMEMBERED < *count && !listed.contains(&id) {
                self.jobs.remove(&id);
            }
        }
    }

    /// Does one thing. That Slurm refuses it is told; that it does not answer ends the round.
    async fn act(&mut self, action: &Action, now: u64, tell: &mut Tell) -> Result<()> {
        let (what, done) = match action {
            Action::Submit(tag) => {
                if self.refused.get(&tag.seat).is_some_and(|at| at.elapsed() < REFUSED_AGAIN_AFTER) {
                    return Ok(());
                }
                let name = tag.name(&self.settings.group);
                (format!("submit {name}"), self.submit(*tag, name).await)
            }
            Action::Drain(id, why) => (format!("drain job {id}"), self.drain(*id, now, why).await),
            Action::Cancel(id, why) => {
                let done = self.programs.run("scancel", &[id.to_string()], "", &[]).await;
                (format!("cancel job {id}"), done.map(|_| Event::Cancelled { job: *id, why }))
            }
        };
        match done {
            Ok(event) => tell(&event),
            Err(error) if error.code() == Code::InvalidRequest => {
                if let Action::Submit(tag) = action {
                    self.refused.insert(tag.seat, Instant::now());
                }
                tell(&Event::Refused { what, error });
            }
            Err(error) => return Err(error.while_doing(what)),
        }
        Ok(())
    }

    async fn submit(&mut self, tag: Tag, name: String) -> Result<Event> {
        let arguments = script::arguments(&self.settings, tag);
        let said = self.programs.run("sbatch", &arguments, &self.script, &self.settings.environment).await?;
        let said = String::from_utf8_lossy(&said);
        // `ID`, or `ID;CLUSTER`.
        let id = said.lines().last().unwrap_or_default().split(';').next().unwrap_or_default().trim();
        let job = id.parse().map_err(|_| {
            // It may have been submitted: the next look at the queue says.
            Error::new(Code::Unavailable, format!("sbatch printed no number of a job: {}", said.trim()))
        })?;
        self.refused.remove(&tag.seat);
        Ok(Event::Submitted { job, name })
    }

    /// Notes in Slurm that the job drains, then tells its worker.
    async fn drain(&mut self, id: u64, now: u64, why: &'static str) -> Result<Event> {
        let note =
            ["update".to_owned(), format!("JobId={id}"), format!("Comment={}", queue::draining_comment(now))];
        match self.programs.run("scontrol", &note, "", &[]).await {
            // A site may forbid it. Then it is known here alone, and a launcher that starts anew tells the worker again.
            Err(error) if error.code() != Code::InvalidRequest => return Err(error),
            _ => {}
        }
        let tell = ["--signal=TERM".to_owned(), "--batch".to_owned(), id.to_string()];
        self.programs.run("scancel", &tell, "", &[]).await?;
        if let Some(job) = self.jobs.get_mut(&id) {
            job.draining_since = Some(now);
        }
        Ok(Event::Drained { job: id, why })
    }
}

/// Seconds since 1970. Slurm's own clocks agree: its messages are refused otherwise.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
