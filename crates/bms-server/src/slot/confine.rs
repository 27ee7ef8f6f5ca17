//! Confining a slot: before anything of the model is read, with what its options name and nothing else.

use std::ffi::OsStr;
use std::io::stdin;
use std::os::fd::AsFd;
use std::path::Path;

use bms_bundle::{Policy, Verified};
use bms_sandbox::{Confinement, Enforced};
use bms_wire::{Code, Error, Result};

use super::{CONNECTIONS_MAX, Options};
use crate::slots::Place;

/// File descriptors beside those of connections: libraries while they load, the model's files, the runtime's own.
const OTHER_FILES: u64 = 256;
/// Folders inside the folder of a model that is no bundle, whose links are followed.
const LINK_DEPTH: usize = 1;
/// How the files of ONNX Runtime begin; those beside the library are its parts.
const RUNTIME_FILES: &str = "libonnxruntime";

/// Confines this process for good.
///
/// # Errors
/// [`Code::NotFound`] or [`Code::Io`] for what the options name and is not there, [`Code::Internal`] when the kernel
/// refuses what it says it supports.
pub(super) fn enter(options: &Options) -> Result<Enforced> {
    let confinement = confinement(options)?;
    let stdin = stdin();
    bms_sandbox::enter(&confinement, options.watched.then(|| stdin.as_fd()))
}

fn confinement(options: &Options) -> Result<Confinement> {
    let mut confinement = Confinement::new(CONNECTIONS_MAX as u64 + OTHER_FILES);
    match &options.place {
        Place::Bundle(folder) => confinement.read(folder)?,
        Place::Bare { path, .. } => read_bare(&mut confinement, path)?,
    }
    if let Some(folder) = &options.language.adapters {
        confinement.read(folder)?;
    }
    if let Some(draft) = &options.language.draft {
        read_bare(&mut confinement, draft)?;
    }
    let libraries = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    for folder in std::env::split_paths(&libraries).filter(|folder| folder.is_absolute()) {
        confinement.read_if_there(&folder);
    }
    if let Some(library) = bms_nn::onnx::library_file() {
        read_library(&mut confinement, library);
    }
    Ok(confinement)
}

/// A file, or a folder with what its links name: models that were downloaded are folders of links.
fn read_bare(confinement: &mut Confinement, path: &Path) -> Result<()> {
    confinement.read(path)?;
    let mut folders = vec![(path.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_symlink() && path.is_file() => confinement.read_if_there(&path),
                Ok(kind) if kind.is_dir() && depth < LINK_DEPTH => folders.push((path, depth + 1)),
                _ => {}
            }
        }
    }
    Ok(())
}

/// A library, and its parts beside it.
fn read_library(confinement: &mut Confinement, library: &Path) {
    confinement.read_if_there(library);
    let folder = library.parent().unwrap_or(library);
    let is_part = |name: &OsStr| name.to_string_lossy().starts_with(RUNTIME_FILES);
    let beside = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for part in beside.filter(|entry| is_part(&entry.file_name())) {
        confinement.read_if_there(&part.path());
    }
}

/// Refuses a model of a format that the policy wants confined in a process that is not.
pub(super) fn check(verified: &Verified, policy: &Policy, enforced: &Enforced) -> Result<()> {
    let format = verified.model_format();
    if enforced.is_confined() || !policy.confine.contains(&format) {
        return Ok(());
    }
    let what = format!(
        "`{}` is {format}, which is only loaded in a confined process, and this one is not: {}",
        verified.manifest().name,
        enforced.missing()
    );
    Err(Error::new(Code::FormatDenied, what).hint(
        "`bms doctor` says what this machine enforces; `confine` in the policy says which formats need it.",
    ))
}

#[cfg(test)]
mod tests;
