//! Where a slot's bundle comes from.

use std::path::PathBuf;

use bms_registry::Registry;
use bms_wire::{Error, Result};

use super::VersionName;

/// Where a slot's bundle comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// An ordinary folder, read where it is.
    Folder(PathBuf),
    /// The registry: its files are written below `into`, anew for every start, so that whatever
    /// happened to an earlier copy does not last.
    Registry { registry: Registry, into: PathBuf },
}

impl Source {
    /// The folder with the bundle of this version.
    pub(crate) async fn folder(&self, of: &VersionName) -> Result<PathBuf> {
        match self {
            Source::Folder(folder) => Ok(folder.clone()),
            Source::Registry { registry, into } => registry.materialise(&of.model, of.version, into).await,
        }
    }

    /// Removes what [`Source::folder`] wrote.
    pub(crate) async fn discard(&self, of: &VersionName) -> Result<()> {
        let Source::Registry { registry, into } = self else { return Ok(()) };
        let digest = registry.version(&of.model, of.version).await?.digest;
        let folder = into.join(digest);
        match tokio::fs::remove_dir_all(&folder).await {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &folder, e)),
            _ => Ok(()),
        }
    }
}
