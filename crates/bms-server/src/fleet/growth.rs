//! What a pool is asked and told about the number of its slots and the memory they take.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use bms_wire::api::{Scale, SlotNeeds, SlotState};
use bms_wire::{Code, Error};
use tokio::time::Instant;

use super::pool::Pool;
use super::readings::{self, Counts};
use super::scaling::Scaling;
use crate::slots::Slot;

/// How long a request that found no room should wait before it comes again.
const ROOM_PAUSE: Duration = Duration::from_secs(5);

impl Pool {
    pub(super) fn scaling(&self) -> MutexGuard<'_, Scaling> {
        self.scaling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many slots it may have.
    pub(crate) fn scale(&self) -> Scale {
        self.scaling().scale
    }

    /// Takes over what its deployment says.
    pub(super) fn set_scale(&self, scale: Scale, needs: &SlotNeeds) {
        let mut scaling = self.scaling();
        scaling.scale = scale;
        scaling.asked = needs.memory_bytes.unwrap_or(0);
    }

    /// Knows of its version what another pool of it has found out.
    pub(super) fn learn_from(&self, other: &Pool) {
        let need = other.scaling().need;
        self.scaling().need = need;
        self.note_task(other.task());
    }

    /// The most that one of its slots on this machine took.
    pub(super) fn seen(&self) -> Option<u64> {
        let scaling = self.scaling();
        scaling.is_measured.then_some(scaling.need)
    }

    /// How many slots are wanted.
    pub(crate) fn wanted(&self) -> usize {
        self.scaling().wanted()
    }

    /// Has at least so many wanted.
    pub(super) fn raise_to(&self, slots: usize) {
        self.scaling().raise_to(slots);
    }

    /// Has the law look. How many slots were wanted before, and are now.
    pub(super) fn look(&self) -> (usize, usize) {
        let ready = self.ready();
        let start = ready.iter().map(|slot| slot.started_in()).max().unwrap_or_default();
        let mut scaling = self.scaling();
        let before = scaling.wanted();
        (before, scaling.look(self.load(), ready.len(), start))
    }

    /// Bytes one more slot is expected to take, or those that its operator keeps for it.
    pub(super) fn need(&self) -> u64 {
        let scaling = self.scaling();
        scaling.need.max(scaling.asked)
    }

    /// What a slot takes is known.
    pub(super) fn is_measured(&self) -> bool {
        self.scaling().is_measured
    }

    /// That it can be loaded has been shown by a slot, and what it takes where that can be seen: of a slot on a worker it
    /// cannot.
    pub(super) fn is_tried(&self) -> bool {
        self.is_measured() || self.ready().iter().any(|slot| slot.resident_bytes().is_none())
    }

    /// One of its slots takes so much.
    pub(super) fn note_need(&self, bytes: u64) {
        let mut scaling = self.scaling();
        scaling.need = if scaling.is_measured { scaling.need.max(bytes) } else { bytes };
        scaling.is_measured = true;
    }

    /// Bytes that are spoken for by its slots. Those that were refused take nothing.
    pub(super) fn used(&self) -> u64 {
        let need = self.need();
        let slots = self.slots().clone();
        let takes = slots.iter().filter(|slot| slot.state() != SlotState::Refused);
        takes.map(|slot| slot.resident_bytes().unwrap_or(0).max(need)).sum()
    }

    /// Notes that there is no memory for a slot that is wanted; whether that is news.
    pub(super) fn note_lack(&self, why: &Error) -> bool {
        let mut scaling = self.scaling();
        let is_news = scaling.lack.is_none();
        let hint = why.body().hint.unwrap_or_default();
        scaling.lack = Some((Instant::now(), format!("{}. {hint}", why.message())));
        drop(scaling);
        // Who waits for it is told.
        self.turn();
        is_news
    }

    /// Notes that nothing is lacking.
    pub(super) fn note_room(&self) {
        self.scaling().lack = None;
    }

    /// Whether memory is lacking.
    pub(super) fn lacks(&self) -> bool {
        self.scaling().lack.is_some()
    }

    /// What a request that came at `began` is told when no slot can be started for it.
    pub(super) fn why_no_room(&self, began: Instant) -> Option<Error> {
        if !self.slots().is_empty() {
            return None;
        }
        let scaling = self.scaling();
        // What was so before it came may have changed: it is looked again.
        let (_, why) = scaling.lack.as_ref().filter(|(at, _)| began <= *at)?;
        Some(Error::new(Code::Unavailable, why.clone()).retry_after(ROOM_PAUSE))
    }

    /// Whether its slots may go for others: nobody has asked for so long, and nobody wants it kept.
    pub(super) fn may_sleep(&self, idle_for: Duration) -> bool {
        let is_idle = self.load().waiting() + self.load().in_flight() == 0;
        let slots = self.slots().clone();
        let is_ready = |slot: &Arc<Slot>| slot.state() == SlotState::Ready;
        self.scale().min_slots == 0
            && !self.is_kept.load(Ordering::Relaxed)
            && is_idle
            && idle_for <= self.load().idle_for()
            && !slots.is_empty()
            && slots.iter().all(is_ready)
    }

    /// Has no slots any more until somebody asks. Gives those there were.
    pub(super) fn put_to_sleep(&self) -> Vec<Arc<Slot>> {
        self.scaling().put_to_sleep();
        let slots = std::mem::take(&mut *self.slots.write().unwrap_or_else(PoisonError::into_inner));
        self.turn();
        slots
    }

    /// Takes over what its engines have counted by now.
    pub(super) fn note_counts(&self, counts: Counts) {
        let mut last = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = &*last {
            self.scaling().engines = readings::between(before, &counts);
        }
        *last = Some(counts);
    }

    /// Whether it is where a model's requests could go now without less room for them than `other` has: what was to start
    /// has started, or cannot.
    pub(super) fn is_match_for(&self, other: &Pool) -> bool {
        let enough = self.wanted().min(other.ready().len());
        let slots = self.slots().clone();
        let comes = |slot: &Arc<Slot>| {
            matches!(slot.state(), SlotState::Starting | SlotState::Restarting) && slot.why_broken().is_none()
        };
        self.is_ready()
            && (enough <= self.ready().len()
                || self.lacks()
                || (enough <= slots.len() && !slots.iter().any(comes)))
    }
}
