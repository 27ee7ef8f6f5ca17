//! Where a slot's bundle comes from.

use std::path::PathBuf;
use std::sync::Arc;

use bms_registry::Registry;
use bms_wire::{Code, Error, Result};

use super::VersionName;
use crate::nodes::Pull;

/// Where a model lies on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The folder of a bundle.
    Bundle(PathBuf),
    /// A language model as it is published, a GGUF file or a Hugging Face folder, to be served under a name. It is
    /// not signed: the policy decides whether it is loaded all the same.
    Bare {
        /// The file or folder.
        path: PathBuf,
        /// What requests call it.
        name: String,
    },
}

/// Where a slot's bundle comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// Something on this machine, read where it is.
    Place(Place),
    /// The registry: its files are written below `into`, anew for every start, so that whatever
    /// happened to an earlier copy does not last.
    Registry { registry: Registry, into: PathBuf },
    /// An external engine brings its own model.
    Engine,
    /// The centre this machine works for.
    Centre(Arc<Pull>),
}

impl Source {
    /// Where this version lies now.
    pub(crate) async fn place(&self, of: &VersionName) -> Result<Place> {
        match self {
            Source::Place(place) => Ok(place.clone()),
            Source::Engine => Err(Error::new(Code::Internal, "what an engine brings lies nowhere here")),
            Source::Centre(pull) => pull.fetch(of).await.map(Place::Bundle),
            Source::Registry { registry, into } => {
                registry.materialise(&of.model, of.version, into).await.map(Place::Bundle)
            }
        }
    }

    /// Removes what [`Source::place`] wrote.
    pub(crate) async fn discard(&self, of: &VersionName) -> Result<()> {
        let folder = match self {
            Source::Place(_) | Source::Engine => return Ok(()),
            Source::Centre(pull) => return pull.discard(of).await,
            Source::Registry { registry, into } => {
                into.join(registry.version(&of.model, of.version).await?.digest)
            }
        };
        match tokio::fs::remove_dir_all(&folder).await {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &folder, e)),
            _ => Ok(()),
        }
    }
}
