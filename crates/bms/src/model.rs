//! What a path on the command line names: a bundle, or a language model as it is published.

use std::path::Path;

use bms_bundle::{Bundle, MANIFEST, Policy, Verified};
use bms_server::Place;
use bms_wire::{Error, Result};

use crate::output::Output;

/// Opens the model at `path`; `name` instead of the one its file suggests, where it is no bundle. Nothing vouches for
/// it yet.
///
/// # Errors
/// As [`Bundle::open`] and [`Bundle::of_model`].
pub(crate) fn open(path: &Path, name: Option<&str>) -> Result<Bundle> {
    match is_bundle(path) {
        true => Bundle::open(path),
        false => Bundle::of_model(path, name),
    }
}

/// Takes the model at `path` through the gate, and says so when nobody has signed it.
///
/// # Errors
/// As [`open`], and the gate's refusal.
pub(crate) fn verified(
    path: &Path,
    name: Option<&str>,
    policy: &Policy,
    output: &Output,
) -> Result<Verified> {
    let bundle = open(path, name)?;
    let is_bare = bundle.is_bare();
    let verified = policy.verify(bundle).map_err(|rejected| {
        Error::from(rejected).while_doing(format_args!("load the model `{}`", path.display()))
    })?;
    if is_bare {
        warn_unsigned(path, output);
    }
    Ok(verified)
}

/// Where a slot finds the model at `path`.
///
/// # Errors
/// As [`open`].
pub(crate) fn place(path: &Path, name: Option<&str>) -> Result<Place> {
    if is_bundle(path) {
        return Ok(Place::Bundle(path.to_owned()));
    }
    let name = Bundle::of_model(path, name)?.manifest_unverified()?.name;
    Ok(Place::Bare { path: path.to_owned(), name })
}

/// Says that nobody vouches for a model.
pub(crate) fn warn_unsigned(path: &Path, output: &Output) {
    let path = path.display();
    output.warning(format_args!(
        "`{path}` is not signed; it is scanned, but nobody vouches for it (`bms package` signs)"
    ));
}

fn is_bundle(path: &Path) -> bool {
    // A file is a model by itself; a folder without a manifest is told from a broken bundle by what it says when opened.
    path.join(MANIFEST).is_file()
}
