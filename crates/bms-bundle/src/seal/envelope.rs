//! `sealed.keys`: the data key of a sealed bundle, wrapped for everybody who may open it.
//!
//! It is signed by whoever wrote it, so that a changed one is found without any key, and replaced as a whole, so that
//! there is always one that holds. It is no part of the bundle's identity: the same model, other readers.

use bms_wire::{Code, Error, Result, limits};
use serde::{Deserialize, Serialize};

use super::cipher::{DataKey, SealId};
use super::{ENVELOPE, Recipient, SealInfo, To};
use crate::statement::{self, Statement};
use crate::{PublicKey, SigningKey};

const KIND: &str = "application/vnd.bms.sealed-keys.v1+json";
const SCHEMA: u32 = 1;

/// An envelope as read. Nothing vouches for it until [`Envelope::verify`].
#[derive(Clone, Debug)]
pub struct Envelope {
    statement: Statement,
    body: Body,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    schema: u32,
    /// Hex of the seal's id.
    seal: String,
    model: String,
    /// See [`SealInfo::commitment`].
    commitment: String,
    /// Counts the envelopes of this seal, from 1.
    revision: u64,
    recipients: Vec<Recipient>,
}

impl Envelope {
    /// Parses an envelope.
    ///
    /// # Errors
    /// [`Code::SignatureInvalid`] or [`Code::InvalidBundle`].
    pub fn parse(bytes: &[u8]) -> Result<Envelope> {
        let doing = |e: Error| e.while_doing(format_args!("read `{ENVELOPE}`"));
        let statement = Statement::parse(KIND, bytes, limits::SEAL_ENVELOPE_BYTES_MAX).map_err(doing)?;
        let body: Body = statement.body().map_err(doing)?;
        if body.schema != SCHEMA {
            return Err(invalid(format!("schema {} is not supported, only {SCHEMA}", body.schema)));
        }
        if !(1..=limits::SEAL_RECIPIENTS_MAX).contains(&body.recipients.len()) {
            return Err(invalid(format!("{} recipients", body.recipients.len())));
        }
        body.recipients.iter().try_for_each(Recipient::validate).map_err(doing)?;
        Ok(Envelope { statement, body })
    }

    /// Wraps a data key for everybody in `to`, keeps what `kept` holds, and signs: the bytes of `sealed.keys`.
    pub(crate) fn write(
        info: &SealInfo,
        model: &str,
        key: &DataKey,
        (kept, to): (Vec<Recipient>, &[To]),
        revision: u64,
        signer: &SigningKey,
    ) -> Result<Vec<u8>> {
        let seal: SealId = info.seal_id()?;
        let mut recipients = kept;
        for to in to {
            recipients.push(Recipient::wrap(to, &seal, key)?);
        }
        if recipients.is_empty() {
            return Err(Error::new(Code::InvalidRequest, "nobody could open the bundle")
                .hint("Name at least one key, passphrase file or service to seal it for."));
        }
        if limits::SEAL_RECIPIENTS_MAX < recipients.len() {
            return Err(Error::new(Code::TooLarge, format!("{} recipients", recipients.len())));
        }
        let body = Body {
            schema: SCHEMA,
            seal: info.id.clone(),
            model: model.to_owned(),
            commitment: info.commitment.clone(),
            revision,
            recipients,
        };
        statement::sign(KIND, &body, signer)
    }

    /// The id of the key that is said to have signed.
    pub fn key_id(&self) -> &str {
        self.statement.key_id()
    }

    /// Checks that `key` signed it.
    ///
    /// # Errors
    /// [`Code::SignatureInvalid`].
    pub fn verify(&self, key: &PublicKey) -> Result<()> {
        self.statement.verify(key)
    }

    /// Checks that it is of this seal.
    ///
    /// # Errors
    /// [`Code::Tampered`].
    pub(crate) fn check(&self, info: &SealInfo, model: &str) -> Result<()> {
        let body = &self.body;
        match body.seal == info.id && body.commitment == info.commitment && body.model == model {
            true => Ok(()),
            false => Err(crate::bundle::tampered(format!("`{ENVELOPE}` is that of another bundle"))),
        }
    }

    /// Those who may open the bundle.
    pub fn recipients(&self) -> &[Recipient] {
        &self.body.recipients
    }

    /// How many envelopes of this seal there were with it.
    pub fn revision(&self) -> u64 {
        self.body.revision
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidBundle, format!("`{ENVELOPE}` is refused: {}", message.into()))
}
