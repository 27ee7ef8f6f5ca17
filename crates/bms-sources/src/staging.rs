//! Where files wait until all of them are there.
//!
//! ```text
//! .NAME.pulling/          beside the target, for this user only
//!   lock                  held by the one pull that works here
//!   KEY.part              what has arrived of a file
//!   KEY.tag               the version the server said it sends, kept before the first byte of it
//!   KEY.done              a whole file, verified and on disk
//!   tree/                 the result, put together of links to those
//! ```
//!
//! A key stands for a file's path and content: what has arrived of another revision is not mistaken for it.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use bms_wire::{Code, Error, Result};
use rustix::fs::{CWD, RenameFlags};

use crate::plan::{Item, Place};

/// Characters of a key.
const KEY_CHARS: usize = 32;

/// The folder, for this pull alone as long as the value lives.
#[derive(Debug)]
pub(crate) struct Staging {
    dir: PathBuf,
    _lock: File,
}

/// What stands for one file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(String);

impl Key {
    pub(crate) fn of(item: &Item) -> Key {
        let place = match &item.place {
            // A digest says what it is, wherever it lies.
            Place::Web { .. } if item.expected.digest().is_some() => String::new(),
            Place::Web { url, .. } => url.to_string(),
            Place::Local(path) => path.display().to_string(),
        };
        let digest = item.expected.digest().unwrap_or_default();
        let text = format!("{}\0{}\0{digest}\0{place}", item.path, item.expected.method());
        Key(blake3::hash(text.as_bytes()).to_hex()[..KEY_CHARS].to_owned())
    }
}

impl Staging {
    /// Takes the folder beside `target`.
    ///
    /// # Errors
    /// [`Code::Conflict`] while another pull works there, [`Code::PermissionDenied`] when it is somebody else's.
    pub(crate) fn take(target: &Path) -> Result<Staging> {
        let dir = beside(target)?;
        let parent = dir.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(|e| Error::io("make the folder", parent, e))?;
        match fs::DirBuilder::new().mode(0o700).create(&dir) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(Error::io("make the folder", &dir, e));
            }
            _ => {}
        }
        let path = dir.join("lock");
        let about = fs::symlink_metadata(&dir).map_err(|e| Error::io("open", &dir, e))?;
        let strange = || {
            let what = format!("`{}` is not a folder of this user alone", dir.display());
            Error::new(Code::PermissionDenied, what).hint("Remove it, or choose another target.")
        };
        if !about.is_dir() || about.mode() & 0o022 != 0 {
            return Err(strange());
        }
        let lock = File::create(&path).map_err(|e| Error::io("make", &path, e))?;
        let owner = lock.metadata().map_err(|e| Error::io("examine", &path, e))?.uid();
        if owner != about.uid() {
            return Err(strange());
        }
        match lock.try_lock() {
            Ok(()) => Ok(Staging { dir, _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                let what = format!("another pull works on `{}`", target.display());
                Err(Error::new(Code::Conflict, what).hint("Wait for it, or choose another target."))
            }
            Err(TryLockError::Error(e)) => Err(Error::io("lock", &path, e)),
        }
    }

    /// Where it is.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn part(&self, key: &Key) -> PathBuf {
        self.dir.join(format!("{}.part", key.0))
    }

    pub(crate) fn tag(&self, key: &Key) -> PathBuf {
        self.dir.join(format!("{}.tag", key.0))
    }

    pub(crate) fn done(&self, key: &Key) -> PathBuf {
        self.dir.join(format!("{}.done", key.0))
    }

    /// Whether the file at `path` is the one that was completed here.
    pub(crate) fn holds(&self, key: &Key, path: &Path) -> bool {
        let identity = |path: &Path| fs::symlink_metadata(path).map(|about| (about.dev(), about.ino())).ok();
        identity(path).is_some_and(|there| identity(&self.done(key)) == Some(there))
    }

    /// Removes what is of none of these files.
    pub(crate) fn sweep(&self, kept: &BTreeSet<Key>) -> Result<()> {
        for entry in fs::read_dir(&self.dir).map_err(|e| Error::io("read the folder", &self.dir, e))? {
            let path = entry.map_err(|e| Error::io("read the folder", &self.dir, e))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            let Some((key, "part" | "tag" | "done")) = name.split_once('.') else { continue };
            if !kept.contains(&Key(key.to_owned())) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// Forgets what has arrived of one file.
    pub(crate) fn forget(&self, key: &Key) -> Result<()> {
        [self.part(key), self.tag(key), self.done(key)].iter().try_for_each(|path| remove(path))
    }

    /// Puts the result together, of whole files, and gives its place: a folder, or the one file.
    pub(crate) fn assemble(&self, items: &[Item], single: bool) -> Result<PathBuf> {
        let tree = self.dir.join("tree");
        match fs::remove_dir_all(&tree) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &tree, e));
            }
            _ => {}
        }
        fs::create_dir(&tree).map_err(|e| Error::io("make the folder", &tree, e))?;
        let mut folders = BTreeSet::from([tree.clone()]);
        for item in items {
            let target = tree.join(&item.path);
            let folder = target.parent().unwrap_or(&tree);
            fs::create_dir_all(folder).map_err(|e| Error::io("make the folder", folder, e))?;
            folders.extend(folder.ancestors().take_while(|up| up.starts_with(&tree)).map(Path::to_owned));
            bms_bundle::link_or_copy(&self.done(&Key::of(item)), &target)?;
        }
        folders.iter().rev().try_for_each(|folder| sync(folder))?;
        match items {
            [item] if single => Ok(tree.join(&item.path)),
            _ => Ok(tree),
        }
    }

    /// Lets the result appear at `target`, as a whole, and removes the folder. What is there is in the way, unless it shall
    /// be replaced or is an empty folder.
    pub(crate) fn publish(self, result: &Path, target: &Path, replace: bool) -> Result<()> {
        let empty = fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_none());
        let renamed = match (empty, replace && fs::symlink_metadata(target).is_ok()) {
            (true, _) if result.is_dir() => fs::rename(result, target),
            // The old one goes where the new one was, and with it.
            (_, true) => exchange(result, target),
            _ => fresh(result, target),
        };
        renamed.map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists | std::io::ErrorKind::DirectoryNotEmpty => occupied(target),
            _ => Error::io("put in place", target, e),
        })?;
        sync(target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
        self.remove()
    }

    /// Removes the folder if nothing waits in it, or says where it is.
    pub(crate) fn leave(self) -> Option<PathBuf> {
        let waits = |entry: fs::DirEntry| entry.file_name() != "lock";
        if fs::read_dir(&self.dir).is_ok_and(|mut entries| !entries.any(|entry| entry.is_ok_and(waits))) {
            // What is left of an empty folder harms nobody.
            let _ = fs::remove_dir_all(&self.dir);
            return None;
        }
        Some(self.dir)
    }

    /// Removes the folder with all that is in it.
    pub(crate) fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.dir).map_err(|e| Error::io("remove", &self.dir, e))
    }
}

/// Renames to a name that nobody has.
fn fresh(from: &Path, to: &Path) -> std::io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        // Not every file system can: then what was looked at a moment ago has to do.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if fs::symlink_metadata(to).is_err() => {
            fs::rename(from, to)
        }
        Err(e) => Err(e.into()),
    }
}

fn exchange(from: &Path, to: &Path) -> std::io::Result<()> {
    rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE).map_err(Into::into)
}

/// That something is in the way.
pub(crate) fn occupied(target: &Path) -> Error {
    Error::new(Code::Conflict, format!("`{}` exists already, with other content", target.display()))
        .hint("Choose another target, remove this one, or replace it with --replace.")
}

fn beside(target: &Path) -> Result<PathBuf> {
    let name = target.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
        Error::new(Code::InvalidRequest, format!("`{}` does not name a target", target.display()))
            .hint("Give a path that ends in a name.")
    })?;
    Ok(target.with_file_name(format!(".{name}.pulling")))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path, e)),
        _ => Ok(()),
    }
}

/// Waits until the names in a folder are on disk.
pub(crate) fn sync(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|file| file.sync_all()).map_err(|e| Error::io("sync the folder", dir, e))
}
