//! Fetching a version: file by file, each verified, what is there already not fetched again; of a large file not even the chunks
//! that an installed version has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use bms_store::{Recipe, unframe};
use bms_wire::api::{FileRef, Version, VersionRef};
use bms_wire::client::Client;
use bms_wire::{Code, Error, Result, limits};

use crate::durable;

/// Files from this size on are fetched as chunks.
const CHUNKED_FROM: u64 = 1 << 20;
/// Bytes read at a time.
const PIECE: usize = 256 << 10;

/// Where a version comes from and goes to.
pub(crate) struct Pull<'a> {
    pub(crate) client: &'a Client,
    pub(crate) model: &'a str,
    /// Folder of downloads.
    pub(crate) into: &'a Path,
    /// Folders of bundles whose files may be used again.
    pub(crate) known: &'a [PathBuf],
    /// Whether it is still worth going on.
    pub(crate) wanted: &'a dyn Fn() -> bool,
}

impl Pull<'_> {
    /// Fetches a version into a folder and returns that. Files an earlier attempt completed are not
    /// fetched again, nor are those an installed version has. Nothing is vouched for yet but that the
    /// files are those the centre names.
    ///
    /// # Errors
    /// What the centre answers; [`Code::Tampered`] when it sends something else than it named;
    /// [`Code::Unavailable`] when not wanted any more; [`Code::StorageFull`], [`Code::Io`].
    pub(crate) fn fetch(&self, desired: &VersionRef) -> Result<PathBuf> {
        check_digest(&desired.digest)?;
        let version = self.client.version(self.model, &desired.version.to_string())?;
        check(&version, desired)?;
        let files = self.into.join(&desired.digest);
        self.forget_others(&desired.digest)?;
        durable::make_folder(&files)?;
        let known = self.known_files(&version.files);
        for file in &version.files {
            self.obtain(&files, file, &known)?;
        }
        let staged = self.into.join(format!("{}.bundle", desired.digest));
        assemble(&files, &staged, &version.files)?;
        Ok(staged)
    }

    /// Removes downloads of versions that are not desired any more.
    fn forget_others(&self, digest: &str) -> Result<()> {
        durable::make_folder(self.into)?;
        for entry in fs::read_dir(self.into).map_err(|e| Error::io("list", self.into, e))? {
            let entry = entry.map_err(|e| Error::io("list", self.into, e))?;
            if entry.file_name() != digest {
                durable::remove_folder(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Files of installed bundles by what their size and place make likely to be the same.
    fn known_files(&self, files: &[FileRef]) -> BTreeMap<String, PathBuf> {
        let candidates =
            files.iter().flat_map(|file| self.known.iter().map(move |dir| (file, dir.join(&file.path))));
        let same = |(file, path): &(&FileRef, PathBuf)| holds(path, file);
        candidates.filter(same).map(|(file, path)| (file.blake3.clone(), path)).collect()
    }

    /// Makes sure that the file is in `dir`, under its digest.
    fn obtain(&self, dir: &Path, file: &FileRef, known: &BTreeMap<String, PathBuf>) -> Result<()> {
        let path = dir.join(&file.blake3);
        if holds(&path, file) {
            return Ok(());
        }
        let part = dir.join(format!("{}.part", file.blake3));
        match known.get(&file.blake3) {
            Some(known) => {
                let source = File::open(known).map_err(|e| Error::io("open", known, e))?;
                self.receive(source, &part, file)?;
            }
            None if self.receive_chunks(file, &path)? => return Ok(()),
            None => self.receive(self.client.get_blob(&file.blake3)?, &part, file)?,
        }
        durable::rename(&part, &path)
    }

    /// Fetches a large file as the chunks that neither an earlier attempt nor an installed bundle has. `false` when it is small, or
    /// the centre knows no chunks of it.
    fn receive_chunks(&self, file: &FileRef, path: &Path) -> Result<bool> {
        if file.size < CHUNKED_FROM {
            return Ok(false);
        }
        let Some(recipe) = self.client.get_recipe(&file.blake3)? else { return Ok(false) };
        let recipe = Recipe::read(&recipe)?;
        if recipe.digest.to_string() != file.blake3 || recipe.size != file.size {
            let message = format!("the centre sent the chunks of another file than `{}`", file.path);
            return Err(Error::new(Code::Tampered, message));
        }
        let like: Vec<PathBuf> = self.known.iter().map(|dir| dir.join(&file.path)).collect();
        let fetched = bms_store::assemble(&recipe, path, &like, |chunks| {
            if !(self.wanted)() {
                return Err(Error::new(Code::Unavailable, "the version is not wanted any more"));
            }
            unframe(self.client.get_chunks(chunks.iter().map(|chunk| chunk.id.to_string()).collect())?.into())
        })?;
        tracing::info!(
            file = file.path,
            bytes = fetched.bytes,
            bytes_moved = fetched.bytes_moved,
            "fetched the chunks that were not here"
        );
        Ok(true)
    }

    /// Writes what `source` gives to `part`, flushed, and checks that it is the file.
    fn receive(&self, mut source: impl Read, part: &Path, file: &FileRef) -> Result<()> {
        let cannot = |e| Error::io("write", part, e);
        let mut out = File::create(part).map_err(cannot)?;
        let mut hasher = blake3::Hasher::new();
        let (mut size, mut piece) = (0u64, vec![0; PIECE]);
        loop {
            if !(self.wanted)() {
                return Err(Error::new(Code::Unavailable, "the version is not wanted any more"));
            }
            let read = source.read(&mut piece).map_err(|e| {
                Error::new(Code::Unavailable, format!("the transfer of `{}` broke off: {e}", file.path))
                    .because(e)
            })?;
            size += read as u64;
            if read == 0 || file.size < size {
                break;
            }
            hasher.update(&piece[..read]);
            out.write_all(&piece[..read]).map_err(cannot)?;
        }
        if size != file.size || hasher.finalize().to_hex().as_str() != file.blake3 {
            let message = format!("the centre sent other bytes for `{}` than it named", file.path);
            return Err(Error::new(Code::Tampered, message));
        }
        out.sync_all().map_err(cannot)
    }
}

/// Removes what is left in the folder of downloads of pulling a version, done or refused.
pub(crate) fn discard(downloads: &Path, digest: &str) -> Result<()> {
    durable::remove_folder(&downloads.join(digest))?;
    durable::remove_folder(&downloads.join(format!("{digest}.bundle")))
}

/// Puts the files, which lie under their digests, into a folder under their paths.
fn assemble(files: &Path, staged: &Path, list: &[FileRef]) -> Result<()> {
    durable::remove_folder(staged)?;
    let mut folders = BTreeSet::from([staged.to_owned()]);
    durable::make_folder(staged)?;
    for file in list {
        let path = staged.join(&file.path);
        if let Some(parent) = path.parent() {
            durable::make_folder(parent)?;
            folders.extend(parent.ancestors().take_while(|dir| dir.starts_with(staged)).map(Path::to_owned));
        }
        let from = files.join(&file.blake3);
        // A second name where the file system has them, else a copy.
        let placed = fs::hard_link(&from, &path).or_else(|_| {
            fs::copy(&from, &path)?;
            File::open(&path)?.sync_all()
        });
        placed.map_err(|e| Error::io("write", &path, e))?;
    }
    folders.iter().try_for_each(|dir| durable::sync_folder(dir))
}

/// Whether the plain file at `path` has the content of `file`.
fn holds(path: &Path, file: &FileRef) -> bool {
    let plain = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() == file.size);
    let hash = || {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(path)?)?;
        std::io::Result::Ok(hasher.finalize())
    };
    plain && hash().is_ok_and(|hash| hash.to_hex().as_str() == file.blake3)
}

/// Whether what the centre says of the version can be believed so far.
fn check(version: &Version, desired: &VersionRef) -> Result<()> {
    if version.digest != desired.digest || version.version != desired.version {
        let message = format!("version {} is {}, not {}", version.version, version.digest, desired.digest);
        return Err(Error::new(Code::Tampered, message));
    }
    if version.files.is_empty() || limits::BUNDLE_FILES_MAX + 2 < version.files.len() {
        let message = format!("{} files in one version", version.files.len());
        return Err(Error::new(Code::InvalidBundle, message));
    }
    let mut bytes = 0u64;
    let mut paths = BTreeSet::new();
    for file in &version.files {
        bms_bundle::check_path(&file.path)?;
        check_digest(&file.blake3)?;
        if !paths.insert(&file.path) {
            return Err(Error::new(Code::InvalidBundle, format!("two files are called {:?}", file.path)));
        }
        bytes = bytes.saturating_add(file.size);
        if limits::BLOB_BYTES_MAX < file.size || limits::BUNDLE_BYTES_MAX < bytes {
            return Err(Error::new(Code::TooLarge, format!("{bytes} bytes and more in one version")));
        }
    }
    Ok(())
}

/// A digest becomes part of a path: 64 lower-case hex digits and nothing else.
fn check_digest(digest: &str) -> Result<()> {
    let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    match digest.len() == 64 && digest.bytes().all(hex) {
        true => Ok(()),
        false => Err(Error::new(Code::InvalidBundle, format!("{digest:?} is not a digest"))),
    }
}
