//! A key names its successor.

use bms_wire::{Code, Error, Result, limits};
use serde::{Deserialize, Serialize};

use super::TrustedKey;
use crate::seal::system_ms;
use crate::statement::{self, Statement};
use crate::{Policy, PublicKey, SigningKey};

const KIND: &str = "application/vnd.bms.key-rotation.v1+json";

/// The old key's statement that a new one takes its place. Nothing vouches for it until [`Policy::rotate`].
#[derive(Clone, Debug)]
pub struct Rotation {
    statement: Statement,
    body: Body,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    /// The new key, PEM.
    successor: String,
    /// Milliseconds since 1970.
    at_ms: i64,
}

impl Rotation {
    /// Has `old` say that `new` takes its place: the bytes of the statement's file.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when they are one key.
    pub fn write(old: &SigningKey, new: &PublicKey) -> Result<Vec<u8>> {
        if old.public() == new {
            return Err(Error::new(Code::InvalidRequest, "a key cannot succeed itself"));
        }
        statement::sign(KIND, &Body { successor: new.pem().to_owned(), at_ms: system_ms() }, old)
    }

    /// Parses a statement.
    ///
    /// # Errors
    /// [`Code::SignatureInvalid`].
    pub fn parse(bytes: &[u8]) -> Result<Rotation> {
        let statement = Statement::parse(KIND, bytes, limits::STATEMENT_BYTES_MAX)
            .map_err(|e| e.while_doing("read a key rotation"))?;
        let body = statement.body()?;
        Ok(Rotation { statement, body })
    }
}

impl Policy {
    /// Trusts the successor of a trusted key as that key was trusted, which itself is trusted for `overlap_ms` more.
    /// Returns the successor's entries.
    ///
    /// # Errors
    /// [`Code::SignerUntrusted`] when the old key is not trusted, [`Code::KeyRevoked`] when it was revoked or its time
    /// is over, [`Code::SignatureInvalid`]; [`Code::Conflict`] when the new key is trusted or revoked already.
    pub fn rotate(&mut self, rotation: &Rotation, overlap_ms: i64, now_ms: i64) -> Result<Vec<TrustedKey>> {
        let old = rotation.statement.key_id();
        if let Some(revocation) = self.revocation(old) {
            return Err(revocation.refusal());
        }
        let new = PublicKey::from_pem(&rotation.body.successor)?;
        let taken = self.trust.iter().any(|entry| entry.key == new) || self.revocation(new.id()).is_some();
        if taken {
            return Err(Error::new(Code::Conflict, format!("the key {} is known already", new.id())));
        }
        let mut added = Vec::new();
        for entry in self.trust.iter_mut().filter(|entry| entry.key.id() == old) {
            rotation.statement.verify(&entry.key)?;
            entry.check_time(now_ms, "the rotation is signed")?;
            added.push(TrustedKey {
                key: new.clone(),
                not_before_ms: None,
                not_after_ms: None,
                ..entry.clone()
            });
            let end = now_ms.saturating_add(overlap_ms.max(0));
            entry.not_after_ms = Some(entry.not_after_ms.map_or(end, |limit| limit.min(end)));
        }
        if added.is_empty() {
            return Err(Error::new(Code::SignerUntrusted, format!("the key {old} is not on the allow-list")));
        }
        self.trust.extend(added.iter().cloned());
        Ok(added)
    }
}
