//! What killed uploads left behind.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::time::Duration;

use bms_wire::{Error, Result};

/// Another process may be uploading right now; its staged files are younger than this.
const STALE_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Removes staged files (`{digest}#{n}`) that nobody has written to for a day. Finished files never
/// have a `#` in their name.
pub(super) fn sweep(root: &Path) -> Result<()> {
    let blobs = root.join("store").join("blobs");
    if !blobs.is_dir() {
        return Ok(());
    }
    for folder in fs::read_dir(&blobs).map_err(|e| Error::io("list", &blobs, e))? {
        let folder = folder.map_err(|e| Error::io("list", &blobs, e))?.path();
        // A stray file is none of ours.
        if !folder.is_dir() {
            continue;
        }
        for file in fs::read_dir(&folder).map_err(|e| Error::io("list", &folder, e))? {
            let file = file.map_err(|e| Error::io("list", &folder, e))?.path();
            if file.file_name().is_some_and(is_staged) && is_stale(&file) {
                fs::remove_file(&file).map_err(|e| Error::io("remove the stale upload", &file, e))?;
            }
        }
    }
    Ok(())
}

fn is_staged(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.contains('#'))
}

fn is_stale(file: &Path) -> bool {
    let age = fs::metadata(file).and_then(|meta| meta.modified()).map(|at| at.elapsed().unwrap_or_default());
    age.is_ok_and(|age| STALE_AFTER < age)
}

#[cfg(test)]
mod tests;
