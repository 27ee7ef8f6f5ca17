//! A version as a folder on the local disk, for a slot process to load.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bms_wire::api::FileRef;
use bms_wire::{Code, Error, Result};
use tokio::io::AsyncWriteExt;

use crate::Registry;
use crate::audit::sync_folder;
use crate::store::blocking;

/// Files from this many bytes on are linked instead of copied.
const LINKED_FROM: u64 = 8 << 20;

impl Registry {
    /// Writes the version's files to a folder inside `into` and returns that folder. It is named by the
    /// version's digest and appears in one step, complete and flushed. One that is there already and
    /// whole is used as it is; one that is not is written again. One process at a time may use `into`.
    ///
    /// # Errors
    /// [`Code::ModelNotFound`], [`Code::VersionNotFound`]; [`Code::Tampered`] when a stored file rotted;
    /// [`Code::StorageFull`].
    pub async fn materialise(&self, model: &str, version: u64, into: &Path) -> Result<PathBuf> {
        let version = self.version(model, version).await?;
        let folder = into.join(&version.digest);
        let staged = into.join(format!("{}.new", version.digest));
        // Two calls for one version would write the same staged folder.
        let _turn = self.materialising.lock().await;
        if intact(&folder, &version.files).await? {
            return Ok(folder);
        }
        remove_folder(&staged).await?;
        for file in &version.files {
            match self.write_file(&staged, file).await {
                Err(error) if error.code() == Code::Tampered => {
                    return Err(self.discard(&file.blake3, error).await?);
                }
                written => written?,
            }
        }
        remove_folder(&folder).await?;
        let (paths, place) = (version.files, folder.clone());
        blocking(move || {
            for dir in folders(&staged, &paths) {
                sync_folder(&dir)?;
            }
            fs::rename(&staged, &place).map_err(|e| Error::io("put in place", &place, e))?;
            place.parent().map_or(Ok(()), sync_folder)
        })
        .await?;
        Ok(folder)
    }

    async fn write_file(&self, folder: &Path, file: &FileRef) -> Result<()> {
        // The gate checked this when the version was made; the database may have been edited since.
        bms_bundle::check_path(&file.path)?;
        let path = folder.join(&file.path);
        if let Some(parent) = path.parent() {
            tokio::fs::create_dir_all(parent).await.map_err(|e| Error::io("make the folder", parent, e))?;
        }
        if LINKED_FROM <= file.size {
            return self.link_file(path, file).await;
        }
        let mut reader = self.store.reader(&file.blake3).await?;
        let mut out = tokio::fs::File::create_new(&path).await.map_err(|e| Error::io("make", &path, e))?;
        while let Some(part) = reader.next().await? {
            out.write_all(&part).await.map_err(|e| Error::io("write", &path, e))?;
        }
        out.sync_all().await.map_err(|e| Error::io("flush", &path, e))
    }

    /// Gives a large file that was put together a second name, where the file system has those: then a loaded version takes no
    /// further room. It is made read-only, since both names are one file.
    async fn link_file(&self, path: PathBuf, file: &FileRef) -> Result<()> {
        // Checked before it is handed on: a rotten file is the store's fault, not the version's.
        let stored = self.store.assemble(&file.blake3).await?;
        blocking(move || {
            let read_only = || {
                let mut permissions = fs::metadata(&stored)?.permissions();
                permissions.set_readonly(true);
                fs::set_permissions(&stored, permissions)
            };
            read_only().map_err(|e| Error::io("make read-only", &stored, e))?;
            bms_bundle::link_or_copy(&stored, &path)
        })
        .await
    }
}

/// Whether `folder` holds exactly these files.
async fn intact(folder: &Path, files: &[FileRef]) -> Result<bool> {
    let (folder, files) = (folder.to_owned(), files.to_vec());
    blocking(move || {
        if !folder.is_dir() {
            return Ok(false);
        }
        let mut found = Vec::new();
        list(&folder, &mut found)?;
        if found.len() != files.len() {
            return Ok(false);
        }
        Ok(files.iter().all(|file| holds(&folder.join(&file.path), file)))
    })
    .await
}

/// Whether the file at `path` is a plain file with the content of `file`. One that cannot be read is not.
fn holds(path: &Path, file: &FileRef) -> bool {
    let Ok(meta) = fs::symlink_metadata(path) else { return false };
    if !meta.is_file() || meta.len() != file.size {
        return false;
    }
    let hash = || {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(fs::File::open(path)?)?;
        std::io::Result::Ok(hasher.finalize())
    };
    hash().is_ok_and(|hash| hash.to_hex().as_str() == file.blake3)
}

/// Everything below `dir` that is no folder.
fn list(dir: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(|e| Error::io("list", dir, e))? {
        let entry = entry.map_err(|e| Error::io("list", dir, e))?;
        let kind = entry.file_type().map_err(|e| Error::io("examine", &entry.path(), e))?;
        match kind.is_dir() {
            true => list(&entry.path(), found)?,
            false => found.push(entry.path()),
        }
    }
    Ok(())
}

/// The folders that hold `files`, `root` among them.
fn folders(root: &Path, files: &[FileRef]) -> BTreeSet<PathBuf> {
    let mut dirs = BTreeSet::from([root.to_owned()]);
    for file in files {
        let mut dir = Path::new(&file.path).parent();
        while let Some(inner) = dir.filter(|dir| !dir.as_os_str().is_empty()) {
            dirs.insert(root.join(inner));
            dir = inner.parent();
        }
    }
    dirs
}

async fn remove_folder(dir: &Path) -> Result<()> {
    match tokio::fs::remove_dir_all(dir).await {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("remove", dir, e)),
        _ => Ok(()),
    }
}
