//! Writing a bundle.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use bms_wire::{Code, Error, Result};

use crate::bundle::is_reserved;
use crate::{
    Content, FileEntry, MANIFEST, Manifest, SIGNATURE, SigningKey, bare, digest, folder, path, signature,
};

/// A bundle in the making: a manifest whose `files` are filled in when it is written.
#[derive(Clone, Debug)]
pub struct Draft {
    manifest: Manifest,
    files: BTreeMap<String, Source>,
    /// Files beside the listed ones, neither listed nor signed.
    beside: BTreeMap<String, Vec<u8>>,
    replace: bool,
}

/// Where a file of the bundle comes from.
#[derive(Clone, Debug)]
enum Source {
    Bytes(Vec<u8>),
    /// A file on this machine, which becomes part of the bundle without passing through memory.
    File(PathBuf),
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
        Draft { manifest, files: BTreeMap::new(), beside: BTreeMap::new(), replace: false }
    }

    /// A draft of a language model as it is published, see [`crate::Bundle::of_model`].
    ///
    /// # Errors
    /// As [`crate::Bundle::of_model`].
    pub fn of_model(path: &Path, name: Option<&str>) -> Result<Draft> {
        let opened = bare::open(path, name)
            .map_err(|e| e.while_doing(format_args!("open the model `{}`", path.display())))?;
        let mut draft = Draft::new(opened.bare.manifest);
        for (inside, file) in bare::files_of(path)? {
            draft.add_file(inside, file)?;
        }
        Ok(draft)
    }

    /// The manifest so far.
    pub fn manifest_mut(&mut self) -> &mut Manifest {
        &mut self.manifest
    }

    /// Adds a file.
    ///
    /// # Errors
    /// [`Code::InvalidBundle`] when the path is invalid, reserved or taken.
    pub fn add(&mut self, path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Result<&mut Draft> {
        self.insert(path.into(), Source::Bytes(bytes.into()))
    }

    /// Adds the file `from`, which may be of any size: it is linked or copied when the bundle is written. Where the
    /// file system allows a link, both names then stand for the same bytes on disk.
    ///
    /// # Errors
    /// As [`Draft::add`].
    pub fn add_file(&mut self, path: impl Into<String>, from: impl Into<PathBuf>) -> Result<&mut Draft> {
        self.insert(path.into(), Source::File(from.into()))
    }

    fn insert(&mut self, path: String, source: Source) -> Result<&mut Draft> {
        path::check_path(&path)?;
        if is_reserved(&path) {
            return Err(Error::new(Code::InvalidBundle, format!("the name {path:?} is reserved")));
        }
        if self.files.contains_key(&path) {
            return Err(Error::new(Code::InvalidBundle, format!("the file {path:?} was added twice")));
        }
        self.files.insert(path, source);
        Ok(self)
    }

    /// Puts a file beside those that are listed and signed.
    pub(crate) fn set_beside(&mut self, path: &str, bytes: Vec<u8>) {
        self.beside.insert(path.to_owned(), bytes);
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
        self.manifest.files = Vec::new();
        self.manifest.validate().map_err(|e| e.while_doing(doing()))?;
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
        // From what lies there now: a file that was linked may have been written to meanwhile.
        let found = folder::read(&fresh)?;
        let files: Vec<_> = found.iter().map(|(path, content)| (path.as_str(), content)).collect();
        self.manifest.files = digest::entries(&files);
        let bytes = self.manifest.to_bytes().map_err(|e| e.while_doing(doing()))?;
        let manifest = Manifest::parse(&bytes).map_err(|e| e.while_doing(doing()))?;
        write_synced(&fresh.join(MANIFEST), &bytes)?;
        if let Some(key) = key {
            let mut signed = manifest.files.clone();
            signed.push(FileEntry::of(MANIFEST, &bytes));
            let signature = signature::sign(&manifest.name, &signed, manifest.sealed.is_some(), key)?;
            write_synced(&fresh.join(SIGNATURE), &signature)?;
        }
        for (path, bytes) in &self.beside {
            write_synced(&fresh.join(path), bytes)?;
        }
        if let Some((path, _)) = found.iter().find(|(_, content)| !content.unchanged()) {
            return Err(Error::new(Code::Conflict, format!("{path:?} was written to while it was read"))
                .hint("Let nothing write to the file, then try again.")
                .while_doing(doing()));
        }
        sync_dir(&fresh)?;
        put_in_place(&fresh, dir, &staging.path().join("old"), self.replace)?;
        sync_dir(parent)?;
        Ok(manifest)
    }
}

/// Writes files to the new folder `dir` as they are, manifest and signature among them; it appears as a whole.
///
/// # Errors
/// [`Code::Conflict`] when `dir` exists; [`Code::StorageFull`] or [`Code::Io`].
pub(crate) fn write_contents<'a>(
    dir: &Path,
    files: impl Iterator<Item = (&'a str, &'a Content)>,
) -> Result<()> {
    let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(|e| Error::io("create the folder", parent, e))?;
    let staging = tempfile::Builder::new().prefix(".bundle-").tempdir_in(parent);
    let staging = staging.map_err(|e| Error::io("create a folder in", parent, e))?;
    let fresh = staging.path().join("new");
    fs::create_dir(&fresh).map_err(|e| Error::io("create the folder", &fresh, e))?;
    for (path, content) in files {
        let target = fresh.join(path);
        let folder = target.parent().unwrap_or(&fresh);
        fs::create_dir_all(folder).map_err(|e| Error::io("create the folder", folder, e))?;
        write_synced(&target, content)?;
        sync_dir(folder)?;
    }
    sync_dir(&fresh)?;
    put_in_place(&fresh, dir, &staging.path().join("old"), false)?;
    sync_dir(parent)
}

/// Writes and syncs files and the folders that hold them.
fn write_folder(root: &Path, files: &BTreeMap<String, Source>) -> Result<()> {
    let mut folders = vec![root.to_owned()];
    fs::create_dir(root).map_err(|e| Error::io("create the folder", root, e))?;
    for (path, source) in files {
        let target = root.join(path);
        let folder: PathBuf = target.parent().unwrap_or(root).to_owned();
        if !folders.contains(&folder) {
            fs::create_dir_all(&folder).map_err(|e| Error::io("create the folder", &folder, e))?;
            folders.extend(folder.ancestors().take_while(|up| *up != root).map(Path::to_owned));
        }
        match source {
            Source::Bytes(bytes) => write_synced(&target, bytes)?,
            Source::File(from) => link_or_copy(from, &target)?,
        }
    }
    folders.iter().rev().try_for_each(|folder| sync_dir(folder))
}

/// Gives the file `from` another name, or copies it where the file system does not allow that, and waits until it is
/// on disk. Links are resolved.
///
/// # Errors
/// [`Code::NotFound`], [`Code::StorageFull`] or [`Code::Io`].
pub fn link_or_copy(from: &Path, to: &Path) -> Result<()> {
    let from = from.canonicalize().map_err(|e| Error::io("open", from, e))?;
    if fs::hard_link(&from, to).is_err() {
        // Within the kernel where it can, which shares the blocks where the file system does.
        fs::copy(&from, to).map_err(|e| Error::io("copy to", to, e))?;
    }
    File::open(to).and_then(|file| file.sync_all()).map_err(|e| Error::io("write", to, e))
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
