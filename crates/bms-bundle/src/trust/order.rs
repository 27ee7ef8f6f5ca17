//! Signed orders about what is in quarantine.

use bms_wire::{Code, Error, Result, limits};
use serde::{Deserialize, Serialize};

use super::Right;
use crate::seal::system_ms;
use crate::statement::{self, Statement};
use crate::{Policy, Signer, SigningKey};

const KIND: &str = "application/vnd.bms.quarantine-order.v1+json";
/// How long an order is good: it cannot be kept and sent again later.
const GOOD_FOR_MS: i64 = 15 * 60 * 1000;
/// Characters of a reason.
const REASON_CHARS_MAX: usize = 1000;

/// What shall happen to something in quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Pass it through the gate again, and publish it if that admits it.
    Release,
    /// Delete its files.
    Purge,
}

/// A signed order. Nothing vouches for it until [`Policy::check_order`].
#[derive(Clone, Debug)]
pub struct Order {
    statement: Statement,
    body: Body,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    action: Action,
    /// The quarantine's id.
    quarantine: String,
    reason: String,
    at_ms: i64,
}

impl Order {
    /// Signs an order: its bytes.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] without a reason.
    pub fn write(action: Action, quarantine: &str, reason: &str, key: &SigningKey) -> Result<Vec<u8>> {
        let reason = reason.trim();
        if reason.is_empty() || REASON_CHARS_MAX < reason.chars().count() {
            return Err(Error::new(
                Code::InvalidRequest,
                format!("a reason of 1 to {REASON_CHARS_MAX} characters is needed"),
            ));
        }
        let (quarantine, reason) = (quarantine.to_owned(), reason.to_owned());
        statement::sign(KIND, &Body { action, quarantine, reason, at_ms: system_ms() }, key)
    }

    /// Parses an order.
    ///
    /// # Errors
    /// [`Code::SignatureInvalid`].
    pub fn parse(bytes: &[u8]) -> Result<Order> {
        let statement = Statement::parse(KIND, bytes, limits::STATEMENT_BYTES_MAX)
            .map_err(|e| e.while_doing("read an order"))?;
        let body = statement.body()?;
        Ok(Order { statement, body })
    }

    /// Why.
    pub fn reason(&self) -> &str {
        &self.body.reason
    }
}

impl Policy {
    /// Checks that somebody who may signed this order, just now, about this quarantine of this model, and says who.
    ///
    /// # Errors
    /// [`Code::PermissionDenied`], [`Code::KeyRevoked`] or [`Code::SignatureInvalid`].
    pub fn check_order(
        &self,
        order: &Order,
        (action, quarantine): (Action, &str),
        model: &str,
        now_ms: i64,
    ) -> Result<Signer> {
        let denied = |what: &str| Error::new(Code::PermissionDenied, format!("the order {what}"));
        let key = order.statement.key_id();
        if let Some(revocation) = self.revocation(key) {
            return Err(revocation.refusal());
        }
        let entry = self.trust.iter().find(|entry| entry.key.id() == key && entry.may(Right::Release, model));
        let entry = entry.ok_or_else(|| {
            denied("is signed by a key that may not release this model").hint(
                "Give the key the right `release` in the server's trust policy: `bms trust add --may release`.",
            )
        })?;
        order.statement.verify(&entry.key)?;
        entry.check_time(now_ms, "the order is signed")?;
        if order.body.action != action || order.body.quarantine != quarantine {
            return Err(denied("is about something else"));
        }
        if GOOD_FOR_MS < (now_ms - order.body.at_ms).abs() {
            return Err(denied("is too old, or from a clock that is wrong").hint("Give it again."));
        }
        Ok(Signer { publisher: entry.publisher.clone(), key_id: key.to_owned() })
    }
}
