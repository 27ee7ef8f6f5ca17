//! What will be pulled: every file, where it lies, and what it must be.

use std::collections::BTreeSet;
use std::path::PathBuf;

use bms_wire::{Code, Error, Result, limits};
use url::Url;

use crate::auth::Scope;
use crate::digest::Expected;

/// Where one file lies.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// At an address.
    Web {
        url: Url,
        scope: Option<Scope>,
        /// The commit it must be of, when the source tells.
        commit: Option<String>,
    },
    /// On this machine.
    Local(PathBuf),
}

/// One file.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Where it goes.
    pub(crate) path: String,
    /// Its bytes, when they are known.
    pub(crate) size: Option<u64>,
    /// What it must be.
    pub(crate) expected: Expected,
    pub(crate) place: Place,
    /// A file of this machine that may be it already.
    pub(crate) cached: Option<PathBuf>,
}

/// Everything that will be pulled.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The source, as it is called.
    pub(crate) source: String,
    /// What the source's name meant when it was asked: a commit, or a digest.
    pub(crate) revision: Option<String>,
    /// Whether the result is one file rather than a folder.
    pub(crate) single: bool,
    /// The files.
    pub(crate) items: Vec<Item>,
}

impl Plan {
    /// Checks the names against each other and the sizes against the limits, before anything is asked for.
    ///
    /// # Errors
    /// [`Code::InvalidBundle`] for names that lead elsewhere or collide, [`Code::TooLarge`], [`Code::NotFound`] when there is
    /// nothing.
    pub(crate) fn check(&self, bytes_max: u64) -> Result<()> {
        if self.items.is_empty() {
            return Err(Error::new(Code::NotFound, format!("`{}` has no file that is wanted", self.source))
                .hint("Check the path and the patterns of --include and --exclude."));
        }
        if limits::PULL_FILES_MAX < self.items.len() {
            let what = format!("there are {} files, over {}", self.items.len(), limits::PULL_FILES_MAX);
            return Err(Error::new(Code::TooLarge, what).hint("Pull a part of them, with --include."));
        }
        let mut names = BTreeSet::new();
        for item in &self.items {
            bms_bundle::check_path(&item.path)
                .map_err(|e| e.while_doing(format_args!("take over what `{}` lists", self.source)))?;
            if !names.insert(item.path.to_lowercase()) {
                return Err(collision(&item.path));
            }
        }
        for name in &names {
            let mut folder = name.as_str();
            while let Some((above, _)) = folder.rsplit_once('/') {
                if names.contains(above) {
                    return Err(collision(name));
                }
                folder = above;
            }
        }
        let total = self.bytes();
        if bytes_max < total {
            let what = format!("there are {total} bytes, over the limit of {bytes_max}");
            return Err(Error::new(Code::TooLarge, what)
                .hint("Pull a part, with --include, or raise the limit with --max-bytes."));
        }
        Ok(())
    }

    /// Bytes of all files whose size is known.
    pub(crate) fn bytes(&self) -> u64 {
        self.items.iter().fold(0_u64, |sum, item| sum.saturating_add(item.size.unwrap_or(0)))
    }
}

fn collision(path: &str) -> Error {
    let what = format!("the path {path:?} collides with another one");
    Error::new(Code::InvalidBundle, what)
        .hint("On some file systems one file would silently replace the other; leave one out with --exclude.")
}
