//! What a registry asks: whether a bundle may become a version, whether or not it can be read here.

use bms_wire::{Code, Error};

use super::{Rejected, Signer};
use crate::seal::system_ms;
use crate::{Bundle, Finding, Manifest, Policy};

/// A bundle that may become a version. It gives no model bytes: whoever loads it passes it through
/// [`Policy::verify`].
#[derive(Clone, Debug)]
pub struct Admitted {
    /// The manifest; of a sealed bundle the outer one.
    pub manifest: Manifest,
    /// The version's identity, see [`Bundle::digest`].
    pub digest: String,
    /// Who signed, when a key on the allow-list did.
    pub signer: Option<Signer>,
    /// Whether only a development policy let it in.
    pub development: bool,
    /// What the scan found that was not bad enough to refuse.
    pub findings: Vec<Finding>,
    /// Bytes of all files.
    pub size_bytes: u64,
    /// False for a sealed bundle no key here opens: it was scanned before it was sealed, as its signer says, and is
    /// scanned again wherever it is loaded.
    pub opened: bool,
}

impl Policy {
    /// Admits or refuses a bundle that is to become a version. As [`Policy::verify`], and the signer's key must be
    /// trusted now; but a sealed bundle that no key here opens is admitted on its outside, its signer's record of the
    /// scan included.
    ///
    /// # Errors
    /// As [`Policy::verify`].
    pub fn admit(&self, bundle: &Bundle) -> Result<Admitted, Rejected> {
        let now = system_ms();
        let reject = |error: Error, findings| Rejected {
            code: error.code(),
            findings,
            error,
            model: bundle.manifest_unverified().ok().map(|manifest| manifest.name),
            digest: bundle.digest(),
        };
        let size_bytes = bundle.size_bytes();
        let admitted = match self.verify(bundle.clone()) {
            Ok(verified) => {
                let manifest = bundle.manifest_unverified().map_err(|e| reject(e, Vec::new()))?;
                Admitted {
                    manifest,
                    digest: verified.digest,
                    signer: verified.signer,
                    development: verified.development,
                    findings: verified.findings,
                    size_bytes,
                    opened: true,
                }
            }
            Err(rejected) if rejected.code == Code::KeyMissing => self.admit_unopened(bundle, rejected)?,
            Err(rejected) => return Err(rejected),
        };
        if let Some(signer) = &admitted.signer {
            let entry = self.trust.iter().find(|entry| entry.key.id() == signer.key_id);
            let in_time = entry.map_or(Ok(()), |entry| entry.check_time(now, "the bundle is published"));
            in_time.map_err(|e| reject(e, admitted.findings.clone()))?;
        }
        Ok(admitted)
    }

    /// A sealed bundle that cannot be read here. Its scan must have been at least as strict as this policy's.
    fn admit_unopened(&self, bundle: &Bundle, unopened: Rejected) -> Result<Admitted, Rejected> {
        let Rejected { model, digest, .. } = unopened;
        let reject = |error: Error, findings| Rejected {
            code: error.code(),
            findings,
            error,
            model: model.clone(),
            digest: digest.clone(),
        };
        let outside = self.check_outside(bundle).map_err(|(error, findings)| reject(error, findings))?;
        let approvals = self.approvals(bundle, &outside.manifest, &bundle.entries(), outside.signer.as_ref());
        approvals
            .and_then(|approvals| self.check_approvals(&outside.manifest.name, &approvals))
            .map_err(|e| reject(e, outside.findings.clone()))?;
        if self.deny < outside.info.scan.deny {
            let what = format!(
                "it was sealed when findings from {} on were denied; the policy denies them from {} on",
                outside.info.scan.deny, self.deny
            );
            let error = Error::new(Code::MaliciousContent, what)
                .hint("Seal it again under the stricter policy, or give the server a key that opens it.");
            return Err(reject(error, outside.findings));
        }
        Ok(Admitted {
            manifest: outside.manifest,
            digest: bundle.digest(),
            development: outside.signer.is_none(),
            signer: outside.signer,
            findings: outside.findings,
            size_bytes: bundle.size_bytes(),
            opened: false,
        })
    }
}
