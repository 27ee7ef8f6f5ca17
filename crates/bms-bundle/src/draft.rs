//! Writing a bundle.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use bms_wire::{Code, Error, Result};

use crate::{FileEntry, MANIFEST, Manifest, SIGNATURE, SigningKey, path, signature};

/// A bundle in the making: a manifest whose `files` are filled in when it is written.
#[derive(Clone, Debug)]
pub struct Draft {
    manifest: Manifest,
    files: BTreeMap<String, Vec<u8>>,
    replace: bool,
}

/// Writes a bundle to the folder `dir`, which must not exist yet or be empty. Returns the
/// manifest as written, `files` filled in.
///
/// # Errors
/// As [`Draft::write`].
pub fn write(dir: &Path, manifest: Manifest, files: Vec<(String, Vec<u8>)>) -> Result<Manifest> {
    let mut draft = Draft::new(manifest);
    for (path, bytes) in files {
        draft.add(path, bytes)?;
    }
    draft.write(dir)
}

impl Draft {
    /// A draft without files. Whatever `manifest.files` holds is replaced on writing.
    pub fn new(manifest: Manifest) -> Draft {
        Draft { manifest, files: BTreeMap::new(), replace: false }
    }

    /// Adds a file.
    ///
    /// # Errors
    /// [`Code::InvalidBundle`] when the path is invalid, reserved or taken.
    pub fn add(&mut self, path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Result<&mut Draft> {
        let path = path.into();
        path::check_path(&path)?;
        if [MANIFEST, SIGNATURE].iter().any(|name| path.eq_ignore_ascii_case(name)) {
            return Err(Error::new(Code::InvalidBundle, format!("the name {path:?} is reserved")));
        }
        if self.files.contains_key(&path) {
            return Err(Error::new(Code::InvalidBundle, format!("the file {path:?} was added twice")));
        }
        self.files.insert(path, bytes.into());
        Ok(self)
    }

    /// Lets [`Draft::write`] take the place of a bundle that is already there.
    #[must_use]
    pub fn replacing(mut self) -> Draft {
        self.replace = true;
        self
    }

    /// Writes the folder: everything goes to a new folder beside `dir` and is synced, then that
    /// is renamed, so `dir` never holds half a bundle, whenever the machine stops.
    ///
    /// # Errors
    /// [`Code::InvalidBundle`] when the manifest is invalid or names a model file that was not
    /// added; [`Code::Conflict`] when `dir` exists; [`Code::StorageFull`] or [`Code::Io`].
    pub fn write(self, dir: &Path) -> Result<Manifest> {
        self.write_with(dir, None)
    }

    /// As [`Draft::write`], and signs, so that no unsigned state is ever seen at `dir`.
    ///
    /// # Errors
    /// As [`Draft::write`].
    pub fn write_signed(self, dir: &Path, key: &SigningKey) -> Result<Manifest> {
        self.write_with(dir, Some(key))
    }

    fn write_with(mut self, dir: &Path, key: Option<&SigningKey>) -> Result<Manifest> {
        let doing = || format!("write the bundle `{}`", dir.display());
        self.manifest.files = self.files.iter().map(|(path, bytes)| FileEntry::of(path, bytes)).collect();
        let bytes = self.manifest.to_bytes().map_err(|e| e.while_doing(doing()))?;
        let manifest = Manifest::parse(&bytes).map_err(|e| e.while_doing(doing()))?;
        if let Some(key) = key {
            let mut signed = manifest.files.clone();
            signed.push(FileEntry::of(MANIFEST, &bytes));
            self.files.insert(SIGNATURE.to_owned(), signature::sign(&manifest.name, &signed, key)?);
        }
        self.files.insert(MANIFEST.to_owned(), bytes);
        let parent = match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).map_err(|e| Error::io("create the folder", parent, e))?;
        let staging = tempfile::Builder::new()
            .prefix(".bundle-")
            .tempdir_in(parent)
            .map_err(|e| Error::io("create a folder in", parent, e))?;
        let fresh = staging.path().join("new");
        write_folder(&fresh, &self.files)?;
        put_in_place(&fresh, dir, &staging.path().join("old"), self.replace)?;
        sync_dir(parent)?;
        Ok(manifest)
    }
}

/// Writes and syncs files and the folders that hold them.
fn write_folder(root: &Path, files: &BTreeMap<String, Vec<u8>>) -> Result<()> {
    let mut folders = vec![root.to_owned()];
    fs::create_dir(root).map_err(|e| Error::io("create the folder", root, e))?;
    for (path, bytes) in files {
        let target = root.join(path);
        let folder: PathBuf = target.parent().unwrap_or(root).to_owned();
        if !folders.contains(&folder) {
            fs::create_dir_all(&folder).map_err(|e| Error::io("create the folder", &folder, e))?;
            folders.extend(folder.ancestors().take_while(|up| *up != root).map(Path::to_owned));
        }
        write_synced(&target, bytes)?;
    }
    folders.iter().rev().try_for_each(|folder| sync_dir(folder))
}

/// Renames `fresh` to `dir`. A bundle already there is first moved to `old`, which the caller
/// deletes; a reader in that instant finds no bundle, never a mixed one.
fn put_in_place(fresh: &Path, dir: &Path, old: &Path, replace: bool) -> Result<()> {
    let occupied = fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) || dir.is_file();
    if occupied {
        // Only a bundle may be replaced: a slip of the path must not delete somebody's folder.
        if !(replace && dir.join(MANIFEST).is_file()) {
            return Err(Error::new(Code::Conflict, format!("`{}` exists already", dir.display()))
                .hint("Choose another folder, or remove this one first."));
        }
        fs::rename(dir, old).map_err(|e| Error::io("set aside", dir, e))?;
    }
    fs::rename(fresh, dir).map_err(|e| Error::io("put in place", dir, e))
}

/// Creates a file with this content and waits until it is on disk.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|e| Error::io("write", path, e))
}

/// Waits until the names in a folder are on disk.
#[cfg(unix)]
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|file| file.sync_all()).map_err(|e| Error::io("sync the folder", dir, e))
}

/// Folders cannot be synced here; renames are ordered by the file system's journal.
#[cfg(not(unix))]
pub(crate) fn sync_dir(_dir: &Path) -> Result<()> {
    Ok(())
}
