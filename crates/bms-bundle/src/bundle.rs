//! A bundle nobody has verified yet.

use std::path::Path;
use std::sync::Arc;

use bms_wire::{Code, Error, Result, limits};

use crate::folder::{self, Files};
use crate::{FileEntry, MANIFEST, Manifest, SIGNATURE, path};

/// A bundle as it was found, in memory, not to be loaded.
///
/// The bytes were read once; [`crate::Policy::verify`] checks and hands out these very bytes.
/// Cloning is cheap: the content is shared.
#[derive(Clone)]
pub struct Bundle {
    files: Files,
}

impl Bundle {
    /// Reads a bundle from its folder.
    ///
    /// # Errors
    /// [`Code::NotFound`] when there is no such folder; [`Code::InvalidBundle`] when the manifest is
    /// missing, or there are links, special files, or paths that collide; [`Code::TooLarge`] over
    /// the limits on files and bytes.
    pub fn open(dir: &Path) -> Result<Bundle> {
        let files = folder::read(dir)
            .map_err(|e| e.while_doing(format_args!("open the bundle `{}`", dir.display())))?;
        Bundle::from_map(files)
    }

    /// A bundle from files in memory.
    ///
    /// # Errors
    /// As [`Bundle::open`].
    pub fn from_files(list: Vec<(String, Vec<u8>)>) -> Result<Bundle> {
        if limits::BUNDLE_FILES_MAX + 2 < list.len() {
            return Err(Error::new(Code::TooLarge, format!("{} files in one bundle", list.len())));
        }
        // Before the map, which would drop one of two equal names.
        path::check_set(list.iter().map(|(path, _)| path.as_str()))?;
        Bundle::from_map(list.into_iter().map(|(path, bytes)| (path, Arc::from(bytes))).collect())
    }

    fn from_map(files: Files) -> Result<Bundle> {
        let bundle = Bundle { files };
        if !bundle.files.contains_key(MANIFEST) {
            return Err(Error::new(Code::InvalidBundle, format!("there is no `{MANIFEST}`"))
                .hint("A bundle is a model folder with a manifest; `bms package` writes one."));
        }
        if limits::BUNDLE_BYTES_MAX < bundle.size_bytes() {
            return Err(Error::new(Code::TooLarge, format!("{} bytes in one bundle", bundle.size_bytes())));
        }
        Ok(bundle)
    }

    /// The manifest, as claimed: nothing vouches for it yet.
    ///
    /// # Errors
    /// [`Code::InvalidBundle`].
    pub fn manifest_unverified(&self) -> Result<Manifest> {
        Manifest::parse(self.manifest_bytes())
    }

    /// Every file with its content, the manifest and the signature included, sorted by path.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|(path, bytes)| (path.as_str(), &**bytes))
    }

    /// The version's identity: hex BLAKE3 of the manifest's bytes, which name every other file's
    /// digests. Signing does not change it.
    pub fn digest(&self) -> String {
        blake3::hash(self.manifest_bytes()).to_hex().to_string()
    }

    /// Bytes of all files.
    pub fn size_bytes(&self) -> u64 {
        self.files.values().map(|bytes| bytes.len() as u64).sum()
    }

    /// The signature's bytes.
    pub(crate) fn signature_bytes(&self) -> Option<&[u8]> {
        self.files.get(SIGNATURE).map(|bytes| &**bytes)
    }

    pub(crate) fn into_files(self) -> Files {
        self.files
    }

    fn manifest_bytes(&self) -> &[u8] {
        // Present since `from_map`, the only constructor.
        &self.files[MANIFEST]
    }

    /// Every file's digests, the costly part of every check.
    pub(crate) fn entries(&self) -> Vec<FileEntry> {
        self.files().map(|(path, bytes)| FileEntry::of(path, bytes)).collect()
    }
}

/// Compares every file, given by its digests, with the manifest, both ways.
///
/// # Errors
/// [`Code::Tampered`] naming the first file that is changed, missing or not listed.
pub(crate) fn check_digests(manifest: &Manifest, found: &[FileEntry]) -> Result<()> {
    let by_path =
        |list: &[FileEntry], path: &str| list.binary_search_by(|entry| entry.path.as_str().cmp(path));
    for listed in &manifest.files {
        let path = &listed.path;
        let at = by_path(found, path).map_err(|_| tampered(format!("{path:?} is listed but missing")))?;
        // The size first: it says most.
        if found[at].size != listed.size {
            return Err(tampered(format!("{path:?} holds {} bytes, not {}", found[at].size, listed.size)));
        }
        if found[at] != *listed {
            return Err(tampered(format!("{path:?} does not have the digest the manifest lists")));
        }
    }
    let own = |path: &str| path == MANIFEST || path == SIGNATURE;
    match found.iter().find(|file| !own(&file.path) && by_path(&manifest.files, &file.path).is_err()) {
        None => Ok(()),
        Some(file) => Err(tampered(format!("{:?} is not listed in the manifest", file.path))),
    }
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.files.iter().map(|(path, bytes)| (path, bytes.len()))).finish()
    }
}

/// The refusal for bytes that are not those that were written.
pub(crate) fn tampered(message: impl Into<String>) -> Error {
    Error::new(Code::Tampered, message)
        .hint("Fetch the bundle again from its publisher; do not use this copy.")
}
