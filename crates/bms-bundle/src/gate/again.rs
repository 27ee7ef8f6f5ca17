//! What another policy means for a bundle that passed the gate before.

use bms_wire::Error;

use super::Proof;
use crate::scan::{self, Scanned};
use crate::{Bundle, FileEntry, MANIFEST, Policy};

impl Policy {
    /// Whether a bundle that passed the gate under another policy is trusted under this one: its signer with rights and
    /// times, revocations, formats, approvals, and who signed the envelope of a sealed one. It gives nothing to load.
    ///
    /// The files are taken for those the manifest lists, as they were found to be when the bundle passed: nothing large is
    /// read, so that the answer comes at once. They are not scanned again, and of a sealed bundle only the outside is looked
    /// at.
    ///
    /// # Errors
    /// As [`Policy::verify`], for the checks it makes.
    pub fn check_trust(&self, bundle: &Bundle) -> Result<(), Error> {
        let proof = self.prove(bundle);
        let manifest = bundle.manifest_unverified()?;
        if bundle.is_bare() {
            return self.admit_bare().map(drop);
        }
        let mut entries = manifest.files.clone();
        entries.extend(bundle.files().find(|(path, _)| *path == MANIFEST).map(|(p, b)| FileEntry::of(p, b)));
        if let Proof::Unknown(envelope) | Proof::By(envelope, _) = &proof {
            envelope.check_files(entries.iter(), manifest.sealed.is_some())?;
        }
        let signer = self.check_signer(proof, &manifest)?;
        if let Some(info) = &manifest.sealed {
            return self.check_envelope(bundle, &manifest, info).map(drop);
        }
        let kinds: Vec<Scanned> = bundle.files().map(|(path, bytes)| identified(path, bytes)).collect();
        self.check_formats(&kinds, signer.as_ref())?;
        let approvals = self.approvals(bundle, &manifest, &entries, signer.as_ref())?;
        self.check_approvals(&manifest.name, &approvals)
    }
}

fn identified(path: &str, bytes: &[u8]) -> Scanned {
    let (format, size_bytes) = (scan::identify(bytes), bytes.len() as u64);
    Scanned { path: path.to_owned(), format, size_bytes, findings: Vec::new() }
}
