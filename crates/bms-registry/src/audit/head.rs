//! Where the audit chain must end, noted outside the database.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bms_bundle::SigningKey;
use bms_bundle::statement::{self, Statement};
use bms_wire::{Code, Error, Result, limits};
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
    /// Signs it, once it was given.
    key: OnceLock<SigningKey>,
}

/// The kind of statement a signed head is.
pub(super) const KIND: &str = "application/vnd.bms.audit-head.v1+json";

impl HeadFile {
    pub(crate) fn in_folder(dir: &Path) -> Self {
        HeadFile { path: dir.join("audit.head"), key: OnceLock::new() }
    }

    /// Makes the file for a chain without events, unless it is there: from now on its absence means that
    /// someone removed it.
    pub(crate) fn begin(&self) -> Result<()> {
        match self.read()? {
            Some(_) => Ok(()),
            None => self.write(&Head { sequence: 0, hash: NO_HASH.to_owned() }),
        }
    }

    /// Where the file is, as no other one is: the machine's name and the path.
    pub(super) fn place(&self) -> String {
        let machine = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let path = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        format!("{}:{}", machine.trim_end(), path.display())
    }

    /// Signs the file with `key` from now on. Returns the head it notes without a signature, if it does.
    ///
    /// # Errors
    /// [`Code::Conflict`] when there is a key already; [`Code::Io`].
    pub(super) fn set_key(&self, key: SigningKey) -> Result<Option<Head>> {
        let unsigned = match fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes).ok(),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(Error::io("read", &self.path, e)),
        };
        self.key.set(key).map_err(|_| Error::new(Code::Conflict, "the audit log has a key already"))?;
        Ok(unsigned)
    }

    /// Replaces the unsigned head by the same one, signed.
    pub(super) fn sign_first(&self, head: &Head) -> Result<()> {
        self.write(head)
    }

    /// This head as a signed statement, when there is a key.
    pub(super) fn signed(&self, head: &Head) -> Result<Option<String>> {
        let signed = self.key.get().map(|key| statement::sign(KIND, head, key)).transpose()?;
        Ok(signed.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The noted head, `None` without a file. With a key it must be signed.
    ///
    /// # Errors
    /// [`Code::Tampered`] when the file cannot be understood: it is only ever replaced as a whole.
    pub(crate) fn read(&self) -> Result<Option<Head>> {
        let changed = |why: &dyn std::fmt::Display| {
            Error::new(Code::Tampered, format!("`{}` was changed: {why}", self.path.display()))
        };
        match (fs::read(&self.path), self.key.get()) {
            (Ok(bytes), None) => match serde_json::from_slice(&bytes) {
                Ok(head) => Ok(Some(head)),
                // Signed by a program that had the key; as claimed, this one cannot tell.
                Err(e) => Statement::parse(KIND, &bytes, limits::STATEMENT_BYTES_MAX)
                    .and_then(|statement| statement.body().map(Some))
                    .map_err(|_| changed(&e)),
            },
            (Ok(bytes), Some(key)) => {
                let read = || {
                    let statement = Statement::parse(KIND, &bytes, limits::STATEMENT_BYTES_MAX)?;
                    statement.verify(key.public())?;
                    statement.body().map(Some)
                };
                read().map_err(|e| changed(&e))
            }
            (Err(e), _) if e.kind() == ErrorKind::NotFound => Ok(None),
            (Err(e), _) => Err(Error::io("read", &self.path, e)),
        }
    }

    /// Notes a later head. A file that is missing, unreadable or not behind `head` is left as it is: it is
    /// the evidence by which verification finds what happened.
    pub(crate) fn advance(&self, head: &Head) -> Result<()> {
        match self.read() {
            // A process without the key leaves what one that has it signed: the file may lag behind.
            Ok(Some(_)) if self.key.get().is_none() && self.is_signed() => Ok(()),
            Ok(Some(noted)) if noted.sequence < head.sequence => self.write(head),
            Ok(_) => Ok(()),
            Err(error) if error.code() == Code::Tampered => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn is_signed(&self) -> bool {
        fs::read(&self.path)
            .is_ok_and(|bytes| Statement::parse(KIND, &bytes, limits::STATEMENT_BYTES_MAX).is_ok())
    }

    /// Replaces the file as a whole, durably.
    fn write(&self, head: &Head) -> Result<()> {
        let staged = self.path.with_extension("head.new");
        let bytes = match self.signed(head)? {
            Some(signed) => signed,
            None => format!(r#"{{"sequence":{},"hash":"{}"}}"#, head.sequence, head.hash),
        };
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
