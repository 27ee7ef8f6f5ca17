//! Checkpoints on disk: written whole or not at all, verified before use.
//!
//! Layout of a file: the magic, the length of the JSON head, the head, the blobs the head gives the
//! lengths of, and the BLAKE3 of everything before. A file appears under its name by renaming, after
//! its bytes were flushed; so a kill at any moment leaves the previous checkpoint in place.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use bms_wire::{Code, Error, Result};
use serde::{Deserialize, Serialize};

use crate::curves::Curves;

const MAGIC: &[u8; 8] = b"BMSCKPT1";
const DIGEST_LEN: usize = 32;
/// How many are kept: the newest, and the one before in case the newest is damaged.
const KEPT: usize = 2;
const PREFIX: &str = "epoch-";
const SUFFIX: &str = ".ckpt";

/// Everything a training needs to go on as if it had never stopped.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Checkpoint {
    /// Last epoch done.
    pub(crate) epoch: usize,
    /// Options and data this belongs to.
    pub(crate) fingerprint: String,
    /// The curves so far.
    pub(crate) curves: Curves,
    /// Weights.
    pub(crate) network: Vec<u8>,
    /// State of the optimiser.
    pub(crate) optimiser: Vec<u8>,
    /// Best epoch so far with its weights, when early stopping is on.
    pub(crate) best: Option<Best>,
}

/// The best epoch so far.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Best {
    /// Which.
    pub(crate) epoch: usize,
    /// Its validation loss.
    pub(crate) loss: f32,
    /// Its weights.
    pub(crate) network: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    epoch: usize,
    fingerprint: String,
    curves: Curves,
    network_bytes: usize,
    optimiser_bytes: usize,
    best: Option<BestHead>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BestHead {
    epoch: usize,
    loss: f32,
    network_bytes: usize,
}

impl Checkpoint {
    fn to_bytes(&self) -> Result<Vec<u8>> {
        let best = self.best.as_ref();
        let head = Head {
            epoch: self.epoch,
            fingerprint: self.fingerprint.clone(),
            curves: self.curves.clone(),
            network_bytes: self.network.len(),
            optimiser_bytes: self.optimiser.len(),
            best: best.map(|b| BestHead { epoch: b.epoch, loss: b.loss, network_bytes: b.network.len() }),
        };
        let head = serde_json::to_vec(&head)
            .map_err(|e| Error::new(Code::Internal, "failed to write a checkpoint's head").because(e))?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend((head.len() as u64).to_le_bytes());
        bytes.extend(head);
        bytes.extend(&self.network);
        bytes.extend(&self.optimiser);
        bytes.extend(best.map_or(&[][..], |best| &best.network));
        let digest = blake3::hash(&bytes);
        bytes.extend(digest.as_bytes());
        Ok(bytes)
    }

    /// Reads what [`Checkpoint::to_bytes`] wrote; anything else is an error in words.
    fn from_bytes(bytes: &[u8]) -> std::result::Result<Checkpoint, String> {
        let body = bytes.len().checked_sub(DIGEST_LEN).ok_or("it is cut off")?;
        let (body, digest) = bytes.split_at(body);
        if !body.starts_with(MAGIC) {
            return Err("it is not a checkpoint".into());
        }
        if blake3::hash(body).as_bytes() != digest {
            return Err("its digest does not match its content".into());
        }
        let mut rest = &body[MAGIC.len()..];
        let mut take = |count: usize| -> std::result::Result<&[u8], String> {
            let (part, after) = rest.split_at_checked(count).ok_or("a length in it is wrong")?;
            rest = after;
            Ok(part)
        };
        let length = take(8)?.try_into().map(u64::from_le_bytes).map_err(|_| "it has no head")?;
        let length = usize::try_from(length).map_err(|_| "a length in it is wrong")?;
        let head: Head =
            serde_json::from_slice(take(length)?).map_err(|e| format!("its head is malformed: {e}"))?;
        let network = take(head.network_bytes)?.to_vec();
        let optimiser = take(head.optimiser_bytes)?.to_vec();
        let best = match head.best {
            Some(b) => Some(Best { epoch: b.epoch, loss: b.loss, network: take(b.network_bytes)?.to_vec() }),
            None => None,
        };
        let Head { epoch, fingerprint, curves, .. } = head;
        Ok(Checkpoint { epoch, fingerprint, curves, network, optimiser, best })
    }
}

/// What a folder holds that can be gone on from.
#[derive(Debug, Default)]
pub(crate) struct Newest {
    /// The newest whole checkpoint.
    pub(crate) found: Option<(PathBuf, Checkpoint)>,
    /// Newer ones that cannot be used, and why.
    pub(crate) skipped: Vec<(PathBuf, String)>,
}

/// The checkpoints of one training.
#[derive(Debug)]
pub(crate) struct Folder {
    dir: PathBuf,
}

impl Folder {
    /// Opens `dir`, making it when it is not there.
    pub(crate) fn open(dir: &Path) -> Result<Folder> {
        fs::create_dir_all(dir).map_err(|e| Error::io("create the checkpoint folder", dir, e))?;
        Ok(Folder { dir: dir.to_owned() })
    }

    /// Whether there is one, usable or not.
    pub(crate) fn is_empty(&self) -> Result<bool> {
        Ok(self.list()?.is_empty())
    }

    /// Puts `checkpoint` on disk, then removes all but the newest two.
    pub(crate) fn save(&self, checkpoint: &Checkpoint) -> Result<PathBuf> {
        let path = self.dir.join(format!("{PREFIX}{:06}{SUFFIX}", checkpoint.epoch));
        write_atomic(&path, &checkpoint.to_bytes()?)?;
        let mut all = self.list()?;
        all.truncate(all.len().saturating_sub(KEPT));
        for (_, old) in all {
            fs::remove_file(&old).map_err(|e| Error::io("remove the old checkpoint", &old, e))?;
        }
        Ok(path)
    }

    /// The newest checkpoint that is whole, and those that were not.
    ///
    /// # Errors
    /// `Conflict` when the newest whole one belongs to other options or data; `Io` and the like.
    pub(crate) fn newest(&self, fingerprint: &str) -> Result<Newest> {
        let mut newest = Newest::default();
        for (_, path) in self.list()?.into_iter().rev() {
            let bytes = fs::read(&path).map_err(|e| Error::io("read the checkpoint", &path, e))?;
            match Checkpoint::from_bytes(&bytes) {
                Ok(found) if found.fingerprint == fingerprint => {
                    newest.found = Some((path, found));
                    break;
                }
                Ok(_) => {
                    let message = format!("`{}` belongs to other options or other data", path.display());
                    return Err(Error::new(Code::Conflict, message)
                        .hint("Resume with the options and data it was started with, or use an empty checkpoint folder."));
                }
                Err(reason) => newest.skipped.push((path, reason)),
            }
        }
        Ok(newest)
    }

    /// Epoch and path of each, oldest first.
    fn list(&self) -> Result<Vec<(usize, PathBuf)>> {
        let failed = |e| Error::io("list the checkpoint folder", &self.dir, e);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let epoch =
                name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok());
            if let Some(epoch) = epoch {
                found.push((epoch, entry.path()));
            }
        }
        found.sort();
        Ok(found)
    }
}

/// Writes `bytes` to `path` so that a reader sees the old file or the whole new one, even after a power cut.
fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |e| Error::io("write the checkpoint", path, e);
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    // The rename itself lasts only once the folder is flushed.
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
}

#[cfg(test)]
mod tests;
