//! What a sealed bundle's manifest says about what nobody sees.

use bms_wire::{Code, Error, Result};
use serde::{Deserialize, Serialize};

use super::SEALED;
use super::cipher::{KEY_BYTES, SEAL_ID_BYTES, SealId};
use crate::{Manifest, Severity};

/// The one format this program writes and reads.
const FORMAT: u32 = 1;

/// The seal of a bundle, in its manifest and hence under its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealInfo {
    /// Version of the layout, 1.
    pub format: u32,
    /// Hex of the seal's id.
    pub id: String,
    /// Digest of the bundle inside.
    pub digest: String,
    /// Hex; tells the data key from every other key, and nothing about it.
    pub commitment: String,
    /// What the scan found before the bundle was sealed.
    pub scan: ScanRecord,
}

/// What the signer's scan said of the files before they were sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScanRecord {
    /// The scanner, with its version.
    pub scanner: String,
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// Files that were scanned, every byte of them.
    pub files: u64,
    /// Findings from this severity on would have refused the bundle.
    pub deny: Severity,
    /// Findings below that.
    pub findings: u64,
}

impl SealInfo {
    pub(crate) fn new(seal: &SealId, digest: &str, commitment: String, scan: ScanRecord) -> SealInfo {
        SealInfo { format: FORMAT, id: hex::encode(seal), digest: digest.to_owned(), commitment, scan }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        if self.format != FORMAT {
            return Err(invalid(format!("seals of format {} are not supported, only {FORMAT}", self.format))
                .hint("Use the release of bms that sealed the bundle, or a newer one."));
        }
        let hex = |text: &str, bytes: usize| {
            text.len() == 2 * bytes && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
        };
        let good = hex(&self.id, SEAL_ID_BYTES) && hex(&self.digest, 32) && hex(&self.commitment, KEY_BYTES);
        match good {
            true => Ok(()),
            false => Err(invalid("the seal's id, digest or commitment is not hex of its length")),
        }
    }

    pub(crate) fn seal_id(&self) -> Result<SealId> {
        let mut id = SealId::default();
        hex::decode_to_slice(&self.id, &mut id)
            .map_err(|e| invalid("the seal's id is not hex").because(e))?;
        Ok(id)
    }
}

/// A sealed bundle's manifest says nothing of tensors, labels and files: whatever it said would be public.
pub(crate) fn check_outside(manifest: &Manifest) -> Result<()> {
    use bms_wire::{Pipeline, Postprocess, Preprocess};
    let plain = Pipeline { preprocess: Preprocess::Tensor {}, postprocess: Postprocess::Tensor {} };
    if !manifest.inputs.is_empty() || !manifest.outputs.is_empty() || manifest.pipeline != plain {
        return Err(invalid("the manifest of a sealed bundle describes what is inside"));
    }
    let only = manifest.files.iter().all(|file| file.path == SEALED);
    match manifest.model == SEALED && only {
        true => Ok(()),
        false => Err(invalid(format!("a sealed bundle holds `{SEALED}` and nothing else"))),
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidBundle, message)
}
