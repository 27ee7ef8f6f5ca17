//! Files and folders that are on the disk once the call returns.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use bms_wire::{Error, Result};

/// Writes a small file in place of an earlier one: whenever the machine stops, the file holds the
/// old or the new content.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let draft = path.with_extension("new");
    let write = || {
        let mut file = File::create(&draft)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(|e| Error::io("write", &draft, e))?;
    rename(&draft, path)
}

/// Gives a file or folder another name, and makes sure the name lasts.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|e| Error::io("put in place", to, e))?;
    to.parent().map_or(Ok(()), sync_folder)
}

/// Makes sure that the entries of a folder last.
pub(crate) fn sync_folder(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| Error::io("flush", dir, e))
}

/// Makes a folder and those above it; its own entry lasts, too.
pub(crate) fn make_folder(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(|e| Error::io("make the folder", dir, e))?;
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent),
        _ => Ok(()),
    }
}

/// Removes a folder with what is in it. One that is not there is fine.
pub(crate) fn remove_folder(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("remove", dir, e)),
        _ => Ok(()),
    }
}

/// Removes a file. One that is not there is fine.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("remove", path, e)),
        _ => Ok(()),
    }
}
