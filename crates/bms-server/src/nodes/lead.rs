//! What one replica decides for all, and what every replica follows: where slots are.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bms_registry::{Placed, Placing, Registry};
use bms_wire::api::{Worker, WorkerRefusal, WorkerState};
use bms_wire::{Code, Result};
use tokio::sync::{mpsc, watch};

use super::placement::{Host, Standing, Wish, place};
use super::token::fresh_secret;
use crate::leader::{Leadership, replica_name};
use crate::slots::{Berth, Berths, Elsewhere, VersionName};

/// The lease of whoever decides.
const LEASE: &str = "placement";
/// For how long the slot that takes over must have been ready before the other goes: until then every replica has seen it.
const READY_FOR: Duration = Duration::from_millis(1500);
/// How long after its start a server waits for workers to dial again, of those that were heard so shortly before.
const DIALLED_AGAIN_WITHIN: Duration = Duration::from_secs(12);
const HEARD_LATELY: Duration = Duration::from_secs(120);
/// What a slot needs beyond its model's files.
const SLOT_BYTES: u64 = 128 << 20;
/// Memory for each byte of a model's files: they are mapped or copied once, and what is computed comes on top.
const MEMORY_PER_BYTE: f64 = 1.2;
/// Tags of a version that begin so name labels its worker must have.
const LABEL_TAG: &str = "worker.";

/// The placing of one replica.
pub(crate) struct Lead {
    registry: Registry,
    leadership: Leadership,
    berths: watch::Sender<Arc<Berths>>,
    suspects: mpsc::Receiver<Arc<str>>,
    elsewhere: Elsewhere,
    began: Instant,
}

impl Lead {
    pub(crate) fn new(
        registry: Registry,
        berths: watch::Sender<Arc<Berths>>,
        suspects: mpsc::Receiver<Arc<str>>,
        elsewhere: Elsewhere,
    ) -> Self {
        let leadership = Leadership::new(registry.clone(), LEASE, replica_name());
        Lead { registry, leadership, berths, suspects, elsewhere, began: Instant::now() }
    }

    /// Decides where slots are, if that is this replica's to do, and follows what was decided.
    pub(crate) async fn look(&mut self) -> Result<()> {
        let mut suspects = BTreeSet::new();
        while let Ok(worker) = self.suspects.try_recv() {
            suspects.insert(worker);
        }
        for worker in suspects {
            self.registry.suspect_worker(&worker).await?;
        }
        let workers = self.registry.workers().await?;
        let (mut placed, _) = self.registry.placements().await?;
        if let Some(lease) = self.leadership.hold().await?
            && !self.waits_for_workers(&workers, &placed)
        {
            let placing = self.decide(&workers, &placed).await?;
            if !placing.is_empty() {
                match self.registry.place(&lease, &placing).await {
                    Ok(()) => {
                        self.note_refusals(&workers, &placed, &placing).await?;
                        placed = self.registry.placements().await?.0;
                    }
                    // Another leads by now; what it has decided is followed next time.
                    Err(error) if error.code() == Code::Conflict => {}
                    Err(error) => return Err(error),
                }
            }
        }
        self.follow(&workers, placed);
        Ok(())
    }

    /// Whether a worker may only be silent because this server was not there to hear it: one that was heard a short while
    /// before this server's start and has not dialled again yet.
    fn waits_for_workers(&self, workers: &[Worker], placed: &[Placed]) -> bool {
        let has_slots = |worker: &Worker| placed.iter().any(|p| p.worker.as_ref() == Some(&worker.name));
        let lately = i64::try_from(HEARD_LATELY.as_millis()).unwrap_or(i64::MAX);
        let is_awaited = |worker: &Worker| {
            worker.state == WorkerState::Gone && worker.silent_ms < lately && has_slots(worker)
        };
        self.began.elapsed() < DIALLED_AGAIN_WITHIN && workers.iter().any(is_awaited)
    }

    async fn decide(&self, workers: &[Worker], placed: &[Placed]) -> Result<Placing> {
        let mut claimed = self.elsewhere.claimed();
        if self.began.elapsed() < DIALLED_AGAIN_WITHIN {
            // What runs goes on until this server knows what it wants.
            let of = |p: &Placed| VersionName { model: p.model.clone(), version: p.version };
            claimed.extend(placed.iter().map(|p| (of(p), p.number)));
        }
        let mut wishes = Vec::new();
        for (of, number) in claimed {
            match self.wish(&of, number).await {
                Ok(wish) => wishes.push(wish),
                // It was deleted under its slot, which is about to go.
                Err(error) if matches!(error.code(), Code::ModelNotFound | Code::VersionNotFound) => {}
                Err(error) => return Err(error),
            }
        }
        let hosts: Vec<_> = workers.iter().map(host).collect();
        let standing: Vec<_> = placed.iter().map(standing).collect();
        let plan = place(&hosts, &wishes, &standing);
        let mut placing = Placing { leave: plan.leave, remove: plan.remove, ..Placing::default() };
        for (wish, worker, why) in plan.add {
            placing.add.push(Placed {
                id: fresh_secret()?[..20].to_owned(),
                model: wish.model,
                version: wish.version,
                number: wish.number,
                worker,
                memory_bytes: wish.memory_bytes,
                leaving: false,
                why,
                made_ms: 0,
            });
        }
        // Those from which others have taken over go.
        for old in placed.iter().filter(|p| p.leaving) {
            let same = |p: &&Placed| (&p.model, p.version, p.number) == (&old.model, old.version, old.number);
            let next = placed.iter().filter(same).find(|p| !p.leaving);
            let ready = next.and_then(|next| self.elsewhere.ready_for(&next.id));
            if ready.is_some_and(|time| READY_FOR <= time) && !placing.remove.contains(&old.id) {
                placing.remove.push(old.id.clone());
            }
        }
        Ok(placing)
    }

    /// Writes down which slots go from their workers because these refuse them.
    async fn note_refusals(&self, workers: &[Worker], placed: &[Placed], placing: &Placing) -> Result<()> {
        for gone in placed.iter().filter(|placed| placing.remove.contains(&placed.id)) {
            let Some(worker) = workers.iter().find(|worker| gone.worker.as_ref() == Some(&worker.name))
            else {
                continue;
            };
            let refused = &worker.report.refused;
            if let Some(refusal) = refused.iter().find(|r| r.model == gone.model && r.version == gone.version)
            {
                let of = VersionName { model: gone.model.clone(), version: gone.version }.to_string();
                let details = serde_json::json!({ "worker": worker.name, "reason": refusal.why });
                self.registry.audit("worker.refused", &of, details).await?;
            }
        }
        Ok(())
    }

    async fn wish(&self, of: &VersionName, number: u64) -> Result<Wish> {
        let version = self.registry.version(&of.model, of.version).await?;
        let memory_bytes = SLOT_BYTES.saturating_add((version.size_bytes as f64 * MEMORY_PER_BYTE) as u64);
        let label = |(tag, value): (String, String)| Some((tag.strip_prefix(LABEL_TAG)?.to_owned(), value));
        let labels = version.tags.into_iter().filter_map(label).collect();
        Ok(Wish { model: of.model.clone(), version: of.version, number, memory_bytes, cores: 1, labels })
    }

    /// Tells the slots of this replica where they are.
    fn follow(&self, workers: &[Worker], placed: Vec<Placed>) {
        let mut berths = Berths::new();
        for placed in placed {
            let worker = match &placed.worker {
                None => None,
                Some(name) => {
                    // One that is revoked or has left is asked nothing more.
                    let is_there = |w: &&Worker| {
                        w.name == *name && !matches!(w.state, WorkerState::Revoked | WorkerState::Left)
                    };
                    let Some(worker) = workers.iter().find(is_there) else { continue };
                    Some((Arc::from(name.as_str()), worker.report.address.clone()))
                }
            };
            let of = VersionName { model: placed.model, version: placed.version };
            berths.entry(of).or_default().push(Berth {
                id: placed.id,
                number: placed.number,
                worker,
                leaving: placed.leaving,
            });
        }
        self.berths.send_if_modified(|now| {
            let changed = **now != berths;
            if changed {
                *now = Arc::new(berths);
            }
            changed
        });
    }
}

fn host(worker: &Worker) -> Host {
    Host {
        name: worker.name.clone(),
        memory_bytes: worker.report.memory_bytes,
        cores: worker.report.cores,
        labels: worker.report.labels.clone(),
        alive: matches!(worker.state, WorkerState::Ready | WorkerState::Draining),
        open: worker.state == WorkerState::Ready,
        refuses: worker.report.refused.iter().map(refusal).collect(),
    }
}

fn refusal(said: &WorkerRefusal) -> ((String, u64), String) {
    ((said.model.clone(), said.version), said.why.clone())
}

fn standing(placed: &Placed) -> Standing {
    Standing {
        id: placed.id.clone(),
        model: placed.model.clone(),
        version: placed.version,
        number: placed.number,
        host: placed.worker.clone(),
        memory_bytes: placed.memory_bytes,
        cores: 1,
        leaving: placed.leaving,
    }
}
