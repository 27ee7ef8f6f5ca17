//! Approvals: signatures of others over the same files, kept beside `model.sig`.
//!
//! `model.approvals/KEY.sig` has the format of `model.sig`; any OpenSSF Model Signing tool verifies it with KEY's
//! public half. Approving changes neither the bundle nor its identity.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use bms_wire::{Code, Error, Result, limits};

use crate::bundle::{check_digests, tampered};
use crate::signature::{self, Envelope};
use crate::{APPROVALS, Bundle, FileEntry, Manifest, Policy, Right, Signer, SigningKey, draft};

/// Whether a file of a bundle is an approval, or pretends to be.
pub(crate) fn is_approval(path: &str) -> bool {
    path.strip_prefix(APPROVALS).is_some_and(|rest| rest.starts_with('/'))
}

/// An approval that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// The publisher.
    pub publisher: String,
    /// Its key.
    pub key_id: String,
}

/// Approves the bundle in `dir`: writes this key's approval, in place of an earlier one.
///
/// # Errors
/// As [`crate::sign_bundle`], or [`Code::Io`].
pub fn approve_dir(dir: &Path, key: &SigningKey) -> Result<()> {
    let approve = || {
        let bundle = Bundle::open(dir)?;
        let manifest = bundle.manifest_unverified()?;
        let entries = bundle.entries();
        check_digests(&manifest, &entries)?;
        let signature = signature::sign(&manifest.name, &entries, manifest.sealed.is_some(), key)?;
        let folder = dir.join(APPROVALS);
        fs::create_dir_all(&folder).map_err(|e| Error::io("create the folder", &folder, e))?;
        let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let staging = tempfile::Builder::new().prefix(".approval-").tempdir_in(parent);
        let staging = staging.map_err(|e| Error::io("create a folder beside", dir, e))?;
        let (fresh, target) = (staging.path().join("approval"), folder.join(format!("{}.sig", key.key_id())));
        draft::write_synced(&fresh, &signature)?;
        fs::rename(&fresh, &target).map_err(|e| Error::io("put in place", &target, e))?;
        draft::sync_dir(&folder)?;
        draft::sync_dir(dir)
    };
    approve().map_err(|e: Error| e.while_doing(format_args!("approve `{}`", dir.display())))
}

impl Policy {
    /// The approvals that count: by trusted publishers other than the signer's, one each.
    ///
    /// # Errors
    /// [`Code::Tampered`] or [`Code::SignatureInvalid`] when an approval of a trusted key does not hold, or something
    /// else lies among them.
    pub(crate) fn approvals(
        &self,
        bundle: &Bundle,
        manifest: &Manifest,
        entries: &[FileEntry],
        signer: Option<&Signer>,
    ) -> Result<Vec<Approval>> {
        let files: Vec<_> = bundle.files().filter(|(path, _)| is_approval(path)).collect();
        if limits::APPROVALS_MAX < files.len() {
            return Err(Error::new(Code::TooLarge, format!("{} approvals", files.len())));
        }
        let mut seen = BTreeSet::new();
        let mut approvals = Vec::new();
        for (path, bytes) in files {
            let name = path[APPROVALS.len() + 1..].strip_suffix(".sig").unwrap_or_default();
            if name.len() != 64 || !name.bytes().all(|c| c.is_ascii_hexdigit()) {
                return Err(tampered(format!("{path:?} is no approval")));
            }
            let doing = |e: Error| e.while_doing(format_args!("verify the approval {:?}", &name[..16]));
            let envelope = Envelope::parse(bytes).map_err(doing)?;
            let trusted = self.trust.iter().filter(|entry| entry.key.id() == name);
            let Some(entry) = trusted
                .clone()
                .find(|entry| entry.may(Right::Approve, &manifest.name))
                .or(trusted.clone().next())
            else {
                continue;
            };
            envelope.verify(&entry.key).map_err(doing)?;
            envelope.check_files(entries.iter(), manifest.sealed.is_some()).map_err(doing)?;
            let counts = entry.may(Right::Approve, &manifest.name)
                && self.revocation(name).is_none()
                && entry.check_made(manifest).is_ok()
                && signer.is_none_or(|signer| signer.publisher != entry.publisher)
                && seen.insert(entry.publisher.clone());
            if counts {
                approvals.push(Approval { publisher: entry.publisher.clone(), key_id: name.to_owned() });
            }
        }
        Ok(approvals)
    }

    /// Refuses a bundle that fewer approved than the rules ask for.
    pub(crate) fn check_approvals(&self, name: &str, approvals: &[Approval]) -> Result<()> {
        let required =
            self.approvals.iter().filter(|rule| rule.is_about(name)).map(|rule| rule.required).max();
        match required {
            Some(required) if approvals.len() < required => {
                let by: Vec<_> = approvals.iter().map(|approval| approval.publisher.as_str()).collect();
                let by = if by.is_empty() { "nobody".to_owned() } else { by.join(", ") };
                Err(Error::new(
                    Code::ApprovalMissing,
                    format!(
                        "`{name}` needs the approval of {required} other publishers and has that of {by}"
                    ),
                )
                .hint("Have it approved with `bms approve`, then publish it again."))
            }
            _ => Ok(()),
        }
    }
}
