//! Files put together from their chunks.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bms_wire::{Error, Result};

/// A file stays this long after it was last asked for. One that a version on disk is a link to takes no room of its own.
const STAYS: Duration = Duration::from_secs(60 * 60);

/// Whether the file at `path` is there with the content of that digest. Then its hour begins anew. One with other content
/// is removed.
pub(super) fn is_whole(path: &Path, digest: &str) -> Result<bool> {
    let Ok(mut file) = File::open(path) else { return Ok(false) };
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(&mut file).map_err(|e| Error::io("read", path, e))?;
    if hasher.finalize().to_hex().as_str() != digest {
        fs::remove_file(path).map_err(|e| Error::io("remove", path, e))?;
        return Ok(false);
    }
    // A file that others link to is read-only, which does not keep its owner from setting its times.
    file.set_modified(SystemTime::now()).map_err(|e| Error::io("touch", path, e))?;
    Ok(true)
}

/// Which files go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sweep {
    /// All: nobody is using them yet.
    All,
    /// Those that were not asked for lately.
    Old,
}

/// Removes files that were put together, but not those that another process is writing.
pub(super) fn sweep(folder: &Path, which: Sweep) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder).map_err(|e| Error::io("list", folder, e))? {
        let path = entry.map_err(|e| Error::io("list", folder, e))?.path();
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        let age = meta.modified().ok().and_then(|at| at.elapsed().ok()).unwrap_or_default();
        let is_part = path.extension().is_some_and(|extension| extension == "part");
        let goes = match which {
            _ if is_part => 24 * STAYS < age,
            // Several processes may use one registry: what was touched just now may be another's.
            Sweep::All => Duration::from_secs(60) < age && meta.nlink() == 1,
            Sweep::Old => STAYS < age,
        };
        if goes {
            fs::remove_file(&path).map_err(|e| Error::io("remove", &path, e))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
