//! What one replica decides for all, and what every replica follows: where slots are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bms_registry::{Placed, Placing, Registry};
use bms_wire::api::{SlotNeeds, SlotState, Worker, WorkerRefusal, WorkerSlot, WorkerState};
use bms_wire::{Code, Result};
use tokio::sync::{mpsc, watch};

use super::placement::{Host, Standing, Wish, place};
use super::reckon::{Reckoned, Seen, reckon};
use super::token::fresh_secret;
use crate::fleet::About;
use crate::leader::{Leadership, replica_name};
use crate::slots::{Berth, Berths, Elsewhere, VersionName};

/// The lease of whoever decides.
const LEASE: &str = "placement";
/// For how long the slot that takes over must have been ready before the other goes: until then every replica has seen it.
const READY_FOR: Duration = Duration::from_millis(1500);
/// How long after its start a server waits for workers to dial again, of those that were heard so shortly before.
const DIALLED_AGAIN_WITHIN: Duration = Duration::from_secs(12);
const HEARD_LATELY: Duration = Duration::from_secs(120);
/// Tags of a version that begin so name labels its worker must have.
const LABEL_TAG: &str = "worker.";

/// What is known here of the slots that need places.
pub(crate) struct Known {
    /// What a slot of each deployed model needs, as its operator says.
    pub(crate) needs: BTreeMap<String, SlotNeeds>,
    /// The most that slots on this machine took, of each version.
    pub(crate) seen: Vec<(VersionName, u64)>,
    /// Bytes for keys and values of a language model, when that is said.
    pub(crate) kv_bytes: Option<u64>,
}

/// What a slot of one version needs of the place it goes to.
struct Needed {
    memory: Reckoned,
    labels: BTreeMap<String, String>,
}

/// The placing of one replica.
pub(crate) struct Lead {
    registry: Registry,
    leadership: Leadership,
    berths: watch::Sender<Arc<Berths>>,
    suspects: mpsc::Receiver<Arc<str>>,
    elsewhere: Elsewhere,
    seen: Seen,
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
        let seen = Seen::default();
        Lead { registry, leadership, berths, suspects, elsewhere, seen, began: Instant::now() }
    }

    /// Decides where slots are, if that is this replica's to do, and follows what was decided.
    pub(crate) async fn look(&mut self, known: &Known) -> Result<()> {
        let mut suspects = BTreeSet::new();
        while let Ok(worker) = self.suspects.try_recv() {
            suspects.insert(worker);
        }
        for worker in suspects {
            self.registry.suspect_worker(&worker).await?;
        }
        let workers = self.registry.workers().await?;
        let (mut placed, _) = self.registry.placements().await?;
        self.note_seen(known, &workers, &placed);
        if let Some(lease) = self.leadership.hold().await?
            && !self.waits_for_workers(&workers, &placed)
        {
            let placing = self.decide(known, &workers, &placed).await?;
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

    /// Looks at what slots take, here and on workers. Whoever leads next has looked as well.
    fn note_seen(&mut self, known: &Known, workers: &[Worker], placed: &[Placed]) {
        for (of, bytes) in &known.seen {
            self.seen.note(of.clone(), *bytes);
        }
        let is_heard = |w: &&Worker| matches!(w.state, WorkerState::Ready | WorkerState::Draining);
        for slot in workers.iter().filter(is_heard).flat_map(|worker| &worker.report.slots) {
            if let (SlotState::Ready, Some(bytes)) = (slot.state, slot.resident_bytes) {
                self.seen.note(VersionName { model: slot.model.clone(), version: slot.version }, bytes);
            }
        }
        let claimed = self.elsewhere.claimed();
        self.seen.keep(|of| {
            claimed.iter().any(|(claimed, _)| claimed == of)
                || placed.iter().any(|p| (&p.model, p.version) == (&of.model, of.version))
        });
    }

    async fn decide(&self, known: &Known, workers: &[Worker], placed: &[Placed]) -> Result<Placing> {
        let mut claimed = self.elsewhere.claimed();
        let of = |p: &Placed| VersionName { model: p.model.clone(), version: p.version };
        if self.began.elapsed() < DIALLED_AGAIN_WITHIN {
            // What runs goes on until this server knows what it wants.
            claimed.extend(placed.iter().map(|p| (of(p), p.number)));
        }
        let mut needed = BTreeMap::new();
        let versions = claimed.iter().map(|(of, _)| of.clone()).chain(placed.iter().map(of));
        for of in versions.collect::<BTreeSet<_>>() {
            match self.needed(known, &of).await {
                Ok(needs) => drop(needed.insert(of, needs)),
                // It was deleted under its slot, which is about to go.
                Err(error) if matches!(error.code(), Code::ModelNotFound | Code::VersionNotFound) => {}
                Err(error) => return Err(error),
            }
        }
        let there: BTreeMap<&str, &WorkerSlot> = workers
            .iter()
            .flat_map(|worker| &worker.report.slots)
            .map(|slot| (slot.id.as_str(), slot))
            .collect();
        let standing: Vec<_> = placed
            .iter()
            .map(|p| standing(p, needed.get(&of(p)), there.get(p.id.as_str()).copied()))
            .collect();
        let wish = |(of, number): (VersionName, u64)| {
            let needed = needed.get(&of)?;
            let now = placed
                .iter()
                .find(|p| (&p.model, p.version, p.number) == (&of.model, of.version, number) && !p.leaving);
            let (memory, labels) = (needed.memory, needed.labels.clone());
            let cores = match known.needs.get(&of.model) {
                Some(needs) => needs.cores,
                // Of a model that is not deployed any more nobody says: its slots go on with what they have.
                None => now.and_then(|now| now.cores),
            };
            Some(Wish { model: of.model, version: of.version, number, memory, cores, labels })
        };
        let wishes: Vec<_> = claimed.into_iter().filter_map(wish).collect();
        let hosts: Vec<_> = workers.iter().map(host).collect();
        let plan = place(&hosts, &wishes, &standing);
        let mut placing =
            Placing { leave: plan.leave, say: plan.say, remove: plan.remove, ..Placing::default() };
        for (wish, worker, why) in plan.add {
            placing.add.push(added(wish, worker, why)?);
        }
        self.let_go(placed, &mut placing);
        Ok(placing)
    }

    /// Those from which others have taken over go.
    fn let_go(&self, placed: &[Placed], placing: &mut Placing) {
        for old in placed.iter().filter(|p| p.leaving) {
            let same = |p: &&Placed| (&p.model, p.version, p.number) == (&old.model, old.version, old.number);
            let next = placed.iter().filter(same).find(|p| !p.leaving);
            let ready = next.and_then(|next| self.elsewhere.ready_for(&next.id));
            if ready.is_some_and(|time| READY_FOR <= time) && !placing.remove.contains(&old.id) {
                placing.remove.push(old.id.clone());
            }
        }
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

    async fn needed(&self, known: &Known, of: &VersionName) -> Result<Needed> {
        let version = self.registry.version(&of.model, of.version).await?;
        let about = About { bytes: version.size_bytes, task: version.task };
        let asked = known.needs.get(&of.model).and_then(|needs| needs.memory_bytes);
        let memory = reckon(about.expected(known.kv_bytes), self.seen.of(of), about.grows(), asked);
        let label = |(tag, value): (String, String)| Some((tag.strip_prefix(LABEL_TAG)?.to_owned(), value));
        let labels = version.tags.into_iter().filter_map(label).collect();
        Ok(Needed { memory, labels })
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
                cores: placed.cores,
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
        // A worker whose system does not tell says nothing.
        free_bytes: Some(worker.report.memory_free_bytes).filter(|free| *free != 0),
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

/// A slot in its place, with what is known of it by now: of one that is ready, what a slot of its version is reckoned with
/// today; of one that still loads, what it was reckoned with when it was placed.
fn standing(placed: &Placed, needed: Option<&Needed>, there: Option<&WorkerSlot>) -> Standing {
    let resident_bytes = there.and_then(|slot| slot.resident_bytes);
    let is_ready = there.is_some_and(|slot| slot.state == SlotState::Ready) && resident_bytes.is_some();
    let reckoned = match needed {
        Some(needed) if is_ready => needed.memory.bytes,
        _ => placed.memory_bytes,
    };
    let resident_bytes = resident_bytes.unwrap_or(0);
    Standing {
        id: placed.id.clone(),
        model: placed.model.clone(),
        version: placed.version,
        number: placed.number,
        host: placed.worker.clone(),
        memory_bytes: reckoned.max(resident_bytes),
        resident_bytes,
        cores: placed.cores,
        leaving: placed.leaving,
        why: placed.why.clone(),
    }
}

fn added(wish: Wish, worker: Option<String>, why: String) -> Result<Placed> {
    let why = match worker {
        Some(_) => wish.memory.by.describe().to_owned(),
        None => why,
    };
    Ok(Placed {
        id: fresh_secret()?[..20].to_owned(),
        model: wish.model,
        version: wish.version,
        number: wish.number,
        worker,
        memory_bytes: wish.memory.bytes,
        cores: wish.cores,
        leaving: false,
        why,
        made_ms: 0,
    })
}
