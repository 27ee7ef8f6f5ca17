//! Opening the files of a folder, once, without following links.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use bms_wire::{Code, Error, Result, limits};

use crate::{Content, path};

/// Files by relative path.
pub(crate) type Files = BTreeMap<String, Content>;

/// Folders inside folders.
const DEPTH_MAX: usize = 32;

/// Opens every file under `dir`.
pub(crate) fn read(dir: &Path) -> Result<Files> {
    let mut files = Files::new();
    let mut bytes_left = limits::BUNDLE_BYTES_MAX;
    for (name, path) in list(dir)? {
        let content = read_file(&path, bytes_left)?;
        bytes_left -= content.len() as u64;
        files.insert(name, content);
    }
    Ok(files)
}

/// Lists every file under `dir` by relative path. Symbolic links and special files are refused:
/// what was checked must be what is loaded, whatever changes on disk meanwhile.
pub(crate) fn list(dir: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    let mut pending = vec![(dir.to_owned(), String::new(), 0)];
    while let Some((folder, prefix, depth)) = pending.pop() {
        let entries = std::fs::read_dir(&folder).map_err(|e| Error::io("read the folder", &folder, e))?;
        for entry in entries {
            let entry = entry.map_err(|e| Error::io("read the folder", &folder, e))?;
            let path = entry.path();
            let name = entry.file_name();
            let name = name.to_str().ok_or_else(|| refuse(&path, "has a name that is not UTF-8"))?;
            let relative = format!("{prefix}{name}");
            let kind = entry.file_type().map_err(|e| Error::io("read", &path, e))?;
            if kind.is_dir() {
                if DEPTH_MAX <= depth {
                    return Err(refuse(&path, "is nested too deeply"));
                }
                pending.push((path, format!("{relative}/"), depth + 1));
            } else if kind.is_file() {
                if limits::BUNDLE_FILES_MAX + 2 <= files.len() {
                    return Err(too_large(format!("over {} files", limits::BUNDLE_FILES_MAX)));
                }
                files.insert(relative, path);
            } else {
                return Err(refuse(&path, "is a link or a special file"));
            }
        }
    }
    path::check_set(files.keys().map(String::as_str))?;
    Ok(files)
}

/// Opens one regular file of at most `bytes_max` bytes.
pub(crate) fn read_file(path: &Path, bytes_max: u64) -> Result<Content> {
    let file = open(path)?;
    let metadata = file.metadata().map_err(|e| Error::io("read", path, e))?;
    if !metadata.is_file() {
        return Err(refuse(path, "is a link or a special file"));
    }
    let size = metadata.len();
    if bytes_max < size {
        return Err(too_large(format!(
            "`{}` holds {size} bytes, at most {bytes_max} are left",
            path.display()
        )));
    }
    Content::of_file(file, size).map_err(|e| Error::io("read", path, e))
}

#[cfg(unix)]
fn open(path: &Path) -> Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    // No link is followed and no named pipe is waited for, even one put there since the listing.
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path).map_err(|e| {
        match e.raw_os_error() {
            Some(libc::ELOOP) => refuse(path, "is a link or a special file"),
            _ => Error::io("open", path, e),
        }
    })
}

#[cfg(not(unix))]
fn open(path: &Path) -> Result<File> {
    OpenOptions::new().read(true).open(path).map_err(|e| Error::io("open", path, e))
}

fn refuse(path: &Path, why: &str) -> Error {
    Error::new(Code::InvalidBundle, format!("`{}` {why}", path.display()))
        .hint("A bundle holds regular files and folders only.")
}

fn too_large(message: impl Into<String>) -> Error {
    Error::new(Code::TooLarge, message)
}
