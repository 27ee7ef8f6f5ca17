//! Which slot goes to which worker: a function of what there is and what is wanted, without clock and chance.
//!
//! A slot stays where it is as long as it can, whatever it takes by now: figures decide where a slot goes, never that one
//! leaves. One that has to go somewhere takes, of the workers with its labels and with room for it, the one with the fewest
//! slots of the same version, then the one on which the least memory remains, then the first by name. What fits on no worker
//! stays at the centre, with the reason, and goes to a worker once it fits. A version that a worker refuses is nothing for
//! that worker, until it says otherwise.
//!
//! Room is what a worker's slots may use, less what those on it are reckoned with; and no more than its machine has free,
//! which others use as well. What a slot takes already is missing from that; the rest of what it is reckoned with comes, and
//! is kept for it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::reckon::{Basis, Reckoned};

/// Workers that are named in a reason.
const WHY_WORKERS_MAX: usize = 20;

/// A worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) name: String,
    /// Bytes its slots may use.
    pub(crate) memory_bytes: u64,
    /// Bytes its machine had free when it last said so, if that is known.
    pub(crate) free_bytes: Option<u64>,
    /// Processors its slots may use.
    pub(crate) cores: u64,
    pub(crate) labels: BTreeMap<String, String>,
    /// It is heard.
    pub(crate) alive: bool,
    /// It takes slots.
    pub(crate) open: bool,
    /// Versions that it does not load, and why.
    pub(crate) refuses: BTreeMap<(String, u64), String>,
}

impl Host {
    /// Why it does not load this version, when it does not.
    pub(crate) fn refusal(&self, model: &str, version: u64) -> Option<&str> {
        self.refuses.get(&(model.to_owned(), version)).map(String::as_str)
    }
}

/// A slot that shall be somewhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Wish {
    pub(crate) model: String,
    pub(crate) version: u64,
    pub(crate) number: u64,
    pub(crate) memory: Reckoned,
    /// Processors that are asked for it; it counts as one when none are.
    pub(crate) cores: Option<u64>,
    /// Labels its worker must have.
    pub(crate) labels: BTreeMap<String, String>,
}

/// A slot that is somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) id: String,
    pub(crate) model: String,
    pub(crate) version: u64,
    pub(crate) number: u64,
    /// The worker; none at the centre.
    pub(crate) host: Option<String>,
    /// Bytes it is reckoned with.
    pub(crate) memory_bytes: u64,
    /// Of these, what it takes already, as far as known.
    pub(crate) resident_bytes: u64,
    /// Processors that were asked for it.
    pub(crate) cores: Option<u64>,
    /// Another takes over.
    pub(crate) leaving: bool,
    /// Why it is at the centre, as last said.
    pub(crate) why: String,
}

/// What has to change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Slots that go to a worker, or to the centre with the reason.
    pub(crate) add: Vec<(Wish, Option<String>, String)>,
    /// From these others take over; by name.
    pub(crate) leave: Vec<String>,
    /// What is to be said of why these are at the centre, by name.
    pub(crate) say: Vec<(String, String)>,
    /// These are lost, refused where they are, or wanted no more.
    pub(crate) remove: Vec<String>,
}

/// What is taken of a worker.
#[derive(Clone, Copy, Default)]
struct Taken {
    memory_bytes: u64,
    /// Of these, what is still to come.
    coming_bytes: u64,
    cores: u64,
}

impl Taken {
    fn of(memory_bytes: u64, resident_bytes: u64, cores: Option<u64>) -> Self {
        let coming_bytes = memory_bytes.saturating_sub(resident_bytes);
        Taken { memory_bytes, coming_bytes, cores: counted(cores) }
    }
}

/// How many processors a slot counts as.
fn counted(cores: Option<u64>) -> u64 {
    cores.unwrap_or(1)
}

/// The state of the plan while it is made.
struct Planning<'a> {
    hosts: &'a [Host],
    taken: BTreeMap<&'a str, Taken>,
    /// Slots of each version on each worker.
    same: BTreeMap<(&'a str, u64, &'a str), u64>,
}

/// What has to change so that every wish is somewhere and has the processors that are asked for it, nothing is on a worker
/// that is gone or closed, and no worker gets more than it can hold. Of the same again, nothing has to change.
pub(crate) fn place(hosts: &[Host], wishes: &[Wish], standing: &[Standing]) -> Plan {
    let mut plan = Plan::default();
    let mut planning = Planning { hosts, taken: BTreeMap::new(), same: BTreeMap::new() };
    let host_of = |name: &str| hosts.iter().find(|host| host.name == name);
    let mut kept: BTreeMap<(&str, u64, u64), &Standing> = BTreeMap::new();
    for slot in standing {
        let key = (slot.model.as_str(), slot.version, slot.number);
        let wish = wishes.iter().find(|w| (w.model.as_str(), w.version, w.number) == key);
        let is_lost = slot.host.as_deref().is_some_and(|h| host_of(h).is_none_or(|host| !host.alive));
        let host = slot.host.as_deref().and_then(host_of);
        let is_refused = host.is_some_and(|host| host.refusal(&slot.model, slot.version).is_some());
        let Some(wish) = wish.filter(|_| !is_lost && !is_refused) else {
            plan.remove.push(slot.id.clone());
            continue;
        };
        // One that is left counts until it has gone.
        if let Some(host) = slot.host.as_deref() {
            let taken = Taken::of(slot.memory_bytes, slot.resident_bytes, slot.cores);
            planning.take(host, &slot.model, slot.version, taken);
        }
        if slot.leaving {
            continue;
        }
        let is_closed = slot.host.as_deref().is_some_and(|h| host_of(h).is_some_and(|host| !host.open));
        if is_closed || slot.cores != wish.cores {
            plan.leave.push(slot.id.clone());
            continue;
        }
        match kept.entry(key) {
            Entry::Occupied(_) => plan.remove.push(slot.id.clone()),
            Entry::Vacant(place) => drop(place.insert(slot)),
        }
    }
    let mut wishes: Vec<&Wish> = wishes.iter().collect();
    // The large ones first: small ones find room where those do not.
    wishes.sort_by(|a, b| b.memory.bytes.cmp(&a.memory.bytes).then_with(|| a.cmp(b)));
    wishes.dedup();
    let mut at_centre = Vec::new();
    for wish in wishes {
        let now = kept.get(&(wish.model.as_str(), wish.version, wish.number));
        if now.is_some_and(|slot| slot.host.is_some()) {
            continue;
        }
        match (planning.best(wish), now) {
            (Ok(host), now) => {
                let taken = Taken::of(wish.memory.bytes, 0, wish.cores);
                planning.take(host, &wish.model, wish.version, taken);
                plan.leave.extend(now.map(|slot| slot.id.clone()));
                plan.add.push((wish.clone(), Some(host.to_owned()), String::new()));
            }
            (Err(_), now) => at_centre.push((wish, now)),
        }
    }
    // With all others where they go: that is how it stays.
    for (wish, now) in at_centre {
        let why = planning.best(wish).err().unwrap_or_default();
        match now {
            // Figures for memory change all the time; what they come to does not.
            Some(slot) if kind(&why) == kind(&slot.why) => {}
            Some(slot) => plan.say.push((slot.id.clone(), why)),
            None => plan.add.push((wish.clone(), None, why)),
        }
    }
    plan
}

/// A reason without its figures for memory.
fn kind(why: &str) -> Vec<&str> {
    let is_figure = |word: &str| word.bytes().all(|c| c.is_ascii_digit());
    let mut words = Vec::new();
    for of_worker in why.split("; ") {
        let is_of_memory = of_worker.contains(" MiB ");
        words.extend(of_worker.split(' ').filter(|word| !(is_of_memory && is_figure(word))));
    }
    words
}

impl<'a> Planning<'a> {
    fn take(&mut self, host: &'a str, model: &'a str, version: u64, more: Taken) {
        let taken = self.taken.entry(host).or_default();
        taken.memory_bytes = taken.memory_bytes.saturating_add(more.memory_bytes);
        taken.coming_bytes = taken.coming_bytes.saturating_add(more.coming_bytes);
        taken.cores = taken.cores.saturating_add(more.cores);
        *self.same.entry((model, version, host)).or_default() += 1;
    }

    /// The best worker for it, or why there is none.
    fn best(&self, wish: &Wish) -> Result<&'a str, String> {
        let mut why = Vec::new();
        let mut best: Option<((u64, u64, &str), &'a str)> = None;
        for host in self.hosts.iter().filter(|host| host.alive) {
            match self.room(host, wish) {
                Err(reason) => why.push(format!("{}: {reason}", host.name)),
                Ok(remains) => {
                    let same = self.same.get(&(wish.model.as_str(), wish.version, host.name.as_str()));
                    let rank = (same.copied().unwrap_or_default(), remains, host.name.as_str());
                    if best.is_none_or(|(least, _)| rank < least) {
                        best = Some((rank, &host.name));
                    }
                }
            }
        }
        best.map(|(_, host)| host).ok_or_else(|| {
            let others = why.len().saturating_sub(WHY_WORKERS_MAX);
            why.truncate(WHY_WORKERS_MAX);
            match others {
                _ if why.is_empty() => "no worker is there".to_owned(),
                0 => format!("no worker takes it: {}", why.join("; ")),
                others => format!("no worker takes it: {}; and {others} others", why.join("; ")),
            }
        })
    }

    /// The memory that remains for the worker's slots with this one on it, or which figure leaves no room for it.
    fn room(&self, host: &Host, wish: &Wish) -> Result<u64, String> {
        if !host.open {
            return Err("it takes no slots".to_owned());
        }
        if let Some(why) = host.refusal(&wish.model, wish.version) {
            return Err(format!("it refuses the version: {why}"));
        }
        if let Some((name, value)) =
            wish.labels.iter().find(|(name, value)| host.labels.get(*name) != Some(value))
        {
            return Err(format!("it has no label {name}={value}"));
        }
        let taken = self.taken.get(host.name.as_str()).copied().unwrap_or_default();
        let (memory, cores) =
            (host.memory_bytes.saturating_sub(taken.memory_bytes), host.cores.saturating_sub(taken.cores));
        let wanted = wish.memory.bytes;
        let and_why = match wish.memory.by {
            Basis::Files => String::new(),
            by => format!(", {}", by.describe()),
        };
        if memory < wanted {
            return Err(format!(
                "{} MiB of memory are free, {} wanted{and_why}",
                memory >> 20,
                wanted.div_ceil(1 << 20)
            ));
        }
        let free = host.free_bytes.map(|free| free.saturating_sub(taken.coming_bytes));
        if let Some(free) = free.filter(|free| *free < wanted) {
            return Err(format!(
                "{} MiB of its machine's memory are free, {} wanted{and_why}",
                free >> 20,
                wanted.div_ceil(1 << 20)
            ));
        }
        let wanted_cores = counted(wish.cores);
        if cores < wanted_cores {
            return Err(format!("{cores} of its cores are free, {wanted_cores} wanted"));
        }
        Ok(memory - wanted)
    }
}

#[cfg(test)]
mod tests;
