//! A bundle nobody has verified yet.

use std::path::Path;

use bms_wire::{Code, Error, Result, limits};

use crate::folder::{self, Files};
use crate::seal::{ENVELOPE, SEALED, SealInfo};
use crate::{APPROVALS, Content, FileEntry, MANIFEST, Manifest, SIGNATURE, approvals, bare, digest, path};

/// A bundle as it was found, not to be loaded.
///
/// Small files were read, large ones are mapped; [`crate::Policy::verify`] checks and hands out these very
/// contents. Cloning is cheap: they are shared.
#[derive(Clone)]
pub struct Bundle {
    files: Files,
    /// What stands in for the manifest of a model that has none.
    bare: Option<Box<Bare>>,
}

/// A model as it was published elsewhere: nothing lists its files, so there are no digests to compare.
#[derive(Clone)]
pub(crate) struct Bare {
    pub(crate) manifest: Manifest,
    /// Tells one state of the files from another by their names, sizes and times.
    pub(crate) digest: String,
}

impl Bundle {
    /// Opens a bundle in its folder.
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
        Bundle::from_map(list.into_iter().map(|(path, bytes)| (path, Content::from(bytes))).collect())
    }

    /// A bundle from contents that lie somewhere.
    ///
    /// # Errors
    /// As [`Bundle::open`].
    pub fn from_contents(list: Vec<(String, Content)>) -> Result<Bundle> {
        if limits::BUNDLE_FILES_MAX + 2 < list.len() {
            return Err(Error::new(Code::TooLarge, format!("{} files in one bundle", list.len())));
        }
        path::check_set(list.iter().map(|(path, _)| path.as_str()))?;
        Bundle::from_map(list.into_iter().collect())
    }

    /// A language model as it is published: a GGUF file, or a folder with `config.json` and safetensors. The files
    /// are mapped where they lie, and of a folder only those that make up the model. The manifest is made up from
    /// what the model says of itself and lists no digests, so none are computed.
    ///
    /// Such a bundle passes a policy that admits bare models, and only when the scan finds nothing.
    ///
    /// # Errors
    /// [`Code::NotFound`]; [`Code::InvalidInput`] when it is neither of the two; [`Code::TooLarge`].
    pub fn of_model(path: &Path, name: Option<&str>) -> Result<Bundle> {
        let opened = bare::open(path, name)
            .map_err(|e| e.while_doing(format_args!("open the model `{}`", path.display())))?;
        let bundle = Bundle { files: opened.files, bare: Some(Box::new(opened.bare)) };
        bundle.check_size()?;
        Ok(bundle)
    }

    fn from_map(files: Files) -> Result<Bundle> {
        let bundle = Bundle { files, bare: None };
        if !bundle.files.contains_key(MANIFEST) {
            return Err(Error::new(Code::InvalidBundle, format!("there is no `{MANIFEST}`"))
                .hint("A bundle is a model folder with a manifest; `bms package` writes one."));
        }
        bundle.check_size()?;
        Ok(bundle)
    }

    fn check_size(&self) -> Result<()> {
        match self.size_bytes() {
            size if limits::BUNDLE_BYTES_MAX < size => {
                Err(Error::new(Code::TooLarge, format!("{size} bytes in one bundle")))
            }
            _ => Ok(()),
        }
    }

    /// Whether it is a model without a manifest of its own, see [`Bundle::of_model`].
    pub fn is_bare(&self) -> bool {
        self.bare.is_some()
    }

    /// The manifest, as claimed: nothing vouches for it yet.
    ///
    /// # Errors
    /// [`Code::InvalidBundle`].
    pub fn manifest_unverified(&self) -> Result<Manifest> {
        match &self.bare {
            Some(bare) => Ok(bare.manifest.clone()),
            None => Manifest::parse(self.manifest_bytes()),
        }
    }

    /// What the manifest says of its seal, as claimed; `None` when the files lie in plain.
    pub fn seal_unverified(&self) -> Option<SealInfo> {
        self.manifest_unverified().ok().and_then(|manifest| manifest.sealed)
    }

    /// The encrypted files.
    pub(crate) fn sealed_content(&self) -> Option<&Content> {
        self.files.get(SEALED)
    }

    /// The bytes of the envelope.
    pub(crate) fn envelope_bytes(&self) -> Option<&[u8]> {
        self.files.get(ENVELOPE).map(|bytes| &**bytes)
    }

    /// Every file with its content, the manifest and the signature included, sorted by path.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|(path, bytes)| (path.as_str(), &**bytes))
    }

    /// As [`Bundle::files`], with contents that can be kept.
    pub fn contents(&self) -> impl Iterator<Item = (&str, &Content)> {
        self.files.iter().map(|(path, content)| (path.as_str(), content))
    }

    /// The version's identity: hex BLAKE3 of the manifest's bytes, which name every other file's
    /// digests. Signing does not change it. A bare model's tells its files by name, size and time only.
    pub fn digest(&self) -> String {
        match &self.bare {
            Some(bare) => bare.digest.clone(),
            None => blake3::hash(self.manifest_bytes()).to_hex().to_string(),
        }
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
        // Present since `from_map`, the only way to a bundle that is not bare.
        &self.files[MANIFEST]
    }

    /// Every file's digests, the costly part of every check.
    pub(crate) fn entries(&self) -> Vec<FileEntry> {
        digest::entries(&self.contents().collect::<Vec<_>>())
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
    let sealed = manifest.sealed.is_some();
    let own = |path: &str| path == MANIFEST || is_beside(path, sealed);
    match found.iter().find(|file| !own(&file.path) && by_path(&manifest.files, &file.path).is_err()) {
        None => Ok(()),
        Some(file) => Err(tampered(format!("{:?} is not listed in the manifest", file.path))),
    }
}

/// Whether a file stands beside the signed ones: the signature itself, approvals, and a sealed bundle's envelope. Each
/// is checked for itself, none is part of the bundle's identity.
pub(crate) fn is_beside(path: &str, sealed: bool) -> bool {
    path == SIGNATURE || approvals::is_approval(path) || (sealed && path == ENVELOPE)
}

/// Whether the file of a published version may be replaced: approvals are added, and a sealed bundle's envelope is
/// changed, without the version becoming another.
pub fn is_replaceable(path: &str, sealed: bool) -> bool {
    path != SIGNATURE && is_beside(path, sealed)
}

/// Whether no file of a model can have this name.
pub(crate) fn is_reserved(path: &str) -> bool {
    let first = path.split('/').next().unwrap_or(path);
    [MANIFEST, SIGNATURE, APPROVALS].iter().any(|name| first.eq_ignore_ascii_case(name))
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
