//! What happens to the servers, and when.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::thread::Scope;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bms_wire::api::{NewRollout, Rollout, RolloutPlan, RolloutState};

use super::Course;
use super::scene::{Replica, Scene, TENSORS, signal};
use crate::bench::{http, progress};

/// How often a slot is killed.
const SLOT_EVERY: Duration = Duration::from_secs(5);
/// How long a replica stays away that was killed.
const AWAY: Duration = Duration::from_secs(5);
/// How often the counts are read.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long the rollout may take beyond the course.
const DECIDED_WITHIN: Duration = Duration::from_secs(120);
/// What the servers count of it.
const COUNTERS: [&str; 3] =
    ["bms_stream_continuations_total", "bms_slot_restarts_total", "bms_request_retries_total"];

pub(crate) struct Trouble<'s> {
    scene: &'s Scene,
    course: &'s Course,
    told: Mutex<Told>,
}

/// What happened.
#[derive(Clone, Default)]
pub(crate) struct Told {
    /// When, in seconds, and what.
    pub(crate) events: Vec<(f64, String)>,
    pub(crate) slots_killed: BTreeMap<String, u64>,
    pub(crate) rollout: Option<Rollout>,
    /// Counters of all replicas together, over their restarts.
    pub(crate) counted: BTreeMap<&'static str, f64>,
    /// When, and the resident memory of each replica's process in bytes.
    pub(crate) resident: Vec<(f64, Vec<u64>)>,
}

impl<'s> Trouble<'s> {
    pub(crate) fn new(scene: &'s Scene, course: &'s Course) -> Trouble<'s> {
        Trouble { scene, course, told: Mutex::default() }
    }

    pub(crate) fn told(&self) -> Told {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, what: String) {
        progress(format_args!("{:6.1} s: {what}", self.course.at()));
        self.lock().events.push((self.course.at(), what));
    }

    /// Kills a slot again and again, and reads the counters.
    pub(crate) fn spawn_killer<'t>(&'t self, scope: &'t Scope<'t, '_>) {
        scope.spawn(|| {
            for number in 0.. {
                std::thread::sleep(SLOT_EVERY);
                if self.course.is_over() {
                    return;
                }
                if let Some(of) = self.kill_slot(number) {
                    *self.lock().slots_killed.entry(of).or_default() += 1;
                }
            }
        });
        scope.spawn(|| {
            let mut last = BTreeMap::new();
            while !self.course.is_over() {
                std::thread::sleep(LOOK_EVERY);
                for replica in &self.scene.replicas {
                    self.read_counters(replica, &mut last);
                }
                let resident = self.scene.replicas.iter().map(Replica::resident_bytes).collect();
                self.lock().resident.push((self.course.at(), resident));
            }
        });
    }

    /// Kills the next slot of a replica that answers; whose it was.
    fn kill_slot(&self, number: usize) -> Option<String> {
        for at in number..number + self.scene.replicas.len() {
            let Ok(slots) = self.scene.replica(at).client().and_then(|client| Ok(client.slots()?)) else {
                continue;
            };
            let running: Vec<_> = slots.iter().filter_map(|slot| Some((slot, slot.pid?))).collect();
            let (slot, pid) = *running.get((number / 2) % running.len().max(1))?;
            signal(pid, "KILL").ok()?;
            return Some(format!("{} of {}", slot.model, self.scene.replica(at).name));
        }
        None
    }

    /// Adds what a replica counted since the last look. One that began anew began at zero.
    fn read_counters(&self, replica: &Replica, last: &mut BTreeMap<(&'static str, &'static str), f64>) {
        let Ok(text) = http::get(replica.address, "/metrics") else { return };
        for counter in COUNTERS {
            let now: f64 = text.lines().filter(|line| line.starts_with(counter)).filter_map(value).sum();
            let before =
                last.insert((replica.name, counter), now).filter(|before| *before <= now).unwrap_or(0.0);
            *self.lock().counted.entry(counter).or_default() += now - before;
        }
    }

    /// Everything else, in order.
    pub(crate) fn run(&self) -> Result<()> {
        let [one, two] = [&self.scene.replicas[0], &self.scene.replicas[1]];
        if self.course.wait_for(0.15) {
            self.begin_rollout(one)?;
        }
        if self.course.wait_for(0.2) {
            self.tell(format!("replica {} is killed", two.name));
            two.kill()?;
            std::thread::sleep(AWAY);
            self.tell(format!("replica {} is started again", two.name));
            two.start(&self.scene.ours)?;
            self.wait_for(two)?;
        }
        for (share, how) in [(0.45, "fast"), (0.6, "immediate")] {
            if self.course.wait_for(share) {
                self.tell(format!("PostgreSQL is restarted ({how})"));
                self.scene.services.restart_postgres(how)?;
                self.tell("PostgreSQL is back".to_owned());
            }
        }
        for (share, replica) in [(0.72, one), (0.83, two)] {
            if self.course.wait_for(share) {
                self.tell(format!("replica {} is asked to end", replica.name));
                let took = replica.stop()?;
                self.tell(format!("replica {} has ended within {:.1} s", replica.name, took.as_secs_f64()));
                replica.start(&self.scene.ours)?;
                self.wait_for(replica)?;
            }
        }
        self.course.wait_for(1.0);
        self.wait_for_decision()
    }

    fn wait_for(&self, replica: &Replica) -> Result<()> {
        replica.wait_for("/v2/health/ready")?;
        self.tell(format!("replica {} is ready", replica.name));
        Ok(())
    }

    /// A canary of the model of tensors. Its slots are killed as all others are: the bounds are wide, what is asked
    /// here is that nobody notices.
    fn begin_rollout(&self, replica: &Replica) -> Result<()> {
        let plan = RolloutPlan {
            steps: vec![10.0, 50.0, 100.0],
            step_seconds: (self.course.length.as_secs() / 20).max(2),
            min_requests: 20,
            sticky: "request".to_owned(),
            max_error_increase: 0.5,
            max_latency_increase: 100.0,
            ..RolloutPlan::default()
        };
        let new = NewRollout { candidate: "2".to_owned(), require: None, plan };
        replica.client()?.begin_rollout(TENSORS, &new).context("failed to begin the rollout")?;
        self.tell("a canary rollout begins".to_owned());
        Ok(())
    }

    fn wait_for_decision(&self) -> Result<()> {
        let begin = std::time::Instant::now();
        loop {
            let rollout = self.scene.replicas[0].client()?.rollout(TENSORS)?;
            let is_open = matches!(
                rollout.state,
                RolloutState::Preparing | RolloutState::Running | RolloutState::Paused
            );
            if !is_open || DECIDED_WITHIN < begin.elapsed() {
                self.lock().rollout = Some(rollout);
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// The number at the end of a metric's line.
fn value(line: &str) -> Option<f64> {
    line.rsplit(' ').next()?.parse().ok()
}
