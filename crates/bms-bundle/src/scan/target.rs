//! Files to be scanned: one, or all under a folder.

use std::path::{Path, PathBuf};

use bms_wire::{Code, Error, Result};

use super::{Format, Scanned, scan_file};
use crate::{Content, Finding, Nature, Severity};

/// Folders inside folders.
const DEPTH_MAX: usize = 64;
/// Files of one call.
const FILES_MAX: usize = 1_000_000;

/// One file to be scanned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where it is.
    pub path: PathBuf,
    /// Bytes, as far as the system tells.
    pub size_bytes: u64,
}

/// The file at `path`, or every file under the folder there, sorted by path. Links to files are followed, as loaders
/// do; links to folders are not.
///
/// # Errors
/// [`Code::NotFound`] or [`Code::Io`] when `path` itself cannot be read, [`Code::TooLarge`] when there are too many.
pub fn targets(path: &Path) -> Result<Vec<Target>> {
    let metadata = std::fs::metadata(path).map_err(|e| Error::io("scan", path, e))?;
    if !metadata.is_dir() {
        return Ok(vec![Target { path: path.to_owned(), size_bytes: metadata.len() }]);
    }
    let mut targets = Vec::new();
    let mut pending = vec![(path.to_owned(), 0)];
    while let Some((folder, depth)) = pending.pop() {
        let entries = std::fs::read_dir(&folder).map_err(|e| Error::io("read the folder", &folder, e))?;
        for entry in entries {
            let entry = entry.map_err(|e| Error::io("read the folder", &folder, e))?;
            let path = entry.path();
            let kind = entry.file_type().map_err(|e| Error::io("read", &path, e))?;
            if kind.is_dir() && depth < DEPTH_MAX {
                pending.push((path, depth + 1));
                continue;
            }
            // What is no file, or cannot be read, is told as such when its turn comes.
            let size_bytes = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
            targets.push(Target { path, size_bytes });
            if FILES_MAX < targets.len() {
                return Err(Error::new(Code::TooLarge, format!("there are over {FILES_MAX} files"))
                    .hint("Scan the folders inside one by one."));
            }
        }
    }
    targets.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(targets)
}

impl Target {
    /// Reads and scans it. What cannot be read is a finding, never a clean file.
    pub fn scan(&self) -> (Scanned, Option<Content>) {
        let name = self.path.display().to_string();
        if self.path.is_symlink() && self.path.is_dir() {
            return (unread(&name, Severity::Low, "a link to a folder is not followed"), None);
        }
        match Content::open(&self.path) {
            Ok(content) => (scan_file(&name, &content), Some(content)),
            Err(error) => (unread(&name, Severity::High, &error.to_string()), None),
        }
    }
}

fn unread(name: &str, severity: Severity, why: &str) -> Scanned {
    let finding = Finding {
        rule: "unreadable".to_owned(),
        severity,
        nature: Nature::Malformed,
        message: why.to_owned(),
        location: name.to_owned(),
    };
    Scanned { path: name.to_owned(), format: Format::Unknown, size_bytes: 0, findings: vec![finding] }
}
