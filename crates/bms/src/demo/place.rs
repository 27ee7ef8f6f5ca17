//! Where the demo keeps what it makes.

use std::path::{Path, PathBuf};

use bms_bundle::SigningKey;
use bms_wire::{Code, Error, Result};
use tempfile::TempDir;

use crate::home::Home;

/// The demo's folders, with keys of its own: nothing of the user's is read or changed.
#[derive(Debug)]
pub(crate) struct Place {
    /// Data sets and bundles.
    pub(crate) work: PathBuf,
    /// Keys and trust policy.
    pub(crate) home_dir: PathBuf,
    /// The trust policy's file.
    pub(crate) policy: PathBuf,
    /// Keeps a temporary folder until the end.
    _temporary: Option<TempDir>,
}

impl Place {
    /// In `dir`, which must be empty, or in a temporary folder.
    pub(crate) fn make(dir: Option<&Path>) -> Result<Place> {
        let (root, temporary) = match dir {
            Some(dir) => {
                std::fs::create_dir_all(dir).map_err(|e| Error::io("create", dir, e))?;
                let mut entries = std::fs::read_dir(dir).map_err(|e| Error::io("read", dir, e))?;
                if entries.next().is_some() {
                    return Err(Error::new(Code::Conflict, format!("`{}` is not empty", dir.display()))
                        .hint("Choose another folder with --dir."));
                }
                // Child processes get these paths, whatever folder they run in.
                (dir.canonicalize().map_err(|e| Error::io("open", dir, e))?, None)
            }
            None => {
                let made = tempfile::Builder::new().prefix("bms-demo-").tempdir();
                let made = made.map_err(|e| Error::io("create a folder in", &std::env::temp_dir(), e))?;
                (made.path().to_owned(), Some(made))
            }
        };
        let (work, home_dir) = (root.join("work"), root.join("home"));
        for dir in [&work, &home_dir] {
            std::fs::create_dir_all(dir).map_err(|e| Error::io("create", dir, e))?;
        }
        let policy = Home::new(Some(home_dir.clone())).policy_file()?;
        Ok(Place { work, home_dir, policy, _temporary: temporary })
    }

    /// The demo's home folder.
    pub(crate) fn home(&self) -> Home {
        Home::new(Some(self.home_dir.clone()))
    }

    /// The key that signs the demo's bundles.
    pub(crate) fn key(&self) -> Result<SigningKey> {
        self.home().signing_key()
    }

    /// A file or folder of this name.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.work.join(name)
    }
}
