//! Looks at the weights while the engine works: a few blocks between two steps, more of them when nothing is to do,
//! within a share of the time.
//!
//! The engine's thread owns the decoder, so nobody else reads or writes a weight meanwhile. What is damaged is put back
//! at once, before the next step, and what was computed since it was last seen intact is forgotten: prefixes are dropped,
//! and running answers compute the keys and values of their tokens again. Tokens that went out stay as they are.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use bms_nn::lm::{Damage, Decoder, WeightGuard};
use bms_wire::{Code, Error, Result};

use crate::lm::core::Core;

/// Most time that is saved up: so long an audit takes at most while nobody waits, and an answer is never held up longer.
const CREDIT_MAX: f64 = 0.010;
/// The largest share of the time that can be asked for.
pub const AUDIT_SHARE_MAX: f64 = 0.5;

/// Where an engine gets weights from when those in memory are damaged, and whom it tells.
pub trait WeightSource: Send {
    /// Makes bytes of a weight again; weights are numbered as [`Decoder::weights_mut`] gives them.
    ///
    /// # Errors
    /// Any; the engine ends with it.
    fn part(&mut self, weight: usize, bytes: &Range<usize>) -> Result<Vec<u8>>;

    /// Hears of damage that was repaired.
    fn repaired(&mut self, repair: &Repair);

    /// Hears that damage cannot be repaired. The engine has failed all requests and takes none any more: it is to be
    /// replaced by one that loads the model anew.
    fn lost(&mut self, error: Error);
}

/// Damage that was repaired.
#[derive(Clone, Debug, PartialEq)]
pub struct Repair {
    /// The weight.
    pub weight: usize,
    /// The bytes that were put back.
    pub bytes: Range<usize>,
    /// Bits in them that were wrong.
    pub bits: u64,
    /// From when the damage was found until the next step could be made.
    pub took: Duration,
}

/// How the weights of an engine are guarded.
pub struct Guarding {
    /// The share of the engine's time that looking takes, over zero and at most [`AUDIT_SHARE_MAX`].
    pub share: f64,
    /// Where weights come from.
    pub source: Box<dyn WeightSource>,
}

impl std::fmt::Debug for Guarding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guarding").field("share", &self.share).finish_non_exhaustive()
    }
}

/// The audit of one engine.
pub(crate) struct Audit {
    guard: WeightGuard,
    source: Box<dyn WeightSource>,
    share: f64,
    /// Seconds it may take now; less than none when the last block took longer.
    credit: f64,
    /// When credit was last given.
    since: Instant,
    pass_began: Instant,
}

impl Audit {
    /// For a decoder that shows its weights.
    ///
    /// # Errors
    /// [`Code::InvalidInput`] for a share that is none; [`Code::UnsupportedModel`] when the decoder shows no weights.
    pub(crate) fn new(decoder: &mut dyn Decoder, guarding: Guarding, now: Instant) -> Result<Audit> {
        let Guarding { share, source } = guarding;
        if !(0.0 < share && share <= AUDIT_SHARE_MAX) {
            let what =
                format!("the share of the audit is {share}; it is over 0 and at most {AUDIT_SHARE_MAX}");
            return Err(Error::new(Code::InvalidInput, what));
        }
        let guard = WeightGuard::new(&decoder.weights_mut())
            .ok_or_else(|| Error::new(Code::UnsupportedModel, "this model shows no weights to guard"))?;
        Ok(Audit { guard, source, share, credit: 0.0, since: now, pass_began: now })
    }

    fn earn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since).as_secs_f64();
        self.credit = (self.credit + passed * self.share).min(CREDIT_MAX);
        self.since = now;
    }

    /// Whether the next block may be looked at. Recording does not wait for credit when there is nothing else to do: the
    /// sooner it is done, the fewer flips are taken for what was loaded.
    fn may(&self, idle: bool) -> bool {
        0.0 < self.credit || (idle && !self.guard.is_recorded())
    }
}

impl Core {
    /// How long the engine may sleep when it has nothing to do; `None` for as long as nobody asks.
    pub(crate) fn audit_pause(&self) -> Option<Duration> {
        let audit = self.audit.as_ref()?;
        if !audit.guard.is_recorded() {
            return Some(Duration::ZERO);
        }
        // Few long looks: a processor that is woken seldom sleeps deeply.
        Some(Duration::from_secs_f64(((CREDIT_MAX - audit.credit) / audit.share).clamp(0.001, 60.0)))
    }

    /// Looks at as many blocks as the share of the time allows, until somebody waits or a pass has ended, and repairs
    /// what is damaged.
    ///
    /// # Errors
    /// When something cannot be repaired: the decoder computes wrong answers then.
    pub(crate) fn audit(&mut self, awaited: &dyn Fn() -> bool) -> Result<()> {
        let idle = self.is_idle();
        let Some(audit) = &mut self.audit else { return Ok(()) };
        let mut now = (self.clock)();
        audit.earn(now);
        if !audit.may(idle) {
            return Ok(());
        }
        let weights = self.decoder.weights_mut();
        let mut damage = None;
        while damage.is_none() && audit.may(idle) {
            let checked = audit.guard.check_next(&weights)?;
            let then = std::mem::replace(&mut now, (self.clock)());
            let took = now.saturating_duration_since(then).as_secs_f64();
            // Recording that nobody waited for is not owed.
            audit.credit = (audit.credit - took).max(-CREDIT_MAX);
            self.metrics.weights_audited_bytes += checked.bytes as u64;
            damage = checked.damage;
            if checked.pass_ended {
                self.metrics.weights_audit_passes += 1;
                self.metrics.weights_last_pass = now.saturating_duration_since(audit.pass_began);
                audit.pass_began = now;
            }
            if checked.pass_ended || (idle && awaited()) {
                break;
            }
        }
        audit.since = now;
        damage.map_or(Ok(()), |damage| self.repair(&damage, now))
    }

    /// Tells the source that the engine ends.
    pub(crate) fn audit_lost(&mut self, error: Error) {
        if let Some(audit) = &mut self.audit {
            // Whoever hears it must not keep the thread from its end.
            let _ = catch_unwind(AssertUnwindSafe(|| audit.source.lost(error)));
        }
    }

    fn repair(&mut self, damage: &Damage, found: Instant) -> Result<()> {
        self.metrics.weights_faults += 1;
        let Some(audit) = &mut self.audit else { return Ok(()) };
        let source = &mut audit.source;
        let part = catch_unwind(AssertUnwindSafe(|| source.part(damage.weight, &damage.bytes)));
        let failed = || Error::new(Code::Internal, "a damaged weight could not be made again");
        let part = part.unwrap_or_else(|_| Err(failed()))?;
        let bits = audit.guard.repair(&mut self.decoder.weights_mut(), damage, &part)?;
        self.forget_computed();
        self.metrics.weights_repaired += 1;
        let took = (self.clock)().saturating_duration_since(found);
        let repair = Repair { weight: damage.weight, bytes: damage.bytes.clone(), bits, took };
        if let Some(audit) = &mut self.audit {
            let source = &mut audit.source;
            // A listener's fault is not the engine's.
            let _ = catch_unwind(AssertUnwindSafe(|| source.repaired(&repair)));
            // The repair is not time to be made up for.
            audit.since = (self.clock)();
        }
        Ok(())
    }

    /// Forgets all keys, values and hidden states: some may have been computed with a damaged weight. Answers and
    /// embeddings go on, from their tokens.
    fn forget_computed(&mut self) {
        for rank in self.running.keys().copied().collect::<Vec<_>>() {
            self.park(rank);
        }
        for embedding in &mut self.embeddings {
            embedding.begin_again(&mut self.cache);
        }
        self.cache.forget_all();
    }
}
