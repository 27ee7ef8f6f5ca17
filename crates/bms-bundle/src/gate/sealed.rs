//! The gate for sealed bundles: the outside first, then what is inside, as if it came alone.

use bms_wire::{Code, Error};

use super::{Proof, Signer, Verified};
use crate::bundle::{check_digests, is_beside, tampered};
use crate::scan::{self, Scanned};
use crate::seal::{self, DataKey, ENVELOPE, Envelope, SEALED, SealInfo};
use crate::{Approval, Bundle, FileEntry, Finding, MANIFEST, Manifest, Mode, Nature, Policy, Rejected};

/// The outside of a sealed bundle, checked.
pub(super) struct Outside {
    pub(super) manifest: Manifest,
    pub(super) info: SealInfo,
    pub(super) envelope: Envelope,
    pub(super) signer: Option<Signer>,
    pub(super) findings: Vec<Finding>,
}

/// A refusal with what the scan found until then.
type Refused = (Error, Vec<Finding>);

impl Policy {
    /// As [`Policy::verify`]: the outside, then decrypted into memory, then the bundle inside.
    pub(super) fn verify_sealed(&self, bundle: &Bundle) -> Result<Verified, Rejected> {
        let digest = bundle.digest();
        let model = bundle.manifest_unverified().ok().map(|manifest| manifest.name);
        let verified = self.check_outside(bundle).and_then(|outside| {
            let key = self.keys.open(&outside.info, &outside.envelope).map_err(|e| (e, Vec::new()))?;
            let verified = self.check_inside(bundle, outside, &key.key, &digest)?;
            Ok(Verified { lease: key.lease, ..verified })
        });
        verified.map_err(|(error, findings)| Rejected { code: error.code(), findings, error, model, digest })
    }

    /// Everything that can be checked without a key. The encrypted file itself is no file to scan.
    pub(super) fn check_outside(&self, bundle: &Bundle) -> Result<Outside, Refused> {
        let open = bundle.files().filter(|(path, _)| *path != SEALED);
        let scanned: Vec<Scanned> = open.map(|(path, bytes)| scan::scan_file(path, bytes)).collect();
        let entries = bundle.entries();
        let checked = self.check_outside_of(bundle, &scanned, &entries);
        let findings = scanned.into_iter().flat_map(|file| file.findings).collect();
        match checked {
            Ok((manifest, info, envelope, signer)) => {
                Ok(Outside { manifest, info, envelope, signer, findings })
            }
            Err(error) => Err((error, findings)),
        }
    }

    fn check_outside_of(
        &self,
        bundle: &Bundle,
        scanned: &[Scanned],
        entries: &[FileEntry],
    ) -> Result<(Manifest, SealInfo, Envelope, Option<Signer>), Error> {
        self.refuse_findings(scanned, Nature::Attack)?;
        let proof = self.prove(bundle);
        if let Proof::Unknown(envelope) | Proof::By(envelope, _) = &proof {
            envelope.check_files(entries.iter(), true)?;
        }
        let (manifest, info) = sealed_manifest(bundle)?;
        check_digests(&manifest, entries)?;
        self.refuse_findings(scanned, Nature::Malformed)?;
        let other = entries.iter().map(|entry| entry.path.as_str());
        let mut other = other.filter(|path| *path != SEALED && *path != MANIFEST && !is_beside(path, true));
        if let Some(other) = other.next() {
            return Err(tampered(format!("{other:?} lies beside the sealed files")));
        }
        let signer = self.check_signer(proof, &manifest)?;
        let envelope = self.check_envelope(bundle, &manifest, &info)?;
        // An approval that does not hold is refused here; whether there are enough is known with those inside.
        self.approvals(bundle, &manifest, entries, signer.as_ref())?;
        Ok((manifest, info, envelope, signer))
    }

    /// The envelope, signed by a publisher of the model.
    pub(super) fn check_envelope(
        &self,
        bundle: &Bundle,
        manifest: &Manifest,
        info: &SealInfo,
    ) -> Result<Envelope, Error> {
        let bytes = bundle.envelope_bytes();
        let bytes = bytes.ok_or_else(|| tampered(format!("there is no `{ENVELOPE}`")))?;
        let envelope = Envelope::parse(bytes)?;
        if let Some(revocation) = self.revocation(envelope.key_id()) {
            return Err(revocation.refusal());
        }
        let entries = self.trust.iter().filter(|entry| entry.key.id() == envelope.key_id());
        let named = entries.clone().next().map(|entry| envelope.verify(&entry.key)).transpose()?;
        let trusted =
            named.is_some() && entries.clone().any(|entry| self.grant(&entry.key, &manifest.name).is_some());
        match trusted || self.mode == Mode::Development {
            true => envelope.check(info, &manifest.name).map(|()| envelope),
            false => Err(Error::new(
                Code::SignerUntrusted,
                format!(
                    "`{ENVELOPE}` is signed by the key {:?}, which may not publish {:?}",
                    envelope.key_id(),
                    manifest.name
                ),
            )
            .hint("Add the publisher's public key to the policy, if you trust it.")),
        }
    }

    /// Decrypts, and checks what comes out as any bundle.
    fn check_inside(
        &self,
        bundle: &Bundle,
        outside: Outside,
        key: &DataKey,
        digest: &str,
    ) -> Result<Verified, Refused> {
        let Outside { manifest, info, signer, findings, .. } = outside;
        let sealed = bundle.sealed_content().ok_or_else(|| tampered(format!("there is no `{SEALED}`")));
        let opened = sealed
            .and_then(|sealed| seal::open(&info, &manifest.name, sealed, key))
            .and_then(Bundle::from_contents);
        let inside = opened.map_err(|e| (e, findings.clone()))?;
        if inside.seal_unverified().is_some() {
            let what = "a sealed bundle lies inside the sealed bundle";
            return Err((Error::new(Code::InvalidBundle, what), findings));
        }
        let approved = self.approvals_of_outside(bundle, &manifest, signer.as_ref());
        let approved = approved.map_err(|e| (e, findings.clone()))?;
        let verified = self.verify_plain(inside, &approved).map_err(|rejected| {
            (rejected.error.while_doing("check what is inside the seal"), rejected.findings)
        })?;
        if verified.digest != info.digest || verified.manifest.name != manifest.name {
            return Err((tampered("the bundle inside the seal is another"), verified.findings));
        }
        let development = verified.development || signer.is_none();
        let signer = signer.filter(|_| verified.signer.is_some());
        Ok(Verified { digest: digest.to_owned(), signer, development, seal: Some(info), ..verified })
    }

    /// Approvals of the sealed bundle count for what is inside.
    fn approvals_of_outside(
        &self,
        bundle: &Bundle,
        manifest: &Manifest,
        signer: Option<&Signer>,
    ) -> Result<Vec<Approval>, Error> {
        let has_any = bundle.files().any(|(path, _)| crate::approvals::is_approval(path));
        match has_any {
            true => self.approvals(bundle, manifest, &bundle.entries(), signer),
            false => Ok(Vec::new()),
        }
    }

    /// The seal, the model's name and the envelope of a sealed bundle, everything outside checked.
    pub(crate) fn outside_of(&self, bundle: &Bundle) -> Result<(SealInfo, String, Envelope), Error> {
        if bundle.seal_unverified().is_none() {
            // Says what is wrong when the manifest cannot be read at all.
            sealed_manifest(bundle)?;
        }
        let outside = self.check_outside(bundle).map_err(|(error, _)| error)?;
        Ok((outside.info, outside.manifest.name, outside.envelope))
    }

    /// The data key of a sealed bundle, to be handed to the process that loads it; `None` when it is not sealed. Only
    /// manifest and envelope are checked: whoever loads checks everything.
    ///
    /// # Errors
    /// [`Code::KeyMissing`], [`Code::LeaseExpired`], or the gate's for the envelope.
    pub fn data_key(&self, bundle: &Bundle) -> Result<Option<DataKey>, Error> {
        let manifest = bundle.manifest_unverified()?;
        let Some(info) = &manifest.sealed else { return Ok(None) };
        let envelope = self.check_envelope(bundle, &manifest, info)?;
        self.keys.open(info, &envelope).map(|found| Some(found.key))
    }
}

fn sealed_manifest(bundle: &Bundle) -> Result<(Manifest, SealInfo), Error> {
    let manifest = bundle.manifest_unverified()?;
    match manifest.sealed.clone() {
        Some(info) => Ok((manifest, info)),
        None => Err(Error::new(Code::InvalidRequest, "the bundle is not sealed")
            .hint("`bms seal` makes a sealed bundle of it.")),
    }
}
