//! Small signed statements: leases, envelopes, orders, rotations.
//!
//! Each is a DSSE envelope (<https://github.com/secure-systems-lab/dsse>) around JSON. Its payload type says what kind
//! of statement it is and is signed with it, so none can be taken for one of another kind.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bms_wire::{Code, Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::signature::pre_authentication;
use crate::{PublicKey, SigningKey};

/// A parsed statement. Nothing is proven until [`Statement::verify`].
#[derive(Clone, Debug)]
pub struct Statement {
    kind: &'static str,
    payload: Vec<u8>,
    signature: Vec<u8>,
    key_id: String,
}

/// Signs a statement: the bytes of its file.
///
/// # Errors
/// [`Code::Internal`] when it cannot be written as JSON.
pub fn sign(kind: &'static str, body: &impl Serialize, key: &SigningKey) -> Result<Vec<u8>> {
    let encode =
        |e: serde_json::Error| Error::new(Code::Internal, format!("failed to write a statement: {e}"));
    let payload = serde_json::to_vec(body).map_err(encode)?;
    let sig = STANDARD.encode(key.sign(&pre_authentication(kind, &payload)));
    let signatures = vec![Signature { sig, keyid: key.key_id().to_owned() }];
    let document = Document { payload_type: kind.to_owned(), payload: STANDARD.encode(&payload), signatures };
    serde_json::to_vec(&document).map_err(encode)
}

impl Statement {
    /// Parses a statement of this kind and of at most `bytes_max` bytes.
    ///
    /// # Errors
    /// [`Code::SignatureInvalid`].
    pub fn parse(kind: &'static str, bytes: &[u8], bytes_max: usize) -> Result<Statement> {
        if bytes_max < bytes.len() {
            return Err(invalid(format!("it holds {} bytes, at most {bytes_max} are read", bytes.len())));
        }
        let document: Document =
            serde_json::from_slice(bytes).map_err(|e| invalid(format!("it is malformed: {e}")).because(e))?;
        if document.payload_type != kind {
            return Err(invalid(format!("it is a {:?}, not a {kind:?}", document.payload_type)));
        }
        let [signature] = document.signatures.as_slice() else {
            return Err(invalid(format!("it has {} signatures, expected one", document.signatures.len())));
        };
        let decode = |text: &str| STANDARD.decode(text).map_err(|e| invalid("it is not base64").because(e));
        Ok(Statement {
            kind,
            payload: decode(&document.payload)?,
            signature: decode(&signature.sig)?,
            key_id: signature.keyid.clone(),
        })
    }

    /// The id of the key that is said to have signed, see [`PublicKey::id`].
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Checks that `key` made the statement and is the one it names.
    ///
    /// # Errors
    /// [`Code::SignatureInvalid`].
    pub fn verify(&self, key: &PublicKey) -> Result<()> {
        if self.key_id != key.id() {
            return Err(invalid("it names another key"));
        }
        match key.verifies(&pre_authentication(self.kind, &self.payload), &self.signature) {
            true => Ok(()),
            false => Err(invalid("its signature does not verify")),
        }
    }

    /// What it says, as claimed until verified.
    ///
    /// # Errors
    /// [`Code::SignatureInvalid`] when it is malformed.
    pub fn body<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.payload)
            .map_err(|e| invalid(format!("what it says is malformed: {e}")).because(e))
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::SignatureInvalid, format!("a signed statement is refused: {}", message.into()))
        .hint("Get it again from whoever signed it.")
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    payload_type: String,
    payload: String,
    signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    sig: String,
    keyid: String,
}

#[cfg(test)]
mod tests;
