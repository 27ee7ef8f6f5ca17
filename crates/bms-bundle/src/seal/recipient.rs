//! Those who may open a sealed bundle: its data key, wrapped for each of them.
//!
//! - A *key pair* on P-256: a fresh key pair agrees (ECDH) with the recipient's public key; HKDF makes a wrapping key
//!   of what both sides know. Whoever seals needs no secret of the recipient.
//! - A *passphrase*: Argon2id (RFC 9106) makes the wrapping key. Its cost stands in the envelope and is bounded when
//!   read, since whoever wrote the envelope chose it.
//! - A *key-management service*, see [`super::Kms`].
//!
//! Every wrapping key is used once, so the nonce is constant.

use std::sync::Arc;

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bms_wire::{Code, Error, Result, limits};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Kms;
use super::cipher::{self, DataKey, KEY_BYTES, SealId, random};
use crate::{PublicKey, SigningKey};

/// Bytes of a passphrase's salt.
const SALT_BYTES: usize = 16;
/// Threads Argon2 may be asked to imitate.
const LANES_MAX: u32 = 16;
/// Characters of a service's name or its wrapped key.
const KMS_CHARS_MAX: usize = 4096;

/// Whom to seal for.
#[derive(Clone)]
pub enum To {
    /// The holder of the private half of this key.
    Key(PublicKey),
    /// Whoever knows the passphrase.
    Passphrase(Zeroizing<Vec<u8>>, PassphraseCost),
    /// Whom the service lets unwrap.
    Kms(Arc<dyn Kms>),
}

/// What deriving a key from a passphrase costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassphraseCost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
}

impl Default for PassphraseCost {
    /// 64 MiB and three passes, the second recommendation of RFC 9106.
    fn default() -> Self {
        PassphraseCost { memory_kib: 64 << 10, passes: 3 }
    }
}

/// One who may open a sealed bundle, as it stands in the envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Recipient {
    /// The holder of a private key.
    Key {
        /// The key's id, see [`PublicKey::id`].
        key: String,
        /// The fresh public key, PEM.
        ephemeral: String,
        /// Base64 of the wrapped data key.
        wrapped: String,
    },
    /// Whoever knows a passphrase.
    Passphrase {
        /// Base64.
        salt: String,
        /// Argon2id's memory in KiB.
        memory_kib: u32,
        /// Argon2id's passes.
        passes: u32,
        /// Argon2id's lanes.
        lanes: u32,
        /// Base64 of the wrapped data key.
        wrapped: String,
    },
    /// Whom a key-management service lets unwrap.
    Kms {
        /// See [`Kms::uri`].
        uri: String,
        /// What the service answered.
        wrapped: String,
    },
}

impl Recipient {
    /// Wraps the data key.
    pub(crate) fn wrap(to: &To, seal: &SealId, key: &DataKey) -> Result<Recipient> {
        match to {
            To::Key(public) => {
                let fresh = SigningKey::generate();
                let wrapping = agreed(seal, &fresh, public, fresh.public(), public)?;
                Ok(Recipient::Key {
                    key: public.id().to_owned(),
                    ephemeral: fresh.public_pem().to_owned(),
                    wrapped: wrap(seal, &wrapping, key)?,
                })
            }
            To::Passphrase(passphrase, cost) => {
                let mut salt = [0; SALT_BYTES];
                random(&mut salt)?;
                let lanes = 1;
                let wrapping = stretched(passphrase, &salt, *cost, lanes)?;
                Ok(Recipient::Passphrase {
                    salt: STANDARD.encode(salt),
                    memory_kib: cost.memory_kib,
                    passes: cost.passes,
                    lanes,
                    wrapped: wrap(seal, &wrapping, key)?,
                })
            }
            To::Kms(kms) => Ok(Recipient::Kms { uri: kms.uri().to_owned(), wrapped: kms.wrap(key)? }),
        }
    }

    /// What to call it: what `bms rekey --remove` takes.
    pub fn name(&self) -> String {
        match self {
            Recipient::Key { key, .. } => format!("key:{}", key.get(..16).unwrap_or(key)),
            Recipient::Passphrase { salt, .. } => {
                format!(
                    "passphrase:{}",
                    salt.chars().filter(char::is_ascii_alphanumeric).take(6).collect::<String>()
                )
            }
            Recipient::Kms { uri, .. } => uri.clone(),
        }
    }

    /// Checks what stands in an envelope, before anything is spent on it.
    pub(crate) fn validate(&self) -> Result<()> {
        match self {
            Recipient::Key { .. } => Ok(()),
            Recipient::Passphrase { memory_kib, passes, lanes, .. } => {
                check_cost(PassphraseCost { memory_kib: *memory_kib, passes: *passes }, *lanes)
            }
            Recipient::Kms { uri, wrapped } => match uri.len().max(wrapped.len()) <= KMS_CHARS_MAX {
                true => Ok(()),
                false => Err(refused("the name of a service or its wrapped key is too long")),
            },
        }
    }

    /// Unwraps with a private key: `None` when it is for somebody else.
    pub(crate) fn open_with_key(&self, seal: &SealId, own: &SigningKey) -> Result<Option<DataKey>> {
        let Recipient::Key { key, ephemeral, wrapped } = self else { return Ok(None) };
        if key != own.key_id() {
            return Ok(None);
        }
        let ephemeral = PublicKey::from_pem(ephemeral)?;
        let wrapping = agreed(seal, own, &ephemeral, &ephemeral, own.public())?;
        match unwrap(seal, &wrapping, wrapped)? {
            Some(key) => Ok(Some(key)),
            None => Err(Error::new(Code::Tampered, "the key wrapped for this recipient was changed")),
        }
    }

    /// Tries a passphrase: `None` when it is not the one.
    pub(crate) fn open_with_passphrase(&self, seal: &SealId, passphrase: &[u8]) -> Result<Option<DataKey>> {
        let Recipient::Passphrase { salt, memory_kib, passes, lanes, wrapped } = self else {
            return Ok(None);
        };
        let salt = STANDARD.decode(salt).map_err(|e| refused("a salt is not base64").because(e))?;
        let cost = PassphraseCost { memory_kib: *memory_kib, passes: *passes };
        unwrap(seal, &*stretched(passphrase, &salt, cost, *lanes)?, wrapped)
    }

    /// Asks the service: `None` when it is another's.
    pub(crate) fn open_with_kms(&self, kms: &dyn Kms) -> Result<Option<DataKey>> {
        match self {
            Recipient::Kms { uri, wrapped } if uri == kms.uri() => kms.unwrap(wrapped).map(Some),
            _ => Ok(None),
        }
    }
}

/// The wrapping key both halves of a key pair agree on with the halves of another. The public keys go in, so that it
/// is good for this pair only.
fn agreed(
    seal: &SealId,
    own: &SigningKey,
    other: &PublicKey,
    ephemeral: &PublicKey,
    recipient: &PublicKey,
) -> Result<Zeroizing<[u8; KEY_BYTES]>> {
    let mut wrapping = Zeroizing::new([0; KEY_BYTES]);
    let info: [&[u8]; 3] = [b"bms seal 1 p256", ephemeral.id().as_bytes(), recipient.id().as_bytes()];
    cipher::derive(seal, &*own.agree(other)?, &info, &mut wrapping);
    Ok(wrapping)
}

/// The wrapping key a passphrase makes.
fn stretched(
    passphrase: &[u8],
    salt: &[u8],
    cost: PassphraseCost,
    lanes: u32,
) -> Result<Zeroizing<[u8; KEY_BYTES]>> {
    check_cost(cost, lanes)?;
    let fault = |e: argon2::Error| refused(format!("a key cannot be made of the passphrase: {e}"));
    let params = Params::new(cost.memory_kib, cost.passes, lanes, Some(KEY_BYTES)).map_err(fault)?;
    let mut wrapping = Zeroizing::new([0; KEY_BYTES]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase, salt, &mut *wrapping)
        .map_err(fault)?;
    Ok(wrapping)
}

fn check_cost(cost: PassphraseCost, lanes: u32) -> Result<()> {
    let good = cost.memory_kib <= limits::PASSPHRASE_MEMORY_KIB_MAX
        && (1..=limits::PASSPHRASE_PASSES_MAX).contains(&cost.passes)
        && (1..=LANES_MAX).contains(&lanes);
    match good {
        true => Ok(()),
        false => Err(refused(format!(
            "a passphrase that takes {} KiB, {} passes and {lanes} lanes is over the limit",
            cost.memory_kib, cost.passes
        ))),
    }
}

fn wrap(seal: &SealId, wrapping: &[u8; KEY_BYTES], key: &DataKey) -> Result<String> {
    let mut bytes = Zeroizing::new(key.expose().to_vec());
    cipher::cipher(wrapping)
        .seal_in_place_append_tag(nonce(), Aad::from(seal), &mut *bytes)
        .map_err(|_| Error::new(Code::Internal, "a key cannot be wrapped"))?;
    Ok(STANDARD.encode(&*bytes))
}

/// `None` when `wrapping` is not the key it was wrapped with.
fn unwrap(seal: &SealId, wrapping: &[u8; KEY_BYTES], wrapped: &str) -> Result<Option<DataKey>> {
    let bytes = STANDARD.decode(wrapped).map_err(|e| refused("a wrapped key is not base64").because(e))?;
    let mut bytes = Zeroizing::new(bytes);
    match cipher::cipher(wrapping).open_in_place(nonce(), Aad::from(seal), &mut bytes) {
        Ok(key) => DataKey::from_bytes(key).map(Some),
        Err(_) => Ok(None),
    }
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

fn refused(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidBundle, message)
}

impl std::fmt::Debug for To {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            To::Key(key) => key.fmt(f),
            To::Passphrase(..) => f.write_str("Passphrase(…)"),
            To::Kms(kms) => f.write_str(kms.uri()),
        }
    }
}

#[cfg(test)]
mod tests;
