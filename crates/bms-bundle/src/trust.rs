//! Who may do what: keys with their publishers, rights and times; revocations, rotations, and orders.

mod order;
mod rotation;
pub(crate) mod time;

use bms_wire::{Code, Error, Result};
use serde::{Deserialize, Serialize};

pub use order::{Action, Order};
pub use rotation::Rotation;

use crate::{Format, Manifest, PublicKey, glob};

/// What a key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    /// Sign bundles, and the envelopes of sealed ones.
    Publish,
    /// Approve bundles of others.
    Approve,
    /// Release what is in quarantine, or purge it.
    Release,
    /// Lease the keys of sealed models to edge nodes.
    Lease,
}

impl Right {
    /// Every right.
    pub const ALL: [Right; 4] = [Right::Publish, Right::Approve, Right::Release, Right::Lease];
}

/// A key on the allow-list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedKey {
    /// Who holds it.
    pub publisher: String,
    /// The key.
    pub key: PublicKey,
    /// Names of the models it may sign; `*` stands for any run of characters.
    pub models: Vec<String>,
    /// Formats it may publish; `None` for all the policy admits.
    pub formats: Option<Vec<Format>>,
    /// What it may be used for.
    pub may: Vec<Right>,
    /// Milliseconds since 1970 before which it signed nothing.
    pub not_before_ms: Option<i64>,
    /// Milliseconds since 1970 from which on it signs nothing.
    pub not_after_ms: Option<i64>,
}

/// A key that is not trusted any more, whatever the allow-list says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The key's id, see [`PublicKey::id`].
    pub key: String,
    /// Why.
    pub reason: String,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
}

/// How many others must approve which models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalRule {
    /// Names of models; `*` stands for any run of characters.
    pub models: Vec<String>,
    /// Publishers, other than the one that signed.
    pub required: usize,
}

impl TrustedKey {
    /// A key that may publish and approve these models, in every format, at any time.
    pub fn new(publisher: impl Into<String>, key: PublicKey, models: Vec<String>) -> TrustedKey {
        TrustedKey {
            publisher: publisher.into(),
            key,
            models,
            formats: None,
            may: vec![Right::Publish, Right::Approve],
            not_before_ms: None,
            not_after_ms: None,
        }
    }

    /// Whether it may do this for the model `name`.
    pub fn may(&self, right: Right, name: &str) -> bool {
        self.may.contains(&right) && self.models.iter().any(|model| glob::matches(model, name))
    }

    /// Whether it is trusted at this time.
    ///
    /// # Errors
    /// [`Code::KeyRevoked`].
    pub(crate) fn check_time(&self, at_ms: i64, what: &str) -> Result<()> {
        let refused = |why: &str, limit: i64| {
            let when = time::to_text(limit);
            let key = &self.key.id()[..16];
            Err(Error::new(
                Code::KeyRevoked,
                format!("{what} with key {key}…, which is trusted {why} {when}"),
            )
            .hint("Sign it with a key that is trusted now, or change the key's times in the policy."))
        };
        match (self.not_before_ms, self.not_after_ms) {
            (Some(limit), _) if at_ms < limit => refused("only from", limit),
            (_, Some(limit)) if limit <= at_ms => refused("only until", limit),
            _ => Ok(()),
        }
    }

    /// As [`TrustedKey::check_time`], for what was made when the manifest says.
    pub(crate) fn check_made(&self, manifest: &Manifest) -> Result<()> {
        self.check_time(manifest.created_ms, "the bundle was made and signed")
    }
}

impl Revocation {
    /// The refusal of what the key signed.
    pub(crate) fn refusal(&self) -> Error {
        let key = self.key.get(..16).unwrap_or(&self.key);
        let what =
            format!("the signer's key {key}… was revoked on {}: {}", time::to_text(self.at_ms), self.reason);
        Error::new(Code::KeyRevoked, what)
            .hint("Get the model from its publisher again, signed with a new key.")
    }
}

impl ApprovalRule {
    pub(crate) fn is_about(&self, name: &str) -> bool {
        self.models.iter().any(|model| glob::matches(model, name))
    }
}

#[cfg(test)]
mod tests;
