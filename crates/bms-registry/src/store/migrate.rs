//! What an older version of the program stored: whole files, `store/blobs/ab/abcd…`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use bms_store::{Digest, Store};
use bms_wire::{Error, Result};

use super::blocking;

/// Puts the files in `blobs` into the store and removes them there, one by one: a process may be killed at any of them.
pub(super) async fn take_over(store: &Store, blobs: &Path) -> Result<()> {
    let folder = blobs.to_owned();
    let files = blocking(move || list(&folder)).await?;
    if !files.is_empty() {
        tracing::info!(
            files = files.len(),
            "files stored by an older version are taken over; this happens once"
        );
    }
    for (digest, path) in files {
        let opened = path.clone();
        let (file, size) = blocking(move || {
            let file = File::open(&opened).map_err(|e| Error::io("open", &opened, e))?;
            let size = file.metadata().map_err(|e| Error::io("examine", &opened, e))?.len();
            Ok((file, size))
        })
        .await?;
        let mut push = store.push().await?;
        let stored = push.read(file, Some(size)).await?;
        if stored.digest != digest {
            // It stays where it is: whoever wants to save what can be saved finds it.
            tracing::warn!(%digest, path = %path.display(), "a file stored by an older version rotted; upload it again");
            continue;
        }
        push.finish().await?;
        blocking(move || fs::remove_file(&path).map_err(|e| Error::io("remove", &path, e))).await?;
    }
    Ok(())
}

fn list(blobs: &Path) -> Result<Vec<(Digest, PathBuf)>> {
    let mut files = Vec::new();
    if !blobs.is_dir() {
        return Ok(files);
    }
    for folder in fs::read_dir(blobs).map_err(|e| Error::io("list", blobs, e))? {
        let folder = folder.map_err(|e| Error::io("list", blobs, e))?.path();
        // A stray file is none of ours.
        if !folder.is_dir() {
            continue;
        }
        for file in fs::read_dir(&folder).map_err(|e| Error::io("list", &folder, e))? {
            let path = file.map_err(|e| Error::io("list", &folder, e))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if let Ok(digest) = Digest::parse(name) {
                files.push((digest, path));
            }
        }
    }
    files.sort();
    Ok(files)
}
