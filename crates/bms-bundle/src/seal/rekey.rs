//! Changing who can open a sealed bundle, and leasing its key, without touching its data.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use bms_wire::{Code, Error, Result};

use super::lease::system_ms;
use super::{ENVELOPE, Envelope, Kms, Lease, LeasedKey, Recipient, SEALED, To};
use crate::{Bundle, Policy, PublicKey, SigningKey, draft};

/// What changes.
#[derive(Default)]
pub struct Rekeyed<'a> {
    /// Who can open it from now on, too.
    pub add: &'a [To],
    /// Names of those who cannot any more, see [`Recipient::name`]. Who unwrapped the key before may have kept it:
    /// against that, seal the bundle anew.
    pub remove: &'a [String],
    /// Services that wrap the key anew, with the newest version of theirs.
    pub rewrap: &'a [&'a dyn Kms],
}

/// Replaces the envelope of the sealed bundle in `dir`. The policy's keys open it. At any moment there is one envelope
/// that holds, the old or the new. Returns the new one.
///
/// # Errors
/// The gate's, as far as the outside goes; [`Code::KeyMissing`]; [`Code::NotFound`] for a recipient to be removed that
/// there is not; [`Code::Conflict`] while another rekey is under way; [`Code::Io`] and its kin.
pub fn rekey_dir(dir: &Path, policy: &Policy, change: &Rekeyed<'_>, signer: &SigningKey) -> Result<Envelope> {
    let doing = |e: Error| e.while_doing(format_args!("rekey `{}`", dir.display()));
    let lock = dir.join(SEALED);
    let lock = File::open(&lock).map_err(|e| Error::io("open", &lock, e)).map_err(doing)?;
    if lock.try_lock().is_err() {
        return Err(doing(Error::new(Code::Conflict, "it is being rekeyed by another process")));
    }
    let (info, name, envelope) = policy.outside_of(&Bundle::open(dir)?).map_err(doing)?;
    let key = policy.keys.open(&info, &envelope).map_err(doing)?;
    refuse_leased(&key.lease).map_err(doing)?;
    let mut kept = envelope.recipients().to_vec();
    for gone in change.remove {
        let before = kept.len();
        kept.retain(|recipient| recipient.name() != *gone);
        if kept.len() == before {
            let names: Vec<_> = envelope.recipients().iter().map(Recipient::name).collect();
            return Err(doing(Error::new(Code::NotFound, format!("it is not sealed for {gone:?}")))
                .hint(format!("It is sealed for {}.", names.join(", "))));
        }
    }
    for kms in change.rewrap {
        rewrap(&mut kept, *kms).map_err(doing)?;
    }
    let revision = envelope.revision().saturating_add(1);
    let bytes =
        Envelope::write(&info, &name, &key.key, (kept, change.add), revision, signer).map_err(doing)?;
    let fresh = Envelope::parse(&bytes)?;
    replace(dir, &bytes)?;
    Ok(fresh)
}

fn rewrap(kept: &mut [Recipient], kms: &dyn Kms) -> Result<()> {
    let mut found = false;
    for recipient in kept {
        if let Recipient::Kms { uri, wrapped } = recipient
            && uri == kms.uri()
        {
            *wrapped = kms.rewrap(wrapped)?;
            found = true;
        }
    }
    match found {
        true => Ok(()),
        false => Err(Error::new(Code::NotFound, format!("it is not sealed for {}", kms.uri()))),
    }
}

/// Writes the envelope beside the bundle, waits until it is on disk, and renames it into place.
fn replace(dir: &Path, bytes: &[u8]) -> Result<()> {
    let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Not in the bundle's folder: what a killed process leaves there would be a file nobody signed.
    let staged = tempfile::Builder::new().prefix(".rekey-").tempfile_in(parent);
    let mut staged = staged.map_err(|e| Error::io("make a file in", parent, e))?;
    let written = staged.write_all(bytes).and_then(|()| staged.as_file().sync_all());
    written.map_err(|e| Error::io("write", staged.path(), e))?;
    let target = dir.join(ENVELOPE);
    staged.persist(&target).map_err(|e| Error::io("put in place", &target, e.error))?;
    draft::sync_dir(dir)
}

/// Who was lent a key does not hand it on.
fn refuse_leased(lease: &Option<Arc<LeasedKey>>) -> Result<()> {
    match lease {
        None => Ok(()),
        Some(_) => {
            Err(Error::new(Code::PermissionDenied, "a leased key opens the bundle and does nothing else")
                .hint("Use a key of one of the bundle's recipients."))
        }
    }
}

/// Leases the key of the sealed bundle in `dir` to an edge node: the bytes of the lease's file. The policy's keys
/// open the bundle.
///
/// # Errors
/// The gate's, as far as the outside goes; [`Code::KeyMissing`]; [`Code::InvalidRequest`] when the times make no sense.
pub fn lease_dir(
    dir: &Path,
    policy: &Policy,
    (node, node_key): (&str, &PublicKey),
    (not_before_ms, expires_ms): (Option<i64>, i64),
    signer: &SigningKey,
) -> Result<Vec<u8>> {
    let lease = || {
        let (info, name, envelope) = policy.outside_of(&Bundle::open(dir)?)?;
        let key = policy.keys.open(&info, &envelope)?;
        refuse_leased(&key.lease)?;
        let now = system_ms();
        let times = (now, not_before_ms.unwrap_or(now), expires_ms);
        Lease::issue((&info, &name, &key.key), (node, node_key), times, signer)
    };
    lease().map_err(|e: Error| e.while_doing(format_args!("lease the key of `{}`", dir.display())))
}

impl std::fmt::Debug for Rekeyed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rekeyed")
            .field("add", &self.add)
            .field("remove", &self.remove)
            .finish_non_exhaustive()
    }
}
