//! The keys at hand when a sealed bundle is opened.

use std::sync::Arc;

use bms_wire::{Code, Error, Result};
use zeroize::Zeroizing;

use super::cipher::{DataKey, SealKeys};
use super::lease::LeasedKey;
use super::{Envelope, Kms, Recipient, SealInfo};
use crate::SigningKey;

/// One key at hand.
#[derive(Clone)]
pub enum Key {
    /// The private half of a key pair.
    Private(Arc<SigningKey>),
    /// A passphrase.
    Passphrase(Arc<Zeroizing<Vec<u8>>>),
    /// A key-management service.
    Kms(Arc<dyn Kms>),
    /// A key that is good for a time.
    Leased(Arc<LeasedKey>),
    /// The data key itself, as a process gets it that shall load one model.
    Data(DataKey),
}

/// A key that opens.
pub(crate) struct Found {
    pub(crate) key: DataKey,
    pub(crate) lease: Option<Arc<LeasedKey>>,
}

/// The keys at hand, tried in order.
#[derive(Clone, Default)]
pub struct Keyring(Vec<Key>);

impl Keyring {
    /// Adds a key.
    pub fn add(&mut self, key: Key) {
        self.0.push(key);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The data key of a sealed bundle, and the lease it is under, if it is.
    ///
    /// # Errors
    /// [`Code::KeyMissing`] when no key here opens it; [`Code::LeaseExpired`] when one did once; what a service
    /// answered; [`Code::Tampered`].
    pub(crate) fn open(&self, info: &SealInfo, envelope: &Envelope) -> Result<Found> {
        let mut failed = None;
        for key in &self.0 {
            match key.open(info, envelope) {
                Ok(Some(found)) => {
                    super::open::keys(info, &found)?;
                    let lease = match key {
                        Key::Leased(lease) => Some(lease.clone()),
                        _ => None,
                    };
                    return Ok(Found { key: found, lease });
                }
                Ok(None) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        Err(failed.unwrap_or_else(|| {
            let names: Vec<_> = envelope.recipients().iter().map(Recipient::name).collect();
            Error::new(Code::KeyMissing, format!("the bundle is sealed for {}", names.join(", ")))
                .hint("Give a key of one of them: --key-file, --passphrase-file, --kms or --lease.")
        }))
    }
}

impl Key {
    fn open(&self, info: &SealInfo, envelope: &Envelope) -> Result<Option<DataKey>> {
        let seal = info.seal_id()?;
        let first = |open: &dyn Fn(&Recipient) -> Result<Option<DataKey>>| {
            envelope.recipients().iter().find_map(|recipient| open(recipient).transpose()).transpose()
        };
        match self {
            Key::Private(own) => first(&|recipient| recipient.open_with_key(&seal, own)),
            Key::Passphrase(text) => first(&|recipient| recipient.open_with_passphrase(&seal, text)),
            Key::Kms(kms) => first(&|recipient| recipient.open_with_kms(&**kms)),
            Key::Leased(lease) => lease.open(info),
            Key::Data(key) => {
                Ok((SealKeys::derive(key, &seal).commitment() == info.commitment).then(|| key.clone()))
            }
        }
    }

    /// What to call it, never the key.
    fn name(&self) -> String {
        match self {
            Key::Private(key) => format!("key {}", key.key_id()),
            Key::Passphrase(_) => "a passphrase".to_owned(),
            Key::Kms(kms) => kms.uri().to_owned(),
            Key::Leased(lease) => format!("a lease of {}", lease.terms().model),
            Key::Data(_) => "a data key".to_owned(),
        }
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(Key::name)).finish()
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

/// Two rings are the same when they hold the same keys in the same order, as far as their names tell.
impl PartialEq for Keyring {
    fn eq(&self, other: &Keyring) -> bool {
        self.0.iter().map(Key::name).eq(other.0.iter().map(Key::name))
    }
}

impl Eq for Keyring {}
