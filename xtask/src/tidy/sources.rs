//! The files of the checkout, read once.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::rust::Rust;
use crate::process;

/// A text file.
pub(crate) struct Source {
    /// Relative to the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// For `.rs` files: code and comments told apart.
    pub(crate) rust: Option<Rust>,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Source {
        let rust = path.ends_with(".rs").then(|| Rust::scan(text));
        Source { path: path.to_owned(), text: text.to_owned(), rust }
    }

    /// Whether the file holds only tests.
    pub(crate) fn is_test(&self) -> bool {
        self.path.split('/').any(|part| part == "tests" || part == "tests.rs" || part == "benches")
    }
}

/// Every text file that git tracks or would track.
pub(crate) struct Sources {
    pub(crate) files: Vec<Source>,
}

impl Sources {
    /// Reads the checkout. Files that are not UTF-8 are data and are left out.
    pub(crate) fn load(root: &Path) -> Result<Sources> {
        let mut git = Command::new("git");
        git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root);
        let list = process::output(&mut git)?;
        let mut paths: Vec<&str> = list.split('\0').filter(|path| !path.is_empty()).collect();
        paths.sort_unstable();
        paths.dedup();
        let read = |path: &&str| Some(Source::new(path, &std::fs::read_to_string(root.join(path)).ok()?));
        Ok(Sources { files: paths.iter().filter_map(read).collect() })
    }

    /// The Rust files with what was found in them.
    pub(crate) fn rust(&self) -> impl Iterator<Item = (&Source, &Rust)> {
        self.files.iter().filter_map(|source| Some((source, source.rust.as_ref()?)))
    }

    /// Files given as (path, text).
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Sources {
        Sources { files: files.iter().map(|(path, text)| Source::new(path, text)).collect() }
    }
}
