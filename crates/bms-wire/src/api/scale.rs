//! How many slots a deployment has, and when it gets more or fewer.

use serde::{Deserialize, Serialize};

use crate::{Code, Error, Result, limits};

/// How many slots the served version has on each server. More than `min_slots` as the load asks for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scale {
    /// Slots at least; with 0 the last one goes when nobody asks for a while, and the next request starts one.
    pub min_slots: u32,
    /// Slots at most.
    pub max_slots: u32,
    /// Seconds without a request after which the last slot goes, when `min_slots` is 0.
    pub idle_seconds: u64,
    /// Requests one slot shall have at a time, waiting ones included.
    pub target_concurrency: f64,
    /// Milliseconds a request may wait before it is worked on; 0 for no such target.
    pub target_queue_ms: u64,
    /// Tokens one slot of a language model shall read and write in a second; 0 for no such target.
    pub target_tokens: f64,
}

impl Default for Scale {
    fn default() -> Self {
        Scale {
            min_slots: 1,
            max_slots: 1,
            idle_seconds: 600,
            target_concurrency: 8.0,
            target_queue_ms: 0,
            target_tokens: 0.0,
        }
    }
}

impl Scale {
    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] with the value at fault.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: String, hint: &str| Err(Error::new(Code::InvalidRequest, what).hint(hint));
        if self.max_slots == 0 || limits::SLOTS_MAX < self.max_slots {
            let hint = format!("A version has 1 to {} slots at most.", limits::SLOTS_MAX);
            return wrong(format!("{} slots at most", self.max_slots), &hint);
        }
        if self.max_slots < self.min_slots {
            let what = format!("{} slots at least and {} at most", self.min_slots, self.max_slots);
            return wrong(what, "Raise max_slots as well.");
        }
        if self.idle_seconds == 0 || limits::IDLE_SECONDS_MAX < self.idle_seconds {
            let hint = format!("Say 1 to {} seconds.", limits::IDLE_SECONDS_MAX);
            return wrong(format!("{} seconds without a request", self.idle_seconds), &hint);
        }
        if !(0.01..=1e6).contains(&self.target_concurrency) {
            return wrong(
                format!("{} requests a slot at a time", self.target_concurrency),
                "Say 0.01 to 1000000.",
            );
        }
        if limits::LANGUAGE_DEADLINE_MS < self.target_queue_ms {
            return wrong(
                format!("{} ms of waiting", self.target_queue_ms),
                "No request may take that long.",
            );
        }
        if !(0.0..=1e9).contains(&self.target_tokens) {
            return wrong(format!("{} tokens a second", self.target_tokens), "Say a number above zero.");
        }
        Ok(())
    }
}

/// What changes of a [`Scale`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChangeScale {
    /// See [`Scale::min_slots`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_slots: Option<u32>,
    /// See [`Scale::max_slots`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_slots: Option<u32>,
    /// See [`Scale::idle_seconds`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_seconds: Option<u64>,
    /// See [`Scale::target_concurrency`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_concurrency: Option<f64>,
    /// See [`Scale::target_queue_ms`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_queue_ms: Option<u64>,
    /// See [`Scale::target_tokens`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_tokens: Option<f64>,
}

impl ChangeScale {
    /// What `scale` becomes.
    pub fn of(&self, scale: Scale) -> Scale {
        Scale {
            min_slots: self.min_slots.unwrap_or(scale.min_slots),
            max_slots: self.max_slots.unwrap_or(scale.max_slots),
            idle_seconds: self.idle_seconds.unwrap_or(scale.idle_seconds),
            target_concurrency: self.target_concurrency.unwrap_or(scale.target_concurrency),
            target_queue_ms: self.target_queue_ms.unwrap_or(scale.target_queue_ms),
            target_tokens: self.target_tokens.unwrap_or(scale.target_tokens),
        }
    }
}

/// `GET /api/v1/memory`: what the slots of one server may use together, and do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Bytes all slots may take; absent when nothing bounds them.
    pub budget_bytes: Option<u64>,
    /// Bytes that are spoken for: of slots that answer the most that one of their version took, of slots that start what
    /// they are expected to take.
    pub used_bytes: u64,
}
