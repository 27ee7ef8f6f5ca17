//! Where the audit chain must end, noted outside the database.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use bms_wire::{Code, Error, Result};
use serde::{Deserialize, Serialize};

use super::NO_HASH;

/// The last event of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Head {
    /// Its number; 0 for an empty chain.
    pub(crate) sequence: u64,
    /// Its hash; zeros for an empty chain.
    pub(crate) hash: String,
}

/// The file `audit.head`. It is written after the database's commit, so a crash may leave it behind the
/// chain; it can be ahead of the chain only when events were cut off.
#[derive(Debug)]
pub(crate) struct HeadFile {
    path: PathBuf,
}

impl HeadFile {
    pub(crate) fn in_folder(dir: &Path) -> Self {
        HeadFile { path: dir.join("audit.head") }
    }

    /// Makes the file for a chain without events, unless it is there: from now on its absence means that
    /// someone removed it.
    pub(crate) fn begin(&self) -> Result<()> {
        match self.read()? {
            Some(_) => Ok(()),
            None => self.write(&Head { sequence: 0, hash: NO_HASH.to_owned() }),
        }
    }

    /// The noted head, `None` without a file.
    ///
    /// # Errors
    /// [`Code::Tampered`] when the file cannot be understood: it is only ever replaced as a whole.
    pub(crate) fn read(&self) -> Result<Option<Head>> {
        match fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| {
                Error::new(Code::Tampered, format!("`{}` was changed: {e}", self.path.display()))
            }),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("read", &self.path, e)),
        }
    }

    /// Notes a later head. A file that is missing, unreadable or not behind `head` is left as it is: it is
    /// the evidence by which verification finds what happened.
    pub(crate) fn advance(&self, head: &Head) -> Result<()> {
        match self.read() {
            Ok(Some(noted)) if noted.sequence < head.sequence => self.write(head),
            Ok(_) => Ok(()),
            Err(error) if error.code() == Code::Tampered => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Replaces the file as a whole, durably.
    fn write(&self, head: &Head) -> Result<()> {
        let staged = self.path.with_extension("head.new");
        let bytes = format!(r#"{{"sequence":{},"hash":"{}"}}"#, head.sequence, head.hash);
        let write = |path: &Path| {
            let mut file = File::create(path)?;
            file.write_all(bytes.as_bytes())?;
            file.sync_all()
        };
        write(&staged).map_err(|e| Error::io("write", &staged, e))?;
        fs::rename(&staged, &self.path).map_err(|e| Error::io("replace", &self.path, e))?;
        self.path.parent().map_or(Ok(()), sync_folder)
    }
}

/// Makes the entries of `dir` durable.
pub(crate) fn sync_folder(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| Error::io("flush the folder", dir, e))
}

#[cfg(test)]
mod tests;
