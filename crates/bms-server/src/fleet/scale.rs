//! Giving each version the slots it shall have, within the memory there is.
//!
//! Every server does so for its own slots, from its own load: several servers on one database do not talk to each other
//! about it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bms_wire::api::{self, SlotState};

use super::memory::no_room;
use super::{Fleet, Pool, State, readings};
use crate::autoscale::simulation::LOOK_SECONDS;
use crate::event::{Event, NoRoom, SlotsChanged};
use crate::slots::Slot;

/// How long a version must have been idle to go for a further slot of one that has some.
const IDLE_FOR_MORE: Duration = Duration::from_secs(60);

impl Fleet {
    /// Looks at all versions again and again, for ever; to be dropped when the server stops.
    pub(crate) async fn scale_for_ever(self: Arc<Self>) {
        let mut reading = tokio::task::JoinSet::new();
        loop {
            self.scale();
            if reading.is_empty() {
                for pool in self.pools() {
                    reading.spawn(readings::read(pool));
                }
            }
            while reading.try_join_next().is_some() {}
            let pause = Duration::from_secs_f64(LOOK_SECONDS);
            // Woken or not, the next look is at everything.
            let _ = tokio::time::timeout(pause, self.wake.notified()).await;
        }
    }

    fn pools(&self) -> Vec<Arc<Pool>> {
        self.state().pools.clone()
    }

    /// Starts slots that are wanted and unloads those that are not. Does not wait for anything.
    pub(super) fn scale(self: &Arc<Self>) {
        let mut state = self.state();
        if self.closing.load(Ordering::SeqCst) {
            return;
        }
        let mut pools = state.pools.clone();
        for pool in &pools {
            self.measure(pool);
            let (before, wanted) = pool.look();
            if before != wanted {
                SlotsChanged { of: pool.of(), from: before, to: wanted, load: pool.load() }
                    .emit(&self.launcher.metrics);
            }
            for slot in surplus(pool, wanted) {
                pool.take_out(&slot);
                self.retire(&mut state, slot);
            }
        }
        // Those that have nothing, and are asked, go first.
        pools.sort_by_key(|pool| (pool.slots().len(), pool.load().waiting() == 0));
        for pool in &pools {
            self.grow(&mut state, pool);
        }
    }

    /// Looks at what the slots of a version take, and warms up those that came later.
    fn measure(&self, pool: &Pool) {
        let ready = pool.ready();
        let most = ready.iter().filter_map(|slot| slot.resident_bytes()).max();
        if let Some(most) = most {
            pool.note_need(most);
        }
        if 1 < ready.len() {
            for slot in ready.iter().filter(|slot| !slot.is_warmed()) {
                self.warmth.of(slot, &self.launcher);
            }
        }
    }

    /// Starts what is wanted and has room.
    fn grow(self: &Arc<Self>, state: &mut State, pool: &Arc<Pool>) {
        loop {
            let slots = pool.slots().len();
            // The first one alone: it shows whether the version can be loaded, and what it takes.
            if pool.wanted() <= slots || (slots != 0 && !pool.is_tried()) {
                pool.note_room();
                return;
            }
            match self.room(state, pool) {
                Room::Is => {
                    pool.note_room();
                    pool.start(&self.launcher);
                }
                // Who goes says so when it has gone.
                Room::Comes => return,
                Room::IsNot { need, used, budget } => {
                    let error = no_room(&pool.of().to_string(), need, used, budget);
                    if pool.note_lack(&error) {
                        NoRoom { of: pool.of(), why: &error }.emit(&self.launcher.metrics);
                    }
                    return;
                }
            }
        }
    }

    /// Whether there is memory for one more slot of a version. Has an idle one of another go when there is not.
    fn room(self: &Arc<Self>, state: &mut State, pool: &Arc<Pool>) -> Room {
        let Some(budget) = self.budget else { return Room::Is };
        let need = pool.need();
        let (used, leaving) = (state.used(), state.leaving());
        if used.saturating_add(need) <= budget {
            return Room::Is;
        }
        if used.saturating_sub(leaving).saturating_add(need) <= budget {
            return Room::Comes;
        }
        let idle_for = if pool.slots().is_empty() { Duration::ZERO } else { IDLE_FOR_MORE };
        let mut idle: Vec<Arc<Pool>> =
            state.pools.iter().filter(|other| other.may_sleep(idle_for)).cloned().collect();
        idle.retain(|other| !Arc::ptr_eq(other, pool));
        let reclaimable: u64 = idle.iter().map(|other| other.used()).sum();
        if budget < used.saturating_sub(leaving + reclaimable).saturating_add(need) {
            return Room::IsNot { need, used, budget };
        }
        // The least recently used first, as many as it takes.
        idle.sort_by_key(|other| std::cmp::Reverse(other.load().idle_for()));
        let mut left = used - leaving;
        for other in idle {
            if left.saturating_add(need) <= budget {
                break;
            }
            left = left.saturating_sub(other.used());
            SlotsChanged { of: other.of(), from: other.slots().len(), to: 0, load: other.load() }
                .emit(&self.launcher.metrics);
            for slot in other.put_to_sleep() {
                self.retire(state, slot);
            }
        }
        Room::Comes
    }

    /// What the slots may take together, and do.
    pub(crate) fn memory(&self) -> api::Memory {
        api::Memory { budget_bytes: self.budget, used_bytes: self.state().used() }
    }
}

/// Whether there is memory for one more slot.
enum Room {
    Is,
    /// Once slots that are going have gone.
    Comes,
    IsNot {
        need: u64,
        used: u64,
        budget: u64,
    },
}

impl State {
    /// Bytes that are spoken for.
    fn used(&self) -> u64 {
        self.pools.iter().map(|pool| pool.used()).sum::<u64>() + self.leaving()
    }

    /// Of these, what goes soon.
    fn leaving(&self) -> u64 {
        self.leaving.iter().filter_map(|slot| slot.resident_bytes()).sum()
    }
}

/// The slots a version has beyond those wanted: those that are not ready first, then those with the least to do.
fn surplus(pool: &Pool, wanted: usize) -> Vec<Arc<Slot>> {
    // What was refused stays: it is what says why nothing serves.
    let is_refused = |slot: &Arc<Slot>| slot.state() == SlotState::Refused;
    let mut slots: Vec<Arc<Slot>> = pool.slots().iter().filter(|slot| !is_refused(slot)).cloned().collect();
    slots.sort_by_key(|slot| {
        (slot.state() == SlotState::Ready, slot.leases(), std::cmp::Reverse(slot.number()))
    });
    slots.truncate(slots.len().saturating_sub(wanted));
    slots
}
